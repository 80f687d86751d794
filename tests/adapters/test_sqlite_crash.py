"""A SQLite store loses nothing it acknowledged, however its writers die or compete."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adapters.stores.sqlite import SqliteStore
from rxstream.stores.memory import MemoryStore

from .sqlite_worker import SCRIPT, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rxstream.store import Store


class Worker:
    """The other end of ``sqlite_worker``."""

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


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.sqlite_worker"],
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


def highest(lines: list[tuple[str, int]], what: str, before: int) -> int:
    return max([number for name, number in lines if name == what], default=before)


@pytest.mark.parametrize("kills", [30, pytest.param(200, marks=pytest.mark.slow)])
def test_a_writer_killed_at_any_moment_loses_nothing_it_acknowledged(
    worker: Worker, tmp_path: Path, kills: int
) -> None:
    path, rng = tmp_path / "store.db", random.Random(kills)
    version = seq = 0
    for _ in range(kills):
        worker.start("write", path)
        _, pid = worker.read()
        lines = [worker.read() for _ in range(rng.choice((0, 1, 2, 3, 5, 8, 13)))]
        for _ in range(rng.randrange(5_000)):  # a moment that differs, shorter than a commit
            pass
        os.kill(pid, signal.SIGKILL)
        lines += worker.read_until_done()
        version, seq = highest(lines, "version", version), highest(lines, "seq", seq)
        with closing(SqliteStore(path)) as store:
            history = store.history("m")
            # One more may be there: committed, but killed before it could say so.
            assert len(history) in (version, version + 1)
            assert history == list(range(len(history), 0, -1))
            assert store.head("m") == (history[0] if history else None)
            if history:
                assert store.load("m") == snapshot(history[0])
                assert store.load("m", max(1, version)) == snapshot(max(1, version))
            numbers = [record.seq for record in store.log("m")]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) in (seq, seq + 1)
            version, seq = len(history), len(numbers)
    assert version > kills
    with closing(SqliteStore(path)) as store:
        for number in range(1, version + 1):
            assert store.load("m", number) == snapshot(number)


def contents(store: Store) -> list[object]:
    return [store.list()] + [
        (store.head(key), [store.load(key, v) for v in store.history(key)], list(store.log(key)))
        for key in ("m", "n")
    ]


def test_a_writer_killed_before_any_statement_leaves_whole_steps(
    worker: Worker, tmp_path: Path
) -> None:
    model = MemoryStore()
    expected = [contents(model)]
    for step in SCRIPT:
        step(model)
        expected.append(contents(model))
    died_after = set()
    for at in range(1, 500):
        path = tmp_path / f"{at}.db"
        worker.start("die", path, at)
        lines = [what for what, _ in worker.read_until_done()]
        steps = lines.count("step")
        with closing(SqliteStore(path)) as store:
            assert contents(store) in expected[steps : steps + 2], f"before statement {at}"
        if "finished" in lines:
            break
        died_after.add(steps)
    else:
        pytest.fail("the script never ran to its end")
    assert died_after >= set(range(len(SCRIPT)))


def test_of_four_processes_one_wins_each_version(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    for _ in range(4):
        worker.start("race", path, 60)
    worker.start("wait", path)
    lines = worker.read_until_done(processes=4)
    for what in ("version", "seq"):
        assert sorted(number for name, number in lines if name == what) == list(range(1, 61))
    with closing(SqliteStore(path)) as store:
        assert store.history("m") == list(range(60, 0, -1))
        assert [record.seq for record in store.log("m")] == list(range(1, 61))
