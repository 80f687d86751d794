"""Kernels whose blocks wait for each other: one at a time on a device.

Two of them beside each other could each hold multiprocessors that the other's last blocks need, and
neither would end.
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


@contextmanager
def alone(stream: torch.cuda.Stream) -> Iterator[None]:
    """What is launched inside on ``stream`` comes after all that was launched so elsewhere."""
    with _lock:
        before, over = _last.get(stream.device_index, (stream, None))
        if before != stream and over is not None:
            stream.wait_event(over)
        try:
            yield
        finally:
            # Recorded again at every launch: whoever waits, waits for the latest one.
            if before != stream or over is None:
                over = torch.cuda.Event()
            over.record(stream)
            _last[stream.device_index] = stream, over
