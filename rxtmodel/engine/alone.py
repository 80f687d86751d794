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

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_last: dict[int, tuple[torch.cuda.Stream, torch.cuda.Event]] = {}
"""Of each device: where the last one was launched, and when it is over."""
_first: dict[int, dict[torch.cuda.Stream, torch.cuda.Event]] = {}
"""Of each device: what the next one waits for, by stream."""


def goes_first(stream: torch.cuda.Stream, event: torch.cuda.Event) -> None:
    """The next that is ``alone`` comes after all that was launched on ``stream`` by now, which
    ``event`` is recorded behind."""
    event.record(stream)
    with _lock:
        _first.setdefault(stream.device_index, {})[stream] = event


@contextmanager
def alone(stream: torch.cuda.Stream) -> Iterator[None]:
    """What is launched inside on ``stream`` comes after all that was launched so elsewhere."""
    with _lock:
        before, over = _last.get(stream.device_index, (stream, None))
        if before != stream and over is not None:
            stream.wait_event(over)
        for event in _first.pop(stream.device_index, {}).values():
            stream.wait_event(event)
        try:
            yield
        finally:
            # Recorded again at every launch: whoever waits, waits for the latest one.
            if before != stream or over is None:
                over = torch.cuda.Event()
            over.record(stream)
            _last[stream.device_index] = stream, over
