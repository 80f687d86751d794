"""What tests of the log read it with."""

from __future__ import annotations

import threading
from typing import Any

from rxstream.log import EMPTY, END, Cursor, EventLog
from rxstream.testing import Recorder

POLICIES = ("block", "error", "latest")


class ManualClock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.time = 0.0
        self.pending: list[tuple[float, Any, Any]] = []

    def now(self) -> float:
        return self.time

    def submit_later(self, seconds: float, action: Any) -> Any:
        entry = (self.time + seconds, action, self)
        self.pending.append(entry)

        class Timer:
            def cancel(timer) -> None:
                if entry in self.pending:
                    self.pending.remove(entry)

        return Timer()

    def advance(self, seconds: float) -> None:
        self.time += seconds
        for entry in sorted((e for e in self.pending if e[0] <= self.time), key=lambda e: e[0]):
            self.pending.remove(entry)
            entry[1]()


def rest(cursor: Cursor[Any]) -> list[Any]:
    """What can be taken now."""
    taken = []
    while (item := cursor.take()) is not EMPTY and item is not END:
        taken.append(item)
    return taken


def inline(log: EventLog[Any], **options: Any) -> Recorder[Any]:
    recorder: Recorder[Any] = Recorder()
    handlers = (recorder.on_next, recorder.on_error, recorder.on_completed)
    log.subscribe(*handlers, **options).drain()
    return recorder


def in_thread(action: Any) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def finished(thread: threading.Thread) -> bool:
    thread.join(10)
    return not thread.is_alive()
