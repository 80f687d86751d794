"""What every store must do, as tests: subclass ``StoreContract`` in a test file of your store.

::

    from rxstream.testing.store_contract import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def open_store(self, tmp_path):
            return lambda: MyStore(tmp_path / "data")

Needs pytest. Every case gets a store of its own. Cases that damage what is stored are skipped
unless ``corrupt_version`` and ``corrupt_record`` are implemented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from . import _store_samples  # noqa: F401  first: it prepares the modules of cases for pytest
from ._store_commits import Commits
from ._store_logs import Logs
from ._store_names import Lifecycle, Names
from ._store_versions import Integrity, Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..store import Store

__all__ = ["StoreContract"]


class StoreContract(Versions, Commits, Integrity, Names, Lifecycle, Logs):
    """The cases, and the hooks that a store's test class provides."""

    persistent: ClassVar[bool] = True
    """False: every opened store is a new, empty one, and cases that open it again are skipped."""

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
        if not self.persistent:
            pytest.skip("this store does not outlive its process")
        return open_store

    def corrupt_version(
        self, store: Store, key: str, version: int, change: Callable[[bytes], bytes]
    ) -> None:
        """Replace the stored bytes of a version by ``change(bytes)``, behind the store's back."""
        pytest.skip("corrupt_version is not implemented for this store")

    def corrupt_record(
        self, store: Store, key: str, seq: int, change: Callable[[bytes], bytes]
    ) -> None:
        """Replace the stored bytes of a log record by ``change(bytes)``."""
        pytest.skip("corrupt_record is not implemented for this store")
