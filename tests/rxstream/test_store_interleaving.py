"""What others do to a store between two looks of a call is no damage, no absence and no conflict.

Each test has somebody else act at one moment: directly before a call of the store below.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rxstream._replay import read
from rxstream.errors import StoreCorrupt, StoreNotFound, VersionConflict
from rxstream.stores import branching
from rxstream.stores.cached import CachedStore
from rxstream.stores.copying import copy_memory
from rxstream.stores.gate import Gate
from rxstream.stores.memory import MemoryStore
from rxstream.stores.wrapper import StoreWrapper
from rxstream.testing._store_samples import commit_next, record, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxstream.store import Store


def meddled(store: Store, method: str, work: Callable[[], object], number: int = 1) -> StoreWrapper:
    """``store``, in which ``work`` is done before ``method`` is called for the nth time."""
    wrapper, real, calls = StoreWrapper(store), getattr(store, method), 0

    def call(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            work()
        return real(*args, **options)

    setattr(wrapper, method, call)
    return wrapper


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def replaced(store: Store) -> None:
    """The newest version is another one, and what was the newest is gone."""
    commit_next(store)
    store.prune("m", keep_last=1)


class TestFork:
    def test_tells_of_the_version_it_made_when_that_is_gone_already(
        self, store: MemoryStore
    ) -> None:
        commit_next(store)

        class Pruned(StoreWrapper):
            def commit(self, *args: Any, **options: Any) -> None:
                super().commit(*args, **options)
                self.inner.delete("child")

        info = branching.fork(Pruned(store), "m", "child", None)
        assert (info.memory, info.version, info.kind) == ("child", 1, "fork")

    def test_is_described_as_the_store_describes_it(self, store: MemoryStore) -> None:
        commit_next(store)
        assert store.fork("m", "child") == store.info("child")
        commit_next(store)
        assert store.rollback("m", 1) == store.info("m")

    def test_does_not_claim_a_record_that_came_meanwhile(self, store: MemoryStore) -> None:
        commit_next(store)

        class Appended(StoreWrapper):
            def log(self, key: str, after: int = 0) -> Any:
                found = list(super().log(key, after))
                self.inner.append(key, record())
                return iter(found)

        assert branching.fork(Appended(store), "m", "child", None).log_seq == 0
        assert store.last_seq("child") == 1


class TestRollback:
    def test_of_a_memory_that_begins_meanwhile_is_not_found(self, store: MemoryStore) -> None:
        others = meddled(store, "load", lambda: commit_next(store))
        with pytest.raises(StoreNotFound, match="there is no memory 'm'"):
            branching.rollback(others, "m", 1)

    def test_conflicts_when_the_newest_was_replaced_and_pruned_meanwhile(
        self, store: MemoryStore
    ) -> None:
        commit_next(store)
        commit_next(store)
        store.tag("m", "kept", 1)
        others = meddled(store, "load", lambda: replaced(store), number=2)
        with pytest.raises(VersionConflict):
            branching.rollback(others, "m", 1)


class TestCached:
    def test_the_newest_is_found_when_it_is_replaced_and_pruned_meanwhile(
        self, store: MemoryStore
    ) -> None:
        commit_next(store)
        others = meddled(store, "load", lambda: replaced(store))
        assert CachedStore(others).load("m") == snapshot("m", 2)

    def test_a_version_that_was_asked_for_and_is_pruned_meanwhile_is_not_found(
        self, store: MemoryStore
    ) -> None:
        commit_next(store)
        others = meddled(store, "load", lambda: replaced(store))
        with pytest.raises(StoreNotFound):
            CachedStore(others).load("m", 1)


class TestCopy:
    def test_leaves_out_what_is_pruned_meanwhile(self, store: MemoryStore) -> None:
        for _ in range(3):
            commit_next(store)
        others, target = meddled(store, "load", lambda: replaced(store)), MemoryStore()
        copy_memory(others, target, "m")
        assert target.history("m") == [4]

    def test_takes_labels_that_are_given_meanwhile_or_leaves_them(self, store: MemoryStore) -> None:
        commit_next(store)

        def go_on() -> None:
            store.tag("m", "new", commit_next(store))

        for method in ("tags", "expires_at"):
            target = MemoryStore()
            copy_memory(meddled(store, method, go_on), target, "m")
            assert set(target.tags("m").values()) <= set(target.history("m"))

    def test_leaves_out_a_label_whose_version_was_pruned_meanwhile(
        self, store: MemoryStore
    ) -> None:
        store.tag("m", "old", commit_next(store))

        def move_on() -> None:
            store.tag("m", "old", commit_next(store))
            store.prune("m", keep_last=1)

        target = MemoryStore()
        copy_memory(meddled(store, "history", move_on), target, "m")
        assert target.history("m") == [2]
        assert target.tags("m") in ({}, {"old": 2})


class TestOpening:
    """What a runtime reads of a memory when it opens it."""

    def test_a_newest_version_that_is_replaced_and_pruned_meanwhile_is_not_a_delete(
        self, store: MemoryStore
    ) -> None:
        commit_next(store)
        found = read(meddled(store, "load", lambda: replaced(store)), "m")
        assert (found.head, found.snapshot) == (2, snapshot("m", 2))

    def test_records_that_are_folded_in_and_trimmed_meanwhile_are_not_left_out(
        self, store: MemoryStore
    ) -> None:
        commit_next(store)
        for name in ("one", "two"):
            store.append("m", record(name))

        def go_on() -> None:
            store.commit(replace(snapshot("m", 2), log_seq=1), expect=1)
            store.trim("m", 1)

        found = read(meddled(store, "log", go_on), "m")
        assert (found.head, [r.seq for r in found.records]) == (2, [2])

    def test_a_deleted_memory_is_deleted(self, store: MemoryStore) -> None:
        commit_next(store)
        store.delete("m")
        found = read(store, "m")
        assert (found.head, found.snapshot, found.records) == (2, None, [])


class TestSweep:
    def test_frees_the_others_before_it_tells_of_a_damaged_memory(self) -> None:
        class Damaged(MemoryStore):
            def _write(self, key: str, work: Any, *, repeatable: bool = False) -> Any:
                if key == "a":
                    raise StoreCorrupt("memory 'a' is damaged")
                return super()._write(key, work, repeatable=repeatable)

            def _expired(self) -> list[str]:
                return ["a", "b"]

        store = Damaged()
        commit_next(store, "b")
        store.expire("b", 1)
        store._skew = 2
        with pytest.raises(StoreCorrupt, match="'a' is damaged"):
            store.sweep()
        assert store._memories["b"].state.expires_at is None


def test_a_forked_child_does_not_wait_for_calls_of_its_parent() -> None:
    gate, inside, leave = Gate("the store"), threading.Event(), threading.Event()

    def call() -> None:
        with gate:
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=call)
    thread.start()
    inside.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends it if it waits for ever
        gate.close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
