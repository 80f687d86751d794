"""The rules of Reactive Streams that apply to us, each as a test named by its number.

A test named ``test_rule_103_...`` is rule 1.03. A publisher is a stream, a subscription is a cursor
and its disposable or iterator, ``request(n)`` is the free room of a ``block`` reader or one read of
an iterator, processors are ``bounded`` and ``interact``. Rules 2.03, 2.07, 2.12, 3.01 and 3.08 are
about an explicit request object, which does not exist here.
"""
