"""Store contract: the interaction log."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ..errors import StoreCorrupt, StoreNotFound
from ..model import CompletedInteraction
from ..store import LogRecord
from ._store_samples import THREADS, commit_next, in_threads, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Store


def queries(store: Store, key: str = "m", after: int = 0) -> list[str]:
    """The queries of a log, in order."""
    return [r.completed.query for r in store.log(key, after)]


class Logs:
    """Append, read, forget."""

    def corrupt_record(
        self, store: Store, key: str, seq: int, change: Callable[[bytes], bytes]
    ) -> None:
        """Hook; see ``StoreContract``."""

    def test_a_record_comes_back_with_every_field_as_it_was(self, store: Store) -> None:
        whole = LogRecord(
            seq=0,
            interaction="0192-ü",
            conversation="main 🧵",
            completed=CompletedInteraction(
                query="What\0 is \ud800 this?",
                answer="",
                token_ids=(0, 1, 2**31, 2**40),
                thinking="hm …",
                thinking_ids=(7, 8),
                tool_call='{"name": "look"}',
                tool_call_ids=(2**40,),
                tool_result=True,
                instruction="in \u00e9 words",
            ),
            key="idempotent",
            remembered=False,
            created_at=1_795_323_077.846372,
        )
        stored = store.append("m", whole)
        assert stored == replace(whole, seq=1)
        assert list(store.log("m")) == [stored]

    def test_records_are_numbered_from_one_without_gap(self, store: Store) -> None:
        assert [store.append("m", record(str(i))).seq for i in range(5)] == [1, 2, 3, 4, 5]
        assert [r.seq for r in store.log("m")] == [1, 2, 3, 4, 5]

    def test_a_number_given_by_the_caller_is_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="seq"):
            store.append("m", replace(record(), seq=1))
        assert queries(store) == []

    def test_reading_goes_on_after_a_number(self, store: Store) -> None:
        for i in range(1, 5):
            store.append("m", record(str(i)))
        assert queries(store, after=2) == ["3", "4"]
        assert queries(store, after=4) == queries(store, after=10**30) == []
        assert queries(store, after=-1) == ["1", "2", "3", "4"]

    def test_the_log_of_an_unknown_memory_is_empty(self, store: Store) -> None:
        assert queries(store, "absent") == []

    def test_memories_have_logs_of_their_own_beside_their_versions(self, store: Store) -> None:
        store.append("a", record("one"))
        assert store.append("ab", record("two")).seq == 1
        assert (queries(store, "a"), queries(store, "ab")) == (["one"], ["two"])
        assert (store.head("a"), store.history("a")) == (None, [])
        commit_next(store, "a")
        store.prune("a", keep_last=1)
        assert queries(store, "a") == ["one"]

    def test_threads_that_append_at_once_leave_no_gap(self, store: Store) -> None:
        def work(index: int) -> list[LogRecord]:
            return [store.append("m", record(f"{index}-{i}")) for i in range(6)]

        appended = sorted(sum(in_threads(work), []), key=lambda r: r.seq)
        assert [r.seq for r in appended] == list(range(1, 6 * THREADS + 1))
        assert list(store.log("m")) == appended

    def test_a_long_log_is_read_in_order_while_it_grows(self, store: Store) -> None:
        for i in range(1, 301):
            store.append("m", record(str(i)))
        reading = store.log("m")
        seen = [next(reading).seq]
        store.append("m", record("more"))
        seen += [r.seq for r in reading]
        assert seen in (list(range(1, 301)), list(range(1, 302)))

    def test_a_forgotten_record_stays_in_the_log_but_says_so(self, store: Store) -> None:
        for i in range(1, 4):
            store.append("m", record(str(i)))
        store.forget("m", 2)
        store.forget("m", 2)
        assert [(r.seq, r.remembered) for r in store.log("m")] == [(1, True), (2, False), (3, True)]
        assert queries(store) == ["1", "2", "3"]

    @pytest.mark.parametrize("seq", [0, 2, -1, 10**30])
    def test_forgetting_what_is_not_in_the_log_is_not_found(self, store: Store, seq: int) -> None:
        store.append("m", record())
        with pytest.raises(StoreNotFound, match="'m'"):
            store.forget("m", seq)
        with pytest.raises(StoreNotFound):
            store.forget("absent", 1)
        assert store.list() == ["m"]

    def test_numbering_goes_on_after_a_delete(self, store: Store) -> None:
        for i in range(3):
            store.append("m", record(str(i)))
        store.delete("m")
        assert store.append("m", record("after")).seq == 4
        assert queries(store) == queries(store, after=3) == ["after"]
        with pytest.raises(StoreNotFound):
            store.forget("m", 1)

    def test_a_deleted_log_may_end_early_but_not_fail(self, store: Store) -> None:
        for i in range(3):
            store.append("m", record(str(i)))
        reading = store.log("m")
        next(reading)
        store.delete("m")
        store.append("m", record("another life"))
        assert len(list(reading)) <= 2

    @pytest.mark.parametrize("damage", ["bit", "cut off", "empty", "another's"])
    def test_damage_is_reported_after_the_records_before_it(
        self, store: Store, damage: str
    ) -> None:
        changes: dict[str, Callable[[bytes], bytes]] = {
            "bit": lambda data: data[:5] + bytes([data[5] ^ 4]) + data[6:],
            "cut off": lambda data: data[:-1],
            "empty": lambda data: b"",
            "another's": lambda data: others[0],
        }
        for i in range(1, 5):
            store.append("m", record(str(i)))
        others: list[bytes] = []
        self.corrupt_record(store, "m", 2, lambda data: others.append(data) or data)  # type: ignore[func-returns-value]
        self.corrupt_record(store, "m", 3, changes[damage])
        reading = store.log("m")
        assert [next(reading).seq, next(reading).seq] == [1, 2]
        with pytest.raises(StoreCorrupt, match=r"'m'.*record 3"):
            next(reading)
        with pytest.raises(StoreCorrupt, match=r"'m'.*record 3"):
            store.forget("m", 3)
        assert queries(store, after=3) == ["4"]
