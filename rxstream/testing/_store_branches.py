"""Store contract: forks, going back, labels, pruning."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ..errors import StoreCorrupt, StoreNotFound, VersionConflict
from ._store_samples import commit_next, in_threads, record, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Store


class Branches:
    """Fork and roll back."""

    def corrupt_version(
        self, store: Store, key: str, version: int, change: Callable[[bytes], bytes]
    ) -> None:
        """Hook; see ``StoreContract``."""

    def test_a_fork_begins_with_the_newest_version_and_names_its_parent(self, store: Store) -> None:
        commit_next(store)
        store.commit(
            replace(snapshot("m", 2), metadata={"a": "b"}, applied_keys=("k",), log_seq=5),
            expect=1,
        )
        info = store.fork("m", "n")
        forked, parent = store.load("n"), store.load("m")
        assert (info.memory, info.version, info.kind) == ("n", 1, "fork")
        assert (info.digest, info.parent_digest) == (forked.digest, parent.digest)
        assert (forked.state, forked.metadata) == (parent.state, parent.metadata)
        assert (forked.applied_keys, forked.log_seq) == ((), 0)
        assert list(store.log("n")) == []

    def test_an_old_version_can_be_forked_and_a_fork_be_forked(self, store: Store) -> None:
        for _ in range(3):
            commit_next(store)
        store.fork("m", "n", version=1)
        store.fork("n", "o")
        assert store.load("o").state == store.load("m", 1).state
        assert store.load("o").parent_digest == store.load("n").digest

    def test_fork_and_origin_never_see_each_others_future(self, store: Store) -> None:
        commit_next(store)
        store.fork("m", "n")
        commit_next(store, "n")
        commit_next(store, "m")
        commit_next(store, "m")
        store.append("n", record("to the fork"))
        assert (store.history("m"), store.history("n")) == ([3, 2, 1], [2, 1])
        assert list(store.log("m")) == []

    @pytest.mark.parametrize("gone", ["m", "n"])
    def test_either_may_be_deleted(self, store: Store, gone: str) -> None:
        commit_next(store)
        store.fork("m", "n")
        left = {"m": "n", "n": "m"}[gone]
        before = store.load(left)
        store.delete(gone)
        assert store.load(left) == before
        assert store.list() == [left]

    def test_a_fork_does_not_overwrite(self, store: Store) -> None:
        commit_next(store)
        commit_next(store, "n")
        store.append("logged", record())
        for target in ("n", "m", "logged"):
            with pytest.raises(VersionConflict):
                store.fork("m", target)
        assert store.load("n") == snapshot("n", 1)
        assert store.history("m") == [1]

    def test_a_fork_may_take_the_name_of_what_was_deleted(self, store: Store) -> None:
        commit_next(store)
        commit_next(store, "n")
        store.append("n", record())
        store.delete("n")
        assert store.fork("m", "n").version == 3
        assert (store.load("n").log_seq, store.history("n")) == (1, [3])

    def test_what_is_not_there_cannot_be_forked_or_gone_back_to(self, store: Store) -> None:
        calls: list[Callable[[], object]] = [
            lambda: store.fork("m", "n"),
            lambda: store.fork("m", "n", version=1),
            lambda: store.rollback("m", 1),
        ]
        for call in calls:
            with pytest.raises(StoreNotFound, match="'m'"):
                call()
        commit_next(store)
        with pytest.raises(StoreNotFound, match="7"):
            store.fork("m", "n", version=7)
        with pytest.raises(StoreNotFound, match="7"):
            store.rollback("m", 7)
        assert (store.list(), store.history("m")) == (["m"], [1])

    def test_of_many_forks_into_one_name_one_wins(self, store: Store) -> None:
        commit_next(store)

        def fork(_: int) -> bool:
            try:
                store.fork("m", "n")
            except VersionConflict:
                return False
            return True

        assert sum(in_threads(fork)) == 1

    def test_going_back_commits_the_old_version_anew(self, store: Store) -> None:
        commit_next(store)
        store.commit(replace(snapshot("m", 2), applied_keys=("a", "b")), expect=1)
        store.append("m", record())
        info = store.rollback("m", 1)
        newest = store.load("m")
        assert (info.version, info.kind, store.history("m")) == (3, "rollback", [3, 2, 1])
        assert newest.state == store.load("m", 1).state
        assert newest.parent_digest == store.load("m", 1).digest
        assert newest.log_seq == 1, "what was said since is not folded in again"
        assert newest.applied_keys == ("a", "b"), "nor is its retry"

    def test_going_back_is_the_way_out_of_a_damaged_version(self, store: Store) -> None:
        commit_next(store)
        commit_next(store)
        self.corrupt_version(store, "m", 2, lambda data: data[:-1])
        with pytest.raises(StoreCorrupt):
            store.fork("m", "n")
        with pytest.raises(StoreCorrupt):
            store.rollback("m", 2)
        store.rollback("m", 1)
        assert store.load("m").state == snapshot("m", 1).state
        assert store.list() == ["m"]


class Pruning:
    """Labels, and what is kept."""

    def test_a_label_names_the_newest_version_or_a_given_one(self, store: Store) -> None:
        for _ in range(3):
            commit_next(store)
        assert store.tag("m", "now") == 3
        assert store.tag("m", "then", 1) == 1
        commit_next(store)
        assert store.tags("m") == {"now": 3, "then": 1}
        assert store.tag("m", "now", 4) == 4
        store.untag("m", "then")
        assert store.tags("m") == {"now": 4}

    def test_what_is_not_there_has_no_label(self, store: Store) -> None:
        assert store.tags("m") == {}
        for call in (
            lambda: store.tag("m", "x"),
            lambda: store.tag("m", "x", 1),
            lambda: store.untag("m", "x"),
        ):
            with pytest.raises(StoreNotFound, match="'m'"):
                call()
        commit_next(store)
        with pytest.raises(StoreNotFound, match="2"):
            store.tag("m", "x", 2)

    @pytest.mark.parametrize("label", ["", "x" * 129, "\ud800"], ids=ascii)
    def test_a_label_is_text_of_bounded_length(self, store: Store, label: str) -> None:
        commit_next(store)
        with pytest.raises(ValueError, match="label"):
            store.tag("m", label)
        assert store.tags("m") == {}

    def test_pruning_keeps_what_has_a_label(self, store: Store) -> None:
        for _ in range(6):
            commit_next(store)
        store.tag("m", "release", 2)
        assert store.prune("m", keep_last=2) == 3
        assert store.history("m") == [6, 5, 2]
        store.untag("m", "release")
        assert store.prune("m", keep_last=2) == 1

    def test_pruning_by_age_keeps_what_is_young_and_always_the_newest(self, store: Store) -> None:
        for version, age in ((1, 100.0), (2, 50.0), (3, 0.0), (4, 100.0)):
            made = replace(snapshot("m", version), created_at=time.time() - age)
            store.commit(made, expect=store.head("m"))
        assert store.prune("m", older_than=75) == 1
        assert store.history("m") == [4, 3, 2]
        assert store.prune("m", older_than=0, keep_last=2) == 1
        assert store.history("m") == [4, 3]

    def test_pruning_needs_to_be_told_what_to_keep(self, store: Store) -> None:
        commit_next(store)
        for wrong in ({}, {"older_than": -1.0}, {"keep_last": 0, "older_than": 1.0}):
            with pytest.raises(ValueError, match="keep|older_than"):
                store.prune("m", **wrong)  # type: ignore[arg-type]
        assert store.history("m") == [1]

    def test_pruning_while_others_load_removes_nothing_that_stays(self, store: Store) -> None:
        for _ in range(12):
            commit_next(store)
        store.tag("m", "kept", 3)

        def work(index: int) -> None:
            if index == 0:
                for keep in range(11, 0, -1):
                    store.prune("m", keep_last=keep)
            else:
                for _ in range(15):
                    assert store.load("m") == snapshot("m", 12)
                    assert store.load("m", 3) == snapshot("m", 3)

        in_threads(work, 3)
        assert store.history("m") == [12, 3]

    def test_history_is_read_in_pages(self, store: Store) -> None:
        for _ in range(7):
            commit_next(store)
        assert store.history("m", limit=3) == [7, 6, 5]
        assert store.history("m", before=5, limit=3) == [4, 3, 2]
        assert store.history("m", before=2) == [1]
        assert store.history("m", before=1) == store.history("m", limit=0) == []
        assert store.history("m", before=10**30) == list(range(7, 0, -1))
        with pytest.raises(ValueError, match="limit"):
            store.history("m", limit=-1)

    def test_what_is_known_of_a_version_is_what_it_says_of_itself(self, store: Store) -> None:
        commit_next(store)
        store.commit(
            replace(snapshot("m", 2), parent_digest="sha256:p", kind="import", log_seq=3,
                    metadata={"provenance": "ü"}, contains_user_data=False),
            expect=1,
        )  # fmt: skip
        loaded = store.load("m")
        info = store.info("m")
        for name in (
            "version digest parent_digest kind fingerprint log_seq created_at contains_user_data"
        ).split():
            assert getattr(info, name) == getattr(loaded, name)
        assert (info.memory, dict(info.metadata)) == ("m", {"provenance": "ü"})
        assert info.nbytes > len(loaded.state)
        assert store.info("m", 1).digest == store.load("m", 1).digest
        for version in (None, 1):
            with pytest.raises(StoreNotFound):
                store.info("absent", version)
        with pytest.raises(StoreNotFound, match="3"):
            store.info("m", 3)

    def test_names_are_listed_in_pages_that_new_ones_do_not_shift(self, store: Store) -> None:
        for number in range(9):
            commit_next(store, f"n{number}")
        assert store.list(limit=4) == ["n0", "n1", "n2", "n3"]
        commit_next(store, "n00")
        store.delete("n3")
        assert store.list(after="n3", limit=4) == ["n4", "n5", "n6", "n7"]
        assert store.list("n", after="n7") == ["n8"]
        assert store.list("n0", after="n0") == ["n00"]
        assert store.list(after="z") == store.list(limit=0) == []
        with pytest.raises(ValueError, match="limit"):
            store.list(limit=-1)
