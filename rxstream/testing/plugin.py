"""A plugin for pytest, known to it by entry point: the option with which to test a store.

``pytest --pyargs rxstream.testing.store_contract --store URL``. Every run of pytest in an
environment with rxstream loads this file, so it does nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that names the store."""
    parser.addoption(
        "--store",
        metavar="URL",
        help="address of the store to test, as in sqlite:////tmp/test.db; every case uses another "
        "one beside it. {case} in it says where a name may be",
    )
