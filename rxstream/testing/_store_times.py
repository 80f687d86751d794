"""Store contract: lifetimes, and requests made twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ..errors import RequestReused, StoreNotFound, VersionConflict
from ..store import REQUESTS_KEPT
from ._store_samples import commit_next, in_threads, record, snapshot

if TYPE_CHECKING:
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
