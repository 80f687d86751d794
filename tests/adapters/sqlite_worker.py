"""Processes that write to a SQLite store and can be killed at any point.

``python -m tests.adapters.sqlite_worker`` reads commands, one a line, and forks one process for
each, which is quicker than to start and import anew. A process writes ``pid N`` first, then one
line for each acknowledgement, with one system call. When it has ended, ``done N`` follows.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import traceback
from itertools import count
from typing import TYPE_CHECKING, Any

from adapters.stores import _sqlite_connections
from adapters.stores.sqlite import SqliteStore
from rxstream.errors import VersionConflict
from rxstream.model import CompletedInteraction
from rxstream.snapshot import Snapshot
from rxstream.store import LogRecord
from rxstream.tensorfile import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxstream.store import Store

SIZES = (1_000, 200_000)


def snapshot(version: int, key: str = "m") -> Snapshot:
    size = SIZES[version % 2]
    state = encode({"stm": ("U8", (size,), bytes([version % 256]) * size)})
    return Snapshot(key, version, "model-1", state, created_at=1e9)


def record(text: str) -> LogRecord:
    completed = CompletedInteraction(query=text, answer=text)
    return LogRecord(seq=0, interaction=text, conversation="main", completed=completed)


def forget_second(store: Store) -> None:
    store.forget("m", 2)


def prune(store: Store) -> None:
    store.prune("m", keep_last=1)


SCRIPT: list[Callable[[Store], Any]] = [
    lambda store: store.commit(snapshot(1), expect=None),
    lambda store: store.append("m", record("one")),
    lambda store: store.append("m", record("two")),
    lambda store: store.commit(snapshot(2), expect=1),
    forget_second,
    prune,
    lambda store: store.commit(snapshot(1, "n"), expect=None),
    lambda store: store.delete("m"),
    lambda store: store.append("m", record("three")),
    lambda store: store.commit(snapshot(5), expect=3),
]
"""What ``die`` does, step by step; the same steps on a store in memory tell what must be there."""


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def write(path: str) -> None:
    """Commit and append for ever."""
    store = SqliteStore(path)
    say("open")
    while True:
        version = (store.head("m") or 0) + 1
        store.commit(snapshot(version), expect=version - 1 or None)
        say(f"version {version}")
        say(f"seq {store.append('m', record('x' * (version % 300))).seq}")


def race(path: str, last: int) -> None:
    """Win versions of one memory against others until version ``last`` is there."""
    store = SqliteStore(path)
    while (head := store.head("m") or 0) < last:
        try:
            store.commit(snapshot(head + 1), expect=head or None)
        except VersionConflict:
            continue
        say(f"version {head + 1}")
        say(f"seq {store.append('m', record('x')).seq}")
    store.close()


def die(path: str, at: int) -> None:
    """Run ``SCRIPT``, but be killed before the SQL statement number ``at``."""
    statements = count(1)
    connect = _sqlite_connections.Connections._connect

    def watch(_: str) -> None:
        if next(statements) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(self: _sqlite_connections.Connections, options: str) -> sqlite3.Connection:
        connection = connect(self, options)
        connection.set_trace_callback(watch)
        return connection

    _sqlite_connections.Connections._connect = watched  # type: ignore[method-assign]
    store = SqliteStore(path)
    for step in SCRIPT:
        step(store)
        say("step")
    store.close()
    say("finished")


COMMANDS: dict[str, Callable[..., None]] = {"write": write, "race": race, "die": die}


def serve() -> None:
    alive: set[int] = set()
    for line in sys.stdin:
        name, path, *numbers = line.rstrip("\n").split("\t")
        if name != "wait":
            pid = os.fork()
            if pid == 0:
                try:
                    say(f"pid {os.getpid()}")
                    COMMANDS[name](path, *map(int, numbers))
                except BaseException:
                    say("error " + traceback.format_exc().replace("\n", " | "))
                os._exit(0)
            alive.add(pid)
            if name == "race":
                continue
        while alive:
            pid, _ = os.wait()
            alive.discard(pid)
            say(f"done {pid}")


if __name__ == "__main__":
    serve()
