"""How long the long tests take: a short profile for every run, a long one for a release.

``RXSTREAM_TESTS=long`` selects the long one, which takes about three minutes on two cores::

    RXSTREAM_TESTS=long make test ARGS="tests/rxstream/test_engine_properties.py \\
        tests/rxstream/test_races.py tests/rxstream/test_bystanders.py"

That is 6,000 random programs of up to 50 steps, 300 seeds of four threads with 25 interactions
each, of cancel against stop, and of closing, and 50,000 interactions with bad subscribers.

For stores it is about ten minutes more, and needs the servers that the short one needs::

    RXSTREAM_TESTS=long make test ARGS="tests/adapters/test_stores.py \\
        tests/adapters/test_store_crash.py tests/adapters/test_store_damage.py \\
        tests/adapters/test_replay.py tests/fuzz"

That is the contract for every store behind every wrapper; 200 kills of a writer to each store; 4
processes of 8 threads that win 32 versions each; 256 flipped bits in each store; 1,000
interactions replayed after a kill and in a copy; 1,000,000 hostile inputs.
"""

from __future__ import annotations

import os

LONG = os.environ.get("RXSTREAM_TESTS", "short") == "long"


def budget(short: int, long: int) -> int:
    """How many examples, seeds or interactions this run can afford."""
    return long if LONG else short
