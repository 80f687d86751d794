"""How long the long tests take: a short profile for every run, a long one for a release.

``RXSTREAM_TESTS=long`` selects the long one; it takes about ten minutes on two cores::

    RXSTREAM_TESTS=long make test ARGS="tests/rxstream/test_engine_properties.py \\
        tests/rxstream/test_races.py tests/mutants"
"""

from __future__ import annotations

import os

LONG = os.environ.get("RXSTREAM_TESTS", "short") == "long"


def budget(short: int, long: int) -> int:
    """How many examples, seeds or interactions this run can afford."""
    return long if LONG else short
