"""Store contract: of several writers one wins, and readers see whole versions."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from ..errors import StoreNotFound, VersionConflict
from ..snapshot import MAX_NUMBER
from ._store_samples import THREADS, commit_next, in_threads, record, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Store


def win(store: Store, key: str, wins: int) -> list[int]:
    """Commit next versions against others until ``wins`` of them were accepted."""
    won: list[int] = []
    while len(won) < wins:
        try:
            won.append(commit_next(store, key))
        except VersionConflict as exc:
            assert exc.found != exc.expected
    return won


class Commits:
    """Compare-and-swap on the version, from one thread and from many."""

    def test_a_memory_is_created_once(self, store: Store) -> None:
        commit_next(store)
        with pytest.raises(VersionConflict) as caught:
            store.commit(snapshot("m", 2), expect=None)
        conflict = caught.value
        assert (conflict.key, conflict.expected, conflict.found) == ("m", None, 1)

    @pytest.mark.parametrize("expect", [None, 0, 1, 3])
    def test_a_wrong_expectation_conflicts_and_writes_nothing(
        self, store: Store, expect: int | None
    ) -> None:
        commit_next(store)
        commit_next(store)
        with pytest.raises(VersionConflict) as caught:
            store.commit(snapshot("m", 9), expect=expect)
        assert (caught.value.expected, caught.value.found) == (expect, 2)
        assert store.history("m") == [2, 1]

    def test_expecting_a_version_of_a_memory_that_is_absent_conflicts(self, store: Store) -> None:
        with pytest.raises(VersionConflict) as caught:
            store.commit(snapshot("m", 2), expect=1)
        assert caught.value.found is None
        assert (store.head("m"), store.list()) == (None, [])

    @pytest.mark.parametrize("version", [3, 2, 0])
    def test_a_version_must_be_greater_than_the_newest(self, store: Store, version: int) -> None:
        store.commit(snapshot("m", 3), expect=None)
        with pytest.raises(ValueError, match="greater"):
            store.commit(snapshot("m", version), expect=3)
        assert store.load("m") == snapshot("m", 3)

    def test_versions_may_begin_anywhere_and_skip_numbers(self, store: Store) -> None:
        store.commit(snapshot("m", 0), expect=None)
        store.commit(snapshot("m", 40), expect=0)
        store.commit(snapshot("m", MAX_NUMBER), expect=40)
        assert store.history("m") == [MAX_NUMBER, 40, 0]
        store.delete("m")
        assert store.head("m") == MAX_NUMBER + 1

    def test_a_version_number_is_not_used_again_after_a_delete(self, store: Store) -> None:
        for _ in range(3):
            commit_next(store)
        store.delete("m")
        assert store.head("m") == 4
        with pytest.raises(StoreNotFound):
            store.load("m")
        assert commit_next(store) == 5
        assert store.history("m") == [5]

    @pytest.mark.parametrize("expect", [None, 3])
    def test_a_stale_writer_cannot_bring_a_deleted_memory_back(
        self, store: Store, expect: int | None
    ) -> None:
        for _ in range(3):
            commit_next(store)
        store.delete("m")
        with pytest.raises(VersionConflict):
            store.commit(snapshot("m", 4), expect=expect)
        assert store.list() == []

    def test_a_memory_deleted_before_its_first_commit_is_not_brought_back(
        self, store: Store
    ) -> None:
        store.append("m", record())
        store.delete("m")
        with pytest.raises(VersionConflict):
            store.commit(snapshot("m", 1), expect=None)
        assert commit_next(store) > 0

    def test_many_threads_on_one_memory_leave_no_gap_and_lose_nothing(self, store: Store) -> None:
        won = in_threads(lambda _: win(store, "m", 5))
        assert sorted(version for wins in won for version in wins) == list(
            range(1, 5 * THREADS + 1)
        )
        assert store.history("m") == list(range(5 * THREADS, 0, -1))

    def test_of_many_that_create_a_memory_at_once_one_wins(self, store: Store) -> None:
        def create(index: int) -> int | None:
            try:
                store.commit(snapshot("m", index), expect=None)
            except VersionConflict:
                return None
            return index

        winners = [index for index in in_threads(create) if index is not None]
        assert store.history("m") == winners
        assert len(winners) == 1

    def test_many_threads_on_memories_of_their_own_never_conflict(self, store: Store) -> None:
        def work(index: int) -> list[int]:
            return [commit_next(store, f"m{index}") for _ in range(5)]

        assert in_threads(work) == [[1, 2, 3, 4, 5]] * THREADS

    def test_readers_see_whole_versions_that_never_go_back(self, store: Store) -> None:
        commit_next(store)
        written = threading.Event()

        def work(index: int) -> int:
            if index == 0:
                try:
                    return win(store, "m", 30)[-1]
                finally:
                    written.set()
            seen = 0
            while not written.is_set():
                loaded = store.load("m")
                assert loaded == snapshot("m", loaded.version)
                assert loaded.version >= seen
                seen = loaded.version
            return store.load("m").version

        assert in_threads(work, 4) == [31] * 4

    def test_the_newest_version_loads_at_any_time_while_others_prune(self, store: Store) -> None:
        commit_next(store)
        written = threading.Event()

        def work(index: int) -> None:
            if index == 0:
                try:
                    for _ in range(20):
                        commit_next(store)
                        store.prune("m", keep_last=1)
                finally:
                    written.set()
            while not written.is_set():
                store.load("m")

        in_threads(work, 3)
        assert store.history("m") == [21]

    def test_two_stores_on_the_same_data_see_each_others_commits(
        self, store: Store, reopen: Callable[[], Store]
    ) -> None:
        other = reopen()
        try:
            commit_next(store)
            assert other.load("m") == snapshot("m", 1)
            commit_next(other)
            with pytest.raises(VersionConflict):
                store.commit(snapshot("m", 2), expect=1)
            won = in_threads(lambda index: win((store, other)[index % 2], "m", 4))
            assert sorted(sum(won, [])) == list(range(3, 3 + 4 * THREADS))
        finally:
            other.close()
