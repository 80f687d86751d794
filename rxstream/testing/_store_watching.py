"""Store contract: trimming a log, watching, and what a store says of itself."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ..errors import ClosedError, StoreNotFound
from ..tensorfile import encode
from ._store_samples import commit_next, in_threads, record, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Store


class Trimming:
    """The log becomes shorter where nothing needs it."""

    def test_what_the_newest_version_holds_may_go(self, store: Store) -> None:
        for number in range(5):
            store.append("m", record(str(number)))
        store.commit(replace(snapshot("m", 1), log_seq=3), expect=None)
        assert store.trim("m", 2) == 2
        assert store.trim("m", 2) == store.trim("m", 0) == 0
        assert [r.seq for r in store.log("m")] == [3, 4, 5]
        with pytest.raises(StoreNotFound):
            store.forget("m", 2)
        assert store.append("m", record("more")).seq == 6

    def test_what_a_redo_needs_stays(self, store: Store) -> None:
        store.append("m", record())
        with pytest.raises(StoreNotFound):
            store.trim("m", 1)
        commit_next(store)
        with pytest.raises(ValueError, match="up to record 0"):
            store.trim("m", 1)
        assert [r.seq for r in store.log("m")] == [1]

    def test_the_last_number_is_known_whatever_was_removed(self, store: Store) -> None:
        assert store.last_seq("m") == 0
        store.append("m", record())
        store.append("m", record())
        store.commit(replace(snapshot("m", 1), log_seq=2), expect=None)
        store.trim("m", 2)
        assert (store.last_seq("m"), list(store.log("m")), store.list()) == (2, [], ["m"])
        store.delete("m")
        assert store.last_seq("m") == 2


class Watching:
    """Versions as they come."""

    def test_a_watcher_sees_every_version_once_and_in_order(self, store: Store) -> None:
        def work(index: int) -> list[int]:
            if index == 0:
                return [commit_next(store) for _ in range(12)]
            watching = store.watch("m", after=0, timeout=30)
            return [next(watching).version for _ in range(12)]

        assert in_threads(work, 3) == [list(range(1, 13))] * 3

    def test_watching_resumes_after_a_version_or_begins_with_what_comes(self, store: Store) -> None:
        for _ in range(4):
            commit_next(store)
        assert [info.version for info in store.watch("m", after=2, timeout=0)] == [3, 4]
        coming = store.watch("m", timeout=0)
        commit_next(store)
        assert [info.version for info in coming] == [5]
        assert list(store.watch("absent", timeout=0)) == []

    def test_what_is_watched_is_what_is_known_of_a_version(self, store: Store) -> None:
        commit_next(store)
        assert list(store.watch("m", after=0, timeout=0)) == [store.info("m")]

    def test_a_slow_watcher_delays_nobody_and_misses_only_what_was_pruned(
        self, store: Store
    ) -> None:
        commit_next(store)
        watching = store.watch("m", after=0, timeout=0)
        assert next(watching).version == 1
        for _ in range(6):
            commit_next(store)
        store.prune("m", keep_last=2)
        assert [info.version for info in watching] == [6, 7]

    def test_another_store_on_the_same_data_is_seen_too(
        self, store: Store, reopen: Callable[[], Store]
    ) -> None:
        other = reopen()
        try:
            watching = other.watch("m", after=0, timeout=30)
            commit_next(store)
            assert next(watching).version == 1
        finally:
            other.close()

    def test_watching_ends_with_the_store(self, store: Store) -> None:
        ended = threading.Event()

        def work(index: int) -> None:
            if index:
                with pytest.raises(ClosedError):
                    next(store.watch("m"))
                ended.set()
            else:
                store.close()

        in_threads(work, 2)
        assert ended.is_set()


class Capabilities:
    """A store is what it says it is."""

    def corrupt_version(
        self, store: Store, key: str, version: int, change: Callable[[bytes], bytes]
    ) -> None:
        """Hook; see ``StoreContract``."""

    def corrupt_record(
        self, store: Store, key: str, seq: int, change: Callable[[bytes], bytes]
    ) -> None:
        """Hook; see ``StoreContract``."""

    def test_what_is_said_to_outlive_the_process_does(
        self, store: Store, open_store: Callable[[], Store]
    ) -> None:
        commit_next(store)
        store.close()
        again = open_store()
        try:
            assert again.list() == (["m"] if "persistent" in store.capabilities else [])
        finally:
            again.close()

    def test_what_is_said_to_be_shared_is(
        self, store: Store, open_store: Callable[[], Store]
    ) -> None:
        other = open_store()
        try:
            commit_next(store)
            assert other.head("m") == (1 if "shared" in store.capabilities else None)
        finally:
            other.close()

    def test_what_is_said_to_be_encrypted_cannot_be_read(self, store: Store) -> None:
        secret = b"what nobody may read" * 4
        kept = replace(snapshot(), state=encode({"stm": ("U8", (len(secret),), secret)}))
        store.commit(kept, expect=None)
        store.append("m", record("what nobody may read"))
        stored: list[bytes] = []

        def look(data: bytes) -> bytes:
            stored.append(data)
            return data

        self.corrupt_version(store, "m", 1, look)
        self.corrupt_record(store, "m", 1, look)
        assert len(stored) == 2
        if "encrypted" in store.capabilities:
            assert not any(b"nobody may read" in data for data in stored)

    def test_what_is_said_to_be_durable_or_shared_is_kept_at_all(self, store: Store) -> None:
        if store.capabilities & {"durable", "shared"}:
            assert "persistent" in store.capabilities
