"""Subscribers of every kind that take one event, and then sleep until they are woken."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.to_thread

from rxstream.errors import SlowSubscriberError
from rxstream.stream import EventStream

PULL = ("blocking", "asyncio", "trio")


class Sleepers:
    """One subscriber of each kind; ``outcomes`` is what each of them gets when it is woken."""

    def __init__(
        self, stream: EventStream[Any], overflow: Any, kinds: tuple[str, ...] = ("inline", *PULL)
    ) -> None:
        self._wake, self._asleep = threading.Event(), []
        self.outcomes: list[Any] = []
        self._called: threading.Thread | None = None
        self._threads = []
        for kind in kinds:
            asleep = threading.Event()
            self._asleep.append(asleep)
            if kind == "inline":
                self._subscribe(stream, asleep)
                continue
            ready = threading.Event()
            target = self._in_thread if kind == "blocking" else self._on_loop
            thread = threading.Thread(
                target=target, args=(stream, overflow, ready, asleep, kind), daemon=True
            )
            self._threads.append(thread)
            thread.start()
            assert ready.wait(30)

    def _subscribe(self, stream, asleep):
        def on_next(event):
            if not asleep.is_set():
                self._called = threading.current_thread()
                asleep.set()
                assert self._wake.wait(120)

        stream.subscribe(on_next, self.outcomes.append)

    def _in_thread(self, stream, overflow, ready, asleep, _):
        with stream.blocking(overflow=overflow, timeout=30, block_timeout=None) as reader:
            ready.set()
            next(reader)
            asleep.set()
            assert self._wake.wait(120)
            try:
                self.outcomes.append(next(reader))
            except SlowSubscriberError as error:
                self.outcomes.append(error)

    def _on_loop(self, stream, overflow, ready, asleep, kind):
        async def main():
            async with stream.iter(overflow=overflow, block_timeout=None) as reader:
                ready.set()
                await anext(reader)
                asleep.set()
                await anyio.to_thread.run_sync(self._wake.wait)
                try:
                    self.outcomes.append(await anext(reader))
                except SlowSubscriberError as error:
                    self.outcomes.append(error)

        anyio.run(main, backend=kind)

    def all_asleep(self) -> None:
        """Wait until they are."""
        for asleep in self._asleep:
            assert asleep.wait(30)

    def end(self) -> None:
        """Wake them, and wait for their threads; the lane of one that was called is one now."""
        self._wake.set()
        threads = self._threads if self._called is None else [*self._threads, self._called]
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
