"""Store contract: lifetimes, requests made twice, watching, and what a store says of itself."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ..errors import ClosedError, RequestReused, StoreNotFound, VersionConflict
from ..store import REQUESTS_KEPT
from ..tensorfile import encode
from ._store_samples import commit_next, in_threads, record, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Store


class Lifetimes:
    """What expires is gone at once, all of it."""

    def pass_time(self, store: Store, seconds: float) -> None:
        """Hook; see ``StoreContract``."""

    def test_an_expired_memory_is_as_if_deleted(self, store: Store) -> None:
        for key in ("m", "other"):
            commit_next(store, key)
            store.append(key, record(key))
        store.tag("m", "label")
        store.expire("m", 10)
        self.pass_time(store, 9)
        assert store.load("m") == snapshot("m", 1)
        self.pass_time(store, 2)
        assert (store.head("m"), store.history("m"), list(store.log("m"))) == (2, [], [])
        assert (store.tags("m"), store.list(), store.expires_at("m")) == ({}, ["other"], None)
        for call in (lambda: store.load("m"), lambda: store.info("m"), lambda: store.load("m", 1)):
            with pytest.raises(StoreNotFound):
                call()
        for write in (
            lambda: store.expire("m", 10),
            lambda: store.tag("m", "x"),
            lambda: store.forget("m", 1),
            lambda: store.fork("m", "n"),
        ):
            with pytest.raises(StoreNotFound):
                write()
        assert store.load("other") == snapshot("other", 1)

    def test_numbers_go_on_after_a_memory_expired(self, store: Store) -> None:
        commit_next(store)
        store.append("m", record("before"))
        store.expire("m", 10)
        self.pass_time(store, 11)
        with pytest.raises(VersionConflict):
            store.commit(snapshot("m", 2), expect=1)
        assert commit_next(store) == 3
        assert store.append("m", record("after")).seq == 2
        assert [r.completed.query for r in store.log("m")] == ["after"]
        assert (store.history("m"), store.expires_at("m")) == ([3], None)

    def test_commits_and_appends_renew_a_lifetime_and_reading_does_not(self, store: Store) -> None:
        commit_next(store)
        store.expire("m", 10)
        first = store.expires_at("m")
        self.pass_time(store, 6)
        _ = store.head("m"), store.load("m"), store.list(), store.history("m")
        assert first is not None and store.expires_at("m") == first
        commit_next(store)
        self.pass_time(store, 6)
        store.append("m", record())
        self.pass_time(store, 6)
        assert store.history("m") == [2, 1]
        self.pass_time(store, 5)
        assert store.history("m") == []

    def test_a_lifetime_can_be_begun_anew_changed_and_lifted(self, store: Store) -> None:
        commit_next(store)
        store.expire("m", 10)
        self.pass_time(store, 8)
        store.expire("m", 20)
        self.pass_time(store, 15)
        assert store.history("m") == [1]
        store.expire("m", None)
        self.pass_time(store, 1e6)
        assert (store.history("m"), store.expires_at("m")) == ([1], None)

    def test_a_fork_lives_its_own_life(self, store: Store) -> None:
        commit_next(store)
        store.expire("m", 10)
        store.fork("m", "n")
        self.pass_time(store, 11)
        assert store.list() == ["n"]
        assert store.expires_at("n") is None

    def test_a_memory_with_a_log_alone_expires_too(self, store: Store) -> None:
        store.append("m", record())
        store.expire("m", 10)
        self.pass_time(store, 11)
        assert (store.list(), list(store.log("m"))) == ([], [])

    @pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan")])
    def test_a_lifetime_is_a_positive_number(self, store: Store, ttl: float) -> None:
        commit_next(store)
        with pytest.raises(ValueError, match="ttl"):
            store.expire("m", ttl)
        with pytest.raises(StoreNotFound):
            store.expire("absent", 1)
        assert store.expires_at("m") is None

    def test_sweeping_frees_what_expired_once_and_nothing_else(self, store: Store) -> None:
        for number in range(6):
            commit_next(store, f"n{number}")
            if number % 2:
                store.expire(f"n{number}", 10)
        assert store.sweep() == 0
        self.pass_time(store, 11)
        assert sum(in_threads(lambda _: store.sweep(), 3)) == 3
        assert store.sweep() == 0
        assert store.list() == ["n0", "n2", "n4"]
        assert store.head("n1") == 2
        assert store.load("n2") == snapshot("n2", 1)


class Requests:
    """A call that is repeated with its request id takes effect once."""

    def test_a_repeated_commit_is_answered_as_the_first(self, store: Store) -> None:
        first = snapshot("m", 1)
        for _ in range(2):
            store.commit(first, expect=None, request_id="r1")
        commit_next(store)
        store.commit(first, expect=None, request_id="r1")
        assert store.history("m") == [2, 1]

    def test_a_repeated_append_is_answered_with_the_first_number(self, store: Store) -> None:
        first = store.append("m", record("one"), request_id="r1")
        store.append("m", record("two"), request_id="r2")
        assert store.append("m", record("one"), request_id="r1") == first
        assert store.append("m", record("one")).seq == 3
        assert [r.completed.query for r in store.log("m")] == ["one", "two", "one"]

    def test_a_request_id_with_other_content_is_refused(self, store: Store) -> None:
        store.commit(snapshot("m", 1), expect=None, request_id="r1")
        store.append("m", record("one"), request_id="r2")
        for call in (
            lambda: store.commit(snapshot("m", 2), expect=1, request_id="r1"),
            lambda: store.commit(snapshot("m", 2), expect=1, request_id="r2"),
            lambda: store.append("m", record("two"), request_id="r2"),
            lambda: store.append("m", replace(record("one"), remembered=False), request_id="r2"),
        ):
            with pytest.raises(RequestReused, match="'r[12]'"):
                call()
        assert (store.history("m"), store.last_seq("m")) == ([1], 1)

    def test_memories_have_request_ids_of_their_own(self, store: Store) -> None:
        for key in ("m", "n"):
            store.commit(snapshot(key, 1), expect=None, request_id="r")
            assert store.append(key, record(key), request_id="s").seq == 1

    def test_a_refused_request_may_be_made_again(self, store: Store) -> None:
        with pytest.raises(VersionConflict):
            store.commit(snapshot("m", 2), expect=1, request_id="r")
        commit_next(store)
        store.commit(snapshot("m", 2), expect=1, request_id="r")
        assert store.history("m") == [2, 1]

    def test_the_latest_requests_are_known(self, store: Store) -> None:
        for number in range(REQUESTS_KEPT + 5):
            store.append("m", record(str(number)), request_id=f"r{number}")
        known = range(5, REQUESTS_KEPT + 5)
        for number in (known[0], known[-1]):
            repeated = store.append("m", record(str(number)), request_id=f"r{number}")
            assert repeated.seq == number + 1
        assert store.last_seq("m") == REQUESTS_KEPT + 5

    def test_of_many_that_make_one_request_at_once_all_get_one_answer(self, store: Store) -> None:
        def append(_: int) -> int:
            return store.append("m", record("one"), request_id="r").seq

        assert in_threads(append) == [1] * 8
        assert store.last_seq("m") == 1

    @pytest.mark.parametrize("request_id", ["", "x" * 129, "\ud800"], ids=ascii)
    def test_a_request_id_is_text_of_bounded_length(self, store: Store, request_id: str) -> None:
        with pytest.raises(ValueError, match="request id"):
            store.commit(snapshot(), expect=None, request_id=request_id)
        with pytest.raises(ValueError, match="request id"):
            store.append("m", record(), request_id=request_id)
        assert store.list() == []


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
