"""Two processes on one memory, one of them killed with kill -9: nothing is lost, nothing is twice.

Both have opened it with ``on_conflict="rebase"``. RXSTREAM_LONG=1 kills before every SQL statement.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from rxstream import Runtime
from rxstream.testing import FakeModel
from rxstream.testing.fakes import FakeMemory, fold

from .store_kinds import opener_of
from .test_store_crash import Worker, worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rxstream.store import Store

__all__ = ["worker"]
QUERIES = 4
NEVER = 0
LONG = "RXSTREAM_LONG" in os.environ


def numbers(lines: list[tuple[str, int]], what: str) -> list[int]:
    return [number for name, number in lines if name == what]


def look(opener: Callable[[], Store]) -> tuple[list[str], list[str]]:
    """What is remembered, and what is on record, by query; the one is the fold of the other."""
    value: FakeMemory = ()
    with closing(opener()) as store:
        records = [record for record in store.log("m") if record.remembered]
        for record in records:
            value = fold(value, record.completed.query, record.completed.answer)
        with Runtime(FakeModel(), store=store) as runtime:
            memory = runtime.memory("m")
            assert memory.value == value
            assert memory.version == len(value)
    remembered = [text.split(" ")[0] for text in value]
    assert len(set(remembered)) == len(remembered), "nothing is twice"
    return remembered, [record.completed.query for record in records]


@pytest.mark.parametrize("durability", ["sync", "async", "close"])
def test_a_writer_killed_beside_another_loses_nothing_and_holds_nobody_up(
    worker: Worker, tmp_path: Path, durability: str
) -> None:
    died = []
    for at in range(1, 1000, 1 if LONG else 5):
        place = ("sqlite", f"{durability}-{at}", str(tmp_path))
        worker.start("converse", *place, "a", durability, QUERIES, at)
        worker.start("converse", *place, "b", durability, QUERIES, NEVER)
        worker.start("wait")
        lines = worker.read_until_done(processes=2)
        finished = bool(numbers(lines, "a:finished"))
        acknowledged = numbers(lines, "a:acknowledged")
        assert numbers(lines, "b:memory_updated") == list(range(QUERIES)), f"before {at}"

        remembered, recorded = look(opener_of(*place))
        assert set(remembered) >= {f"a{n}" for n in acknowledged}, f"before {at}"
        for name in "ab":
            said = [query for query in remembered if query[0] == name]
            assert said == [f"{name}{n}" for n in range(len(said))], "in the order asked"
        # One more may be on record: killed before it could say so.
        assert len(recorded) - QUERIES in (len(acknowledged), len(acknowledged) + 1)

        if finished and len(set(died)) >= 3:
            break
        if finished:  # with fewer statements than at other times: how many, is a matter of timing
            continue
        died.append(len(acknowledged))
        worker.start("converse", *place, "a", durability, QUERIES, NEVER)  # the client asks again
        worker.start("wait")
        lines = worker.read_until_done()
        again = numbers(lines, "a:memory_updated") + numbers(lines, "a:query_rejected")
        assert sorted(again) == list(range(QUERIES))
        remembered, _ = look(opener_of(*place))
        assert sorted(remembered) == sorted(f"{name}{n}" for name in "ab" for n in range(QUERIES))
    else:
        pytest.fail(f"nobody came to the end, or all died at the same moments: {set(died)}")
