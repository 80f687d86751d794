"""SHA-256 of bytes that are being read or written meanwhile, computed on the other core."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

LARGE = 1 << 20
"""From so many bytes in one part on, a thread costs less than it gives: 0.1 ms, and 0.6 to hash."""


class Hashing:
    """A digest that grows by parts: large ones on a thread, which ends with it.

    The parts must stay as they are. To be used in ``with``, so that no thread is left. hashlib and
    the system's calls leave the interpreter to others while they are at work on many bytes.
    """

    def __init__(self, start: bytes) -> None:
        self._sum = hashlib.sha256(start)
        self._parts: SimpleQueue[bytes | memoryview | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended = True

    @property
    def pending(self) -> bool:
        """Whether there may be something to wait for."""
        return self._thread is not None

    def update(self, part: bytes | memoryview) -> None:
        """Go on with these bytes."""
        if self._thread is None and len(part) >= LARGE:
            thread = threading.Thread(target=self._run, name="rxstream-hash", daemon=True)
            with suppress(RuntimeError):  # no more threads, or the interpreter is about to end
                thread.start()
                self._thread, self._ended = thread, False
        if self._thread is None:
            self._sum.update(part)
        else:
            self._parts.put(part)

    def result(self) -> str:
        """``sha256:<hex>`` of all parts."""
        self.stop()
        assert self._ended, "the thread that hashes has failed"
        return f"sha256:{self._sum.hexdigest()}"

    def stop(self) -> None:
        """Wait for the thread, if there is one."""
        if self._thread is not None:
            self._parts.put(None)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Hashing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while (part := self._parts.get()) is not None:
            self._sum.update(part)
        self._ended = True
