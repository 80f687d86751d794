"""Processes that write to a store by plain text, and can be killed at any point.

``python -m tests.adapters.store_worker`` reads commands, one a line, and forks a process for each,
which is quicker than to start and import anew. A process writes ``pid N`` first, then one line for
each acknowledgement, with one system call. When it has ended, ``done N`` follows.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
import traceback
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import reactivex as rx
from reactivex import operators as ops

import rxstream
from adapters.stores import _directory_files, _sqlite_connections
from rxstream import Runtime
from rxstream.errors import QueryRejected, VersionConflict
from rxstream.snapshot import Snapshot
from rxstream.stores.rules import check_key
from rxstream.testing import FakeModel
from rxstream.testing._store_samples import record, state

from .store_kinds import opener_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxstream.store import Store

SCRIPT: list[Callable[[Store], Any]] = [
    lambda store: store.commit(snapshot("m", 1), expect=None),
    lambda store: store.append("m", record("one")),
    lambda store: store.append("m", record("two")),
    lambda store: store.commit(snapshot("m", 2), expect=1),
    lambda store: store.forget("m", 2),
    lambda store: store.tag("m", "kept", 1),
    lambda store: store.commit(snapshot("m", 3), expect=2),
    lambda store: store.prune("m", keep_last=1),
    lambda store: store.commit(snapshot("n", 1), expect=None),
    lambda store: store.delete("m"),
    lambda store: store.append("m", record("three")),
    lambda store: store.commit(snapshot("m", 5), expect=4),
]
"""What ``die`` does; the same steps on a store in memory tell what must be there."""

CALLS = ("write", "fsync", "pwrite", "replace", "unlink", "mkdir", "ftruncate", "open")
"""Functions of ``os`` that change a directory store: its failpoints."""


SIZES = (1_000, 600_000)


def snapshot(key: str, version: int) -> Snapshot:
    """Small and large in turn, which is hashed beside its transfer."""
    held = state(version, SIZES[version % 2])
    return Snapshot(key, version, "model-1", held, created_at=1e9)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def write(opener: Callable[[], Store]) -> None:
    """Commit and append for ever."""
    store = opener()
    say("open")
    while True:
        version = (store.head("m") or 0) + 1
        store.commit(snapshot("m", version), expect=version - 1 or None)
        say(f"version {version}")
        say(f"seq {store.append('m', record('x' * (version % 300))).seq}")


def race(opener: Callable[[], Store], threads: str, tasks: str) -> None:
    """Each of ``threads`` wins ``tasks`` versions, of two memories in turn, against all others."""
    store = opener()

    def work() -> None:
        for task in range(int(tasks)):
            key = check_key(f"m{task % 2}")
            while True:
                head = store.head(key)
                try:
                    store.commit(snapshot(key, (head or 0) + 1), expect=head)
                except VersionConflict:
                    continue
                say(f"{key} {(head or 0) + 1}")
                break
            say(f"seq {store.append('log', record('x')).seq}")

    running = [threading.Thread(target=work) for _ in range(int(threads))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    store.close()


class _Deadly:
    """``os``, but the call number ``at`` that changes something kills the process instead."""

    def __init__(self, at: int) -> None:
        self._calls, self._at = count(1), at

    def __getattr__(self, name: str) -> Any:
        if name in CALLS and next(self._calls) == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(os, name)


def watch_statements(at: int) -> None:
    """Be killed before the SQL statement number ``at``."""
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


def die(opener: Callable[[], Store], kind: str, at: str) -> None:
    """Run ``SCRIPT``, but be killed before the SQL statement or change of a folder ``at``."""
    if kind == "sqlite":
        watch_statements(int(at))
    store = opener()
    if kind == "dir":
        _directory_files.os = _Deadly(int(at))  # type: ignore[assignment]
    for step in SCRIPT:
        step(store)
        say("step")
    store.close()
    say("finished")


def converse(
    opener: Callable[[], Store], name: str, durability: str, queries: str, at: str
) -> None:
    """Ask so many queries on a memory that others use, too; be killed before statement ``at``."""
    watch_statements(int(at))
    store = opener()
    with Runtime(FakeModel(), store=store, durability=durability) as runtime:  # type: ignore[arg-type]
        memory = runtime.memory("m", on_conflict="rebase")
        for n in range(int(queries)):
            it = memory.conversation(name).ask(
                f"{name}{n}", key=f"{name}{n}", raise_on_reject=False
            )
            with suppress(QueryRejected):  # an earlier process of this name was acknowledged
                it.result(60)
                say(f"{name}:acknowledged {n}")
            said = list(rxstream.blocking(it.pipe(ops.catch(rx.empty())), timeout=60))
            say(f"{name}:{said[-1].kind} {n}")
    store.close()
    say(f"{name}:finished")


COMMANDS: dict[str, Callable[..., None]] = {
    "write": write,
    "race": race,
    "die": die,
    "converse": converse,
}
TOGETHER = ("race", "converse")
"""Commands that run beside those which come after, until ``wait``."""


def serve() -> None:
    alive: set[int] = set()
    for line in sys.stdin:
        name, *words = line.rstrip("\n").split("\t")
        if name != "wait":
            pid = os.fork()
            if pid == 0:
                try:
                    say(f"pid {os.getpid()}")
                    kind, place, where, *more = words
                    COMMANDS[name](opener_of(kind, place, where), *more)
                except BaseException:
                    say("error " + traceback.format_exc().replace("\n", " | "))
                os._exit(0)
            alive.add(pid)
            if name in TOGETHER:
                continue
        while alive:
            pid, _ = os.wait()
            alive.discard(pid)
            say(f"done {pid}")


if __name__ == "__main__":
    serve()
