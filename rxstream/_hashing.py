"""SHA-256 of bytes that are being read or written meanwhile, computed on the other core."""

from __future__ import annotations

import _thread
import hashlib
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

LARGE = 1 << 19
"""From so many bytes in one part on, a thread costs less than it gives: 0.1 ms for 0.35."""

PART = 1 << 20
"""As large are the parts in which files are read here that are hashed meanwhile."""

STREAMED = 1 << 18
"""And those that somebody else sends meanwhile: each is hashed before the next one is taken."""


class Hashing:
    """A digest that grows by parts: if ``beside``, large ones on a thread, which ends with it.

    The parts must stay as they are. To be used in ``with``, so that no thread is left. It pays
    beside reading and writing, which leave the interpreter to others, as hashlib does; not beside a
    copy of memory, which does not, so that the thread would begin after it.
    """

    def __init__(self, start: bytes, beside: bool) -> None:
        self._beside = beside
        self._sum = hashlib.sha256(start)
        self._parts: SimpleQueue[bytes | memoryview | None] = SimpleQueue()
        self._running: _thread.LockType | None = None
        """Held by the thread, if there is one."""
        self._failed = False

    @property
    def pending(self) -> bool:
        """Whether there may be something to wait for."""
        return self._running is not None

    def update(self, part: bytes | memoryview) -> None:
        """Go on with these bytes."""
        if self._beside and self._running is None and len(part) >= LARGE:
            self._start()
        if self._running is None:
            self._sum.update(part)
        else:
            self._parts.put(part)

    def result(self) -> str:
        """``sha256:<hex>`` of all parts."""
        self.stop()
        if self._failed:
            raise RuntimeError("the thread that hashes has failed; its error was printed")
        return f"sha256:{self._sum.hexdigest()}"

    def stop(self) -> None:
        """Wait for the thread, if there is one."""
        if self._running is not None:
            self._parts.put(None)
            self._running.acquire()
            self._running = None

    def __enter__(self) -> Hashing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        # Not threading.Thread, whose start waits for the thread to run: that is 0.3 ms more.
        running = _thread.allocate_lock()
        running.acquire()
        with suppress(RuntimeError):  # no more threads, or the interpreter is about to end
            _thread.start_new_thread(self._run, (running,))
            self._running = running

    def _run(self, running: _thread.LockType) -> None:
        self._failed = True
        try:
            while (part := self._parts.get()) is not None:
                self._sum.update(part)
            self._failed = False
        finally:
            running.release()
