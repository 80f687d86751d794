"""What happens to a subscriber that does not return: it keeps its thread, and loses the lane."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from .errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._lane import Lane
    from .lanes import LaneLike

PATIENCE = 0.5
"""Seconds between two looks. A lane is taken over when both see the same call of a subscriber."""


class Watch:
    """Looks, while subscribers are being called, whether one of them does not return."""

    def __init__(self, clock: LaneLike, lanes: Iterable[Lane]) -> None:
        self._clock, self._lanes = clock, tuple(lanes)
        self.armed = False
        for lane in self._lanes:
            lane.watch(self)

    def arm(self) -> None:
        """Look in a while. Called on a lane that is about to call subscribers."""
        self.armed = True
        with suppress(ClosedError):
            self._clock.submit_later(PATIENCE, self._look)

    def _look(self) -> None:
        self.armed = False  # before looking: whoever begins from now on arms it again
        calling = [lane.relieve() for lane in self._lanes]
        if any(calling) and not self.armed:
            self.arm()
