"""Our stores keep the store contract, on their own and behind wrappers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adapters.stores.encrypted import EncryptedStore
from adapters.stores.keyring import Keyring
from rxstream.stores.cached import CachedStore
from rxstream.stores.memory import MemoryStore
from rxstream.stores.metered import MeteredStore
from rxstream.stores.transient import TransientStore
from rxstream.testing.chaos import ChaosStore
from rxstream.testing.store_contract import StoreContract

from ..profiles import LONG
from .store_kinds import KINDS, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rxstream.store import Store

KEYS = Keyring({"k1": bytes(range(32))}, "k1")
WRAPPED = KINDS if LONG else ["memory", "sqlite", "redis"]
"""Behind the wrappers one of each sort is enough for every day; the long profile has them all."""


class AnyStore(StoreContract):
    @pytest.fixture
    def open_store(
        self, kind: str, request: pytest.FixtureRequest
    ) -> Iterator[Callable[[], Store]]:
        with place(kind, request) as opened:
            yield lambda: self.wrap(opened())

    def wrap(self, store: Store) -> Store:
        return store


@pytest.mark.parametrize("kind", KINDS, scope="class")
class TestStore(AnyStore):
    pass


@pytest.mark.parametrize("kind", WRAPPED, scope="class")
class TestEncryptedStore(AnyStore):
    def wrap(self, store: Store) -> Store:
        return EncryptedStore(store, KEYS)


@pytest.mark.parametrize("kind", WRAPPED, scope="class")
class TestCachedStore(AnyStore):
    def wrap(self, store: Store) -> Store:
        return CachedStore(store)

    def corrupt_version(
        self, store: Store, key: str, version: int, change: Callable[[bytes], bytes]
    ) -> None:
        super().corrupt_version(store, key, version, change)
        store._kept.clear()  # type: ignore[attr-defined]  what it has seen whole, it still has


class TestMeteredStore(AnyStore):
    @pytest.fixture
    def kind(self) -> str:
        return "memory"

    def wrap(self, store: Store) -> Store:
        return MeteredStore(store)


class TestCalmChaosStore(AnyStore):
    @pytest.fixture
    def kind(self) -> str:
        return "memory"

    def wrap(self, store: Store) -> Store:
        return ChaosStore(store, before=0, after=0)


class TestMemoriesOfATransientStore(AnyStore):
    """All of them are kept in this process."""

    @pytest.fixture
    def kind(self) -> str:
        return "memory"

    def wrap(self, store: Store) -> Store:
        return TransientStore(store, prefix="")

    def corrupt_version(
        self, store: Store, key: str, version: int, change: Callable[[bytes], bytes]
    ) -> None:
        super().corrupt_version(held(store), key, version, change)

    def corrupt_record(
        self, store: Store, key: str, seq: int, change: Callable[[bytes], bytes]
    ) -> None:
        super().corrupt_record(held(store), key, seq, change)

    def pass_time(self, store: Store, seconds: float) -> None:
        super().pass_time(held(store), seconds)


def held(store: Store) -> MemoryStore:
    assert isinstance(store, TransientStore)
    return store.held
