"""Readers of four kinds and three policies that a test drives in one way."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from rxstream.log import EventLog
from rxstream.stream import EventStream
from rxstream.testing import Recorder

KINDS = ("inline", "asyncio", "trio", "blocking")
POLICIES = ("block", "error", "latest")
PULL = ("asyncio", "trio", "blocking")

LEFT_OUT: dict[str, dict[tuple[str, str], str]] = {
    "101 demand": {("inline", "*"): "a subscriber that is called has no demand of its own to give"},
    "101 gate": {
        ("*", "error"): "gates nobody: its demand is unbounded, see 3.17",
        ("*", "latest"): "gates nobody: its demand is unbounded, see 3.17",
    },
    "108 own": {
        (kind, "*"): "an iterator is not called, so nothing can come while it closes itself"
        for kind in PULL
    },
    "201": {
        ("*", "error"): "its reads give no room to anybody, see 3.17",
        ("*", "latest"): "its reads give no room to anybody, see 3.17",
    },
    "202": {("*", "block"): "holding the publisher up is what it asks for, see 1.01"},
    "205": {("inline", "*"): "it is called one at a time (1.03), and cannot read a second time"},
    "210 full": {
        ("*", "error"): "is never full: it is overtaken instead",
        ("*", "latest"): "is never full: it is overtaken instead",
    },
    "310": {
        ("*", "error"): "the publisher never waits for it",
        ("*", "latest"): "the publisher never waits for it",
    },
    "317": {("*", "block"): "has bounded demand: its room in the log"},
}
"""Per rule (and aspect of it): which kinds and policies are not tested, and why."""


def cases(rule: str) -> pytest.MarkDecorator:
    """Parametrise ``kind`` and ``overflow`` over all that apply to ``rule``."""
    out = LEFT_OUT.get(rule, {})
    return pytest.mark.parametrize(
        "kind, overflow",
        [
            (kind, overflow)
            for kind in KINDS
            for overflow in POLICIES
            if not {(kind, overflow), (kind, "*"), ("*", overflow)} & out.keys()
        ],
    )


class Reader:
    """Reads ``stream``. ``record`` has what came; ``on_item`` runs after each item, on its thread.

    An inline reader is called as events come, unless ``held``: then its first call waits for
    ``let_go``. The others read as often as ``demand`` says, on a thread of their own.
    """

    def __init__(
        self,
        kind: str,
        stream: EventStream[Any],
        overflow: str,
        *,
        start: int | None = None,
        held: bool = False,
        on_item: Callable[[Any], object] = lambda item: None,
    ) -> None:
        self.kind, self.record, self.on_item = kind, Recorder[Any](), on_item
        self._stream, self._overflow = stream, overflow
        self._start = stream._start if start is None else start
        self._tickets: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._entered, self._gate, self._opened = (threading.Event() for _ in range(3))
        self.handle: Any = None
        self.thread: threading.Thread | None = None
        if not held:
            self._gate.set()
        if kind == "inline":
            handlers = (self._on_next, self.record.on_error, self.record.on_completed)
            options: Any = {"overflow": overflow, "start": self._start, "block_timeout": None}
            self.handle = stream._log.subscribe(*handlers, **options)
            self.handle.drain()
            return
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self._opened.wait(30)

    def _on_next(self, item: Any) -> None:
        self._entered.set()
        assert self._gate.wait(30)
        self.record.on_next(item)
        self.on_item(item)

    def _run(self) -> None:
        if self.kind == "blocking":
            self.handle = self._stream.blocking(
                overflow=self._overflow, start=self._start, block_timeout=None, timeout=30
            )
            self._opened.set()
            while self._wanted():
                try:
                    item = next(self.handle)
                except StopIteration:
                    return self.record.on_completed()
                except Exception as error:
                    return self.record.on_error(error)
                self._on_next(item)
        else:
            anyio.run(self._main, backend=self.kind)

    async def _main(self) -> None:
        self.handle = self._stream.iter(
            overflow=self._overflow, start=self._start, block_timeout=None
        )
        self._opened.set()
        while self._wanted():  # holds the loop up, which has no other task
            try:
                item = await anext(self.handle)
            except StopAsyncIteration:
                return self.record.on_completed()
            except Exception as error:
                return self.record.on_error(error)
            self._on_next(item)

    def _wanted(self) -> bool:
        return self._tickets.get() is not None

    def demand(self, count: int = 1) -> None:
        """Read so often."""
        for _ in range(count):
            self._tickets.put(1)

    def read_to_the_end(self) -> Recorder[Any]:
        """All that is left, and the end."""
        self.let_go()
        while not self.record.over:
            self.demand(64)
            try:
                self.record.wait(0.05)
            except TimeoutError:
                assert self.thread is None or self.thread.is_alive()
        return self.record

    def hold(self, log: EventLog[Any], item: Any) -> None:
        """Append ``item``, and wait until this reader has it in hand and goes no further."""
        emitter = threading.Thread(target=log.append, args=(item,), daemon=True)
        emitter.start()  # an inline reader holds this thread up
        self.demand()
        assert self._entered.wait(30)
        if self.kind == "inline":
            self.thread = emitter
        else:
            emitter.join(30)

    def let_go(self) -> None:
        """End ``held``."""
        self._gate.set()

    def cancel(self) -> None:
        """Dispose, or close, from this thread."""
        if self.kind == "inline":
            self.handle.dispose()
        else:
            self.handle.close()
        self._tickets.put(None)

    def join(self) -> None:
        """Cancel, and wait for its thread."""
        self.let_go()
        self.cancel()
        if self.thread is not None:
            self.thread.join(30)
            assert not self.thread.is_alive()


@pytest.fixture
def read():
    """Makes readers, and ends them."""
    readers: list[Reader] = []

    def make(*args: Any, **options: Any) -> Reader:
        readers.append(Reader(*args, **options))
        return readers[-1]

    yield make
    for reader in readers:
        reader.join()


def live(capacity: int = 64, **options: Any) -> tuple[EventLog[Any], EventStream[Any]]:
    """A log, and its stream from now on."""
    log: EventLog[Any] = EventLog(capacity, **options)
    return log, EventStream(log)


def until_parked(log: EventLog[Any]) -> None:
    """Wait until a reader waits for an event."""
    while not log._parked:
        threading.Event().wait(0.0005)
