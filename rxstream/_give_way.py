"""Letting lanes begin that have work and wait for Python's interpreter.

A thread that computes keeps the interpreter for five milliseconds after another has asked for it. A
decode lane with hundreds of answers, whose device is always done before Python is, never waits for
anything: whatever another lane did, a memory update or a commit, cost that time again whenever it
had to wait for something, and could take a second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._lane import Lane

EVERY = 0.002
"""Seconds between two times, at least: giving way to everybody at once costs answers more than it
gives the others."""
MANY = 32
"""Answers of a step that take Python longer than any device: whoever else works needs the
interpreter in between. With fewer a step waits by itself, or computes without it."""
PAUSE = 50e-6
"""Seconds: so long takes a thread to wake up. Less gives the interpreter to nobody."""


class GiveWay:
    """To be called between two steps, on a lane that is none of ``lanes``."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes
        self._next = 0.0

    def __call__(self, answers: int) -> None:
        """``answers``: of a step."""
        now = time.monotonic()
        if now < self._next:
            return
        for lane in self._lanes:
            if lane.waits or (answers >= MANY and lane.works):
                time.sleep(PAUSE)
                self._next = time.monotonic() + EVERY
                return
