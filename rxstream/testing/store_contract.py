"""What every store must do, as tests: subclass ``StoreContract`` in a test file of your store.

::

    from rxstream.testing.store_contract import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def open_store(self, tmp_path):
            return lambda: MyStore(tmp_path / "data")

Needs pytest. Every case gets a store of its own. Cases that damage what is stored, or set the clock
forward, are skipped unless the hooks for that are implemented, as they are for a ``BaseStore``.

A store that opens by address is tested without a file::

    pytest --pyargs rxstream.testing.store_contract --store=sqlite:////tmp/test.db

Every case has an address of its own, beside the one that is given, which is not touched: another
file, folder, prefix or schema, erased afterwards. For stores of others write ``{case}`` where a
name may be, ``--store 'mine://host/{case}'``.
"""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ..stores import open_store
from ..stores.base import BaseStore
from ..stores.wrapper import StoreWrapper
from . import _store_samples  # noqa: F401  first: it prepares the modules of cases for pytest
from ._store_branches import Branches, Pruning
from ._store_commits import Commits
from ._store_logs import Logs
from ._store_names import Lifecycle, Names
from ._store_times import Lifetimes, Requests
from ._store_versions import Integrity, Versions
from ._store_watching import Capabilities, Trimming, Watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..store import Store
    from ..stores.rows import Rows

__all__ = ["StoreContract"]


class StoreContract(
    Versions,
    Commits,
    Integrity,
    Branches,
    Pruning,
    Lifetimes,
    Requests,
    Trimming,
    Watching,
    Names,
    Lifecycle,
    Logs,
    Capabilities,
):
    """The cases, and the hooks that a store's test class provides."""

    @pytest.fixture
    def open_store(self) -> Callable[[], Store]:
        """A function that opens the store under test; each call opens the same data again."""
        raise NotImplementedError("override the fixture open_store in your test class")

    @pytest.fixture
    def store(self, open_store: Callable[[], Store]) -> Iterator[Store]:
        """The store under test, open and empty."""
        opened = open_store()
        yield opened
        opened.close()

    @pytest.fixture
    def reopen(self, open_store: Callable[[], Store]) -> Callable[[], Store]:
        """``open_store``, for cases that need the data to outlive a store."""
        with closing(open_store()) as opened:
            if "persistent" not in opened.capabilities:
                pytest.skip("this store does not outlive its process")
        return open_store

    def corrupt_version(
        self, store: Store, key: str, version: int, change: Callable[[bytes], bytes]
    ) -> None:
        """Replace the stored bytes of a version by ``change(bytes)``, behind the store's back."""
        store = behind(store, "corrupt_version")

        def work(rows: Rows) -> None:
            info, packed = rows.info(version), rows.packed(version)
            assert info is not None and packed is not None
            rows.add(version, info, change(packed))

        store._write(key, work)

    def corrupt_record(
        self, store: Store, key: str, seq: int, change: Callable[[bytes], bytes]
    ) -> None:
        """Replace the stored bytes of a log record by ``change(bytes)``."""
        store = behind(store, "corrupt_record")

        def work(rows: Rows) -> None:
            ((_, record),) = rows.records(seq, 1)
            rows.put(seq, record._replace(payload=change(record.payload)))

        store._write(key, work)

    def pass_time(self, store: Store, seconds: float) -> None:
        """Set the store's clock forward."""
        behind(store, "pass_time")._skew += seconds


class TestStoreAtAddress(StoreContract):
    """The store that ``--store`` names."""

    @pytest.fixture
    def open_store(self, request: pytest.FixtureRequest) -> Iterator[Callable[[], Store]]:
        url = request.config.getoption("--store", default=None)
        if url is None:
            pytest.fail("name the store to test: --store URL", pytrace=False)
        address = apart(url, f"c{secrets.token_hex(8)}")
        yield lambda: open_store(address)
        used = open_store(address)
        getattr(used, "erase", used.close)()


def apart(url: str, case: str) -> str:
    """An address beside ``url``, for one case."""
    if "{case}" in url or url == "memory:":
        return url.replace("{case}", case)
    address, _, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    if option := {"redis": "prefix", "rediss": "prefix", "postgresql": "schema"}.get(scheme):
        return f"{address}?{query}{'&' if query else ''}{option}={case}"
    if scheme in ("sqlite", "dir", "s3") and rest.strip("/"):
        between = "-" if "/" in rest.rstrip("/") else "/"
        return f"{address.rstrip('/')}{between}{case}{'?' if query else ''}{query}"
    pytest.fail(
        f"--store {url} would be one store for all cases; put {{case}} where a name may be",
        pytrace=False,
    )


def behind(store: Store, hook: str) -> BaseStore:
    """The store that keeps the data of our own ones, wrapped or not."""
    while isinstance(store, StoreWrapper):
        store = store.inner
    if not isinstance(store, BaseStore):
        pytest.skip(f"{hook} is not implemented for this store")
    return store
