"""No store loses or confuses what it acknowledged, however its writers die or compete.

The long profile has the numbers of the specification: 200 kills, 4 processes × 8 threads × 32
tasks.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rxstream.stores.memory import MemoryStore

from ..profiles import LONG
from .store_kinds import PERSISTENT, opener_of, options_of
from .store_worker import SCRIPT, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rxstream.store import Store

PROCESSES, THREADS, TASKS = (4, 8, 32) if LONG else (4, 3, 4)


class Worker:
    """The other end of ``store_worker``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def start(self, *command: object) -> None:
        assert self.process.stdin
        self.process.stdin.write("\t".join(map(str, command)) + "\n")
        self.process.stdin.flush()

    def read(self) -> tuple[str, int]:
        """The next line: what, and a number (0 for none)."""
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        assert line
        assert not line.startswith("error"), line
        what, _, number = line.partition(" ")
        return what, int(number or 0)

    def read_until_done(self, processes: int = 1) -> list[tuple[str, int]]:
        lines: list[tuple[str, int]] = []
        while processes:
            lines.append(self.read())
            processes -= lines[-1][0] == "done"
        return lines


@pytest.fixture
def worker() -> Iterator[Worker]:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", f"{__package__}.store_worker"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Worker(process)
        finally:  # with its children: after a failed test one may be writing for ever
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest) -> Iterator[tuple[str, str, str]]:
    found = (kind, "t" + secrets.token_hex(6), options_of(kind, request))
    yield found
    if kind in ("postgres", "redis"):
        opener_of(*found)().erase()


def highest(lines: list[tuple[str, int]], what: str, before: int) -> int:
    return max([number for name, number in lines if name == what], default=before)


@pytest.mark.parametrize("kind", PERSISTENT, indirect=True)
def test_a_writer_killed_at_any_moment_loses_nothing_it_acknowledged(
    worker: Worker, place: tuple[str, str, str]
) -> None:
    kills = 200 if LONG else {"sqlite": 30, "dir": 30}.get(place[0], 10)
    rng, opener = random.Random(kills), opener_of(*place)
    version = seq = 0
    for _ in range(kills):
        worker.start("write", *place)
        _, pid = worker.read()
        lines = [worker.read() for _ in range(rng.choice((0, 1, 2, 3, 5, 8)))]
        for _ in range(rng.randrange(20_000)):  # a moment that differs, about as long as a commit
            pass
        os.kill(pid, signal.SIGKILL)
        lines += worker.read_until_done()
        version, seq = highest(lines, "version", version), highest(lines, "seq", seq)
        with closing(opener()) as store:
            history = store.history("m")
            # One more may be there: committed, but killed before it could say so.
            assert len(history) in (version, version + 1)
            assert history == list(range(len(history), 0, -1))
            assert store.head("m") == (history[0] if history else None)
            if history:
                assert store.load("m") == snapshot("m", history[0])
                assert store.load("m", max(1, version)) == snapshot("m", max(1, version))
            numbers = [record.seq for record in store.log("m")]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) in (seq, seq + 1)
            version, seq = len(history), len(numbers)
    assert version >= kills // 2
    with closing(opener()) as store:
        assert store.sweep() == 0
        for number in range(1, version + 1):
            assert store.load("m", number) == snapshot("m", number)


@pytest.mark.parametrize("kind", PERSISTENT, indirect=True)
def test_of_many_processes_and_threads_one_wins_each_version(
    worker: Worker, place: tuple[str, str, str]
) -> None:
    for _ in range(PROCESSES):
        worker.start("race", *place, THREADS, TASKS)
    worker.start("wait")
    lines = worker.read_until_done(processes=PROCESSES)
    writers = PROCESSES * THREADS
    for what, wins in (("m0", (TASKS + 1) // 2), ("m1", TASKS // 2), ("seq", TASKS)):
        won = sorted(number for name, number in lines if name == what)
        assert won == list(range(1, writers * wins + 1)), what
    with closing(opener_of(*place)()) as store:
        for key in ("m0", "m1"):
            assert len(store.history(key)) == store.head(key)
        assert [record.seq for record in store.log("log")] == list(range(1, writers * TASKS + 1))


def contents(store: Store) -> list[object]:
    return [store.list()] + [
        (
            store.head(key),
            [store.load(key, v) for v in store.history(key)],
            list(store.log(key)),
            store.tags(key),
        )
        for key in ("m", "n")
    ]


@pytest.mark.parametrize("kind", ["sqlite", "dir"], indirect=True)
def test_a_writer_killed_before_any_statement_or_change_of_a_file_leaves_whole_steps(
    worker: Worker, place: tuple[str, str, str]
) -> None:
    model = MemoryStore()
    expected = [contents(model)]
    for step in SCRIPT:
        step(model)
        expected.append(contents(model))
    kind, name, where = place
    died_after = set()
    for at in range(1, 500):
        here = (kind, f"{name}-{at}", where)
        worker.start("die", *here, kind, at)
        lines = [what for what, _ in worker.read_until_done()]
        steps = lines.count("step")
        with closing(opener_of(*here)()) as store:
            assert contents(store) in expected[steps : steps + 2], f"before {at}"
            store.sweep()
            left = [p.name for p in Path(where, here[1]).rglob("*") if p.name.endswith(".tmp")]
            assert left == []
            head = store.head("m")
            store.commit(snapshot("m", (head or 0) + 1), expect=head)
        if "finished" in lines:
            break
        died_after.add(steps)
    else:
        pytest.fail("the script never ran to its end")
    assert died_after >= set(range(len(SCRIPT)))
