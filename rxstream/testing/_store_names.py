"""Store contract: names mean nothing but themselves; opening and closing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from ..errors import ClosedError
from ._store_samples import commit_next, in_threads, record, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Store

HOSTILE = [
    "..",
    "../../etc/passwd",
    "/absolute",
    "a/b",
    "a\\b",
    "%2F",
    "nul\0inside",
    "\0",
    " ",
    "trailing dot.",
    "CON",
    "*",
    ">",
    "[a-z]?",
    "_%",
    "'; DROP TABLE versions; --",
    "line\nbreak\r\t",
    "emoji 🧠👩‍🚀",
    "right \u202e left",
    "x" * 512,
    "é" * 256,
    "\U0010ffff",
    "\ufeffmark",
]


class Names:
    """Any text names a memory, and never another one."""

    def test_any_text_names_a_memory_of_its_own(self, store: Store) -> None:
        for name in HOSTILE:
            commit_next(store, name)
            store.append(name, record(name))
        assert store.list() == sorted(HOSTILE)
        for name in HOSTILE:
            assert store.load(name) == snapshot(name, 1)
            assert [r.completed.query for r in store.log(name)] == [name]
            assert name in store.list(name)
        store.delete("*")
        store.delete("_%")
        assert store.list() == sorted(set(HOSTILE) - {"*", "_%"})

    @pytest.mark.parametrize("name", ["", "x" * 513, "é" * 257, "\ud800"], ids=ascii)
    def test_a_name_that_is_empty_too_long_or_no_text_is_refused(
        self, store: Store, name: str
    ) -> None:
        for call in (store.head, store.load, store.history, store.log, store.delete):
            with pytest.raises(ValueError, match="memory name"):
                call(name)
        with pytest.raises(ValueError, match="memory name"):
            store.append(name, record())
        assert store.list(name) == []

    def test_names_differ_by_case_and_by_unicode_form(self, store: Store) -> None:
        names = ["Key", "key", "caf\u00e9", "cafe\u0301", "key "]
        for name in names:
            commit_next(store, name)
        store.delete("Key")
        store.delete("cafe\u0301")
        assert store.list() == sorted(["key", "caf\u00e9", "key "])
        assert store.load("key") == snapshot("key", 1)

    def test_a_prefix_is_taken_letter_by_letter(self, store: Store) -> None:
        names = ["a", "ab", "a/b", "a%", "b", "B", "a\U0010ffff", "a\0"]
        for name in names:
            commit_next(store, name)
        assert store.list() == sorted(names)
        assert store.list("a") == sorted(name for name in names if name.startswith("a"))
        assert store.list("ab") == ["ab"]
        assert store.list("a%") == ["a%"]
        assert store.list("%") == store.list("c") == store.list("\ud800") == []

    def test_only_memories_with_something_in_them_are_listed(self, store: Store) -> None:
        commit_next(store, "committed")
        store.append("logged", record())
        commit_next(store, "deleted")
        store.delete("deleted")
        store.head("asked")
        assert store.list() == ["committed", "logged"]
        commit_next(store, "deleted")
        assert store.list() == ["committed", "deleted", "logged"]

    def test_many_memories_are_listed_once_each_while_more_are_added(self, store: Store) -> None:
        names = [f"user-{i:03}" for i in range(100)]

        def work(index: int) -> bool:
            if index == 0:
                for name in names:
                    commit_next(store, name)
                return True
            listed = [store.list("user-") for _ in range(20)]
            return all(found == names[: len(found)] for found in listed)

        assert all(in_threads(work, 2))
        assert store.list() == names


class Lifecycle:
    """Opening, closing, and opening again."""

    def test_closing_twice_is_no_error(self, store: Store) -> None:
        store.close()
        store.close()

    def test_a_closed_store_says_that_it_is_closed(self, store: Store) -> None:
        commit_next(store)
        store.append("m", record("one"))
        store.append("m", record("two"))
        running = store.log("m")
        next(running)
        store.close()
        calls: list[Callable[[], object]] = [
            lambda: store.head("m"),
            lambda: store.load("m"),
            lambda: store.commit(snapshot("m", 2), expect=1),
            lambda: store.history("m"),
            lambda: store.append("m", record()),
            lambda: list(store.log("m")),
            lambda: store.forget("m", 1),
            lambda: store.list(),
            lambda: store.delete("m"),
            lambda: store.prune("m", keep_last=1),
        ]
        for call in calls:
            with pytest.raises(ClosedError):
                call()

    def test_closing_amid_commits_keeps_every_acknowledged_one(
        self, store: Store, reopen: Callable[[], Store]
    ) -> None:
        begun = threading.Barrier(5)

        def work(index: int) -> int:
            key, acknowledged = f"m{index}", 0
            if index == 4:
                begun.wait(30)
                store.close()
                return 0
            try:
                acknowledged = commit_next(store, key)
                begun.wait(30)
                while True:
                    acknowledged = commit_next(store, key)
            except ClosedError:
                return acknowledged

        acknowledged = in_threads(work, 5)[:4]
        again = reopen()
        try:
            assert [again.head(f"m{index}") for index in range(4)] == acknowledged
        finally:
            again.close()

    def test_everything_is_there_after_opening_again(
        self, store: Store, reopen: Callable[[], Store]
    ) -> None:
        for _ in range(3):
            commit_next(store)
        stored = store.append("m", record("one"))
        store.append("m", record("two"))
        store.forget("m", 2)
        commit_next(store, "gone")
        store.delete("gone")
        store.close()
        again = reopen()
        try:
            assert again.history("m") == [3, 2, 1]
            assert again.load("m") == snapshot("m", 3)
            assert [(r.seq, r.remembered) for r in again.log("m")] == [(1, True), (2, False)]
            assert next(again.log("m")) == stored
            assert (again.list(), again.head("gone")) == (["m"], 2)
        finally:
            again.close()

    def test_many_may_open_a_new_store_at_once(self, reopen: Callable[[], Store]) -> None:
        opened = in_threads(lambda _: reopen())
        try:
            for index, store in enumerate(opened):
                commit_next(store, f"m{index}")
            assert {tuple(store.list()) for store in opened} == {tuple(opened[0].list())}
            assert len(opened[0].list()) == len(opened)
        finally:
            for store in opened:
                store.close()
