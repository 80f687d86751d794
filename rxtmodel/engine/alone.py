"""Kernels whose blocks wait for each other: one at a time on a device, and updates before them.

Two of them beside each other could each hold multiprocessors that the other's last blocks need, and
neither would end. Beside work of another kind they do end, but only once all of their blocks have
found a place between its blocks; and that work gets on only where one of them ends and the next
has not begun. So what was launched for a memory update goes first.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .driver import Event, Queue

_lock = threading.Lock()
_last: dict[int, tuple[Queue, Event]] = {}
"""Of each device: where the last one was launched, and when it is over."""
_first: dict[int, dict[Queue, Event]] = {}
"""Of each device: what the next one waits for, by queue."""


def goes_first(queue: Queue, event: Event) -> None:
    """The next that is ``alone`` comes after ``event`` of ``queue``."""
    with _lock:
        _first.setdefault(queue.stream.device_index, {})[queue] = event


@contextmanager
def alone(queue: Queue) -> Iterator[None]:
    """What is launched inside on ``queue`` comes after all that was launched so elsewhere."""
    device = queue.stream.device_index
    with _lock:
        before, over = _last.get(device, (queue, None))
        if before is not queue and over is not None:
            queue.wait(over)
        for event in _first.pop(device, {}).values():
            queue.wait(event)
        try:
            yield
        finally:
            # Recorded again at every launch: whoever waits, waits for the latest one.
            if before is not queue or over is None:
                over = queue.event()
            else:
                queue.record(over)
            _last[device] = queue, over
