"""A subscriber that keeps what it gets."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from reactivex import abc

from ..events import LETTERS

if TYPE_CHECKING:
    from reactivex import Observable

T = TypeVar("T")


class Recorder(abc.ObserverBase[T], Generic[T]):
    """Keeps ``items``, then ``ended`` or ``error``; subscribes at once when given a source.

    ``overlaps`` counts calls that came while another one was running, ``late`` calls after the end:
    both must stay 0. ``threads`` are the idents of the calling threads, one for each item.
    """

    def __init__(self, source: Observable[T] | None = None) -> None:
        self.items: list[T] = []
        self.ended = False
        self.error: Exception | None = None
        self.threads: list[int] = []
        self.overlaps = 0
        self.late = 0
        self._changed = threading.Condition()
        self._inside = threading.Lock()
        self._subscription: abc.DisposableBase | None = None
        if source is not None:
            self._subscription = source.subscribe(self)

    def on_next(self, value: T) -> None:
        """Keep ``value``."""
        if not self._inside.acquire(blocking=False):
            self.overlaps += 1
            return
        try:
            with self._changed:
                self.late += self.over
                self.items.append(value)
                self.threads.append(threading.get_ident())
                self._changed.notify_all()
        finally:
            self._inside.release()

    def on_error(self, error: Exception) -> None:
        """Keep ``error``."""
        with self._changed:
            self.late += self.over
            self.error = error
            self._changed.notify_all()

    def on_completed(self) -> None:
        """Note the end."""
        with self._changed:
            self.late += self.over
            self.ended = True
            self._changed.notify_all()

    @property
    def over(self) -> bool:
        """Whether a terminal signal came."""
        return self.ended or self.error is not None

    @property
    def letters(self) -> str:
        """The items as a word of the grammar."""
        return "".join(LETTERS[getattr(item, "kind", "")] for item in self.items)

    def wait(self, timeout: float = 10.0) -> Recorder[T]:
        """Wait on this thread for the terminal signal. Raises ``TimeoutError``."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.over, timeout):
                raise TimeoutError(f"no end after {timeout} s and {len(self.items)} items")
        return self

    def wait_for(self, count: int, timeout: float = 10.0) -> list[T]:
        """Wait on this thread until there are ``count`` items. Raises ``TimeoutError``."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.items) >= count, timeout):
                raise TimeoutError(f"{len(self.items)} of {count} items after {timeout} s")
            return self.items[:count]

    def dispose(self, *_: Any) -> None:
        """Stop listening."""
        if self._subscription is not None:
            self._subscription.dispose()
