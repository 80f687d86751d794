"""Strings that end an answer, found in text that comes in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


class StopStrings:
    """Passes text on until one of ``stops`` has come; neither it nor what follows is passed on.

    What could be the beginning of one is held back until it is clear, so it does not matter where
    the text is cut into pieces. Of several the one that is complete first counts. Raises
    ConfigError.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if isinstance(stops, str) or not all(isinstance(s, str) and s for s in stops):
            raise ConfigError(f"stop strings are a list of texts, none empty, got {stops!r}")
        self.stops = tuple(stops)
        self.found: str | None = None
        """The one that ended the text."""
        self._held = ""
        self._firsts = frozenset(stop[0] for stop in self.stops)

    def push(self, text: str) -> str:
        """What may be shown now."""
        if self.found is not None:
            return ""
        if not self._held and self._firsts.isdisjoint(text):
            return text  # none begins here
        held = self._held + text
        places = [(held.find(stop), stop) for stop in self.stops]
        # The longer of two that end together begins earlier.
        ends = [(start + len(stop), start, stop) for start, stop in places if start >= 0]
        if ends:
            _, start, self.found = min(ends)
            self._held = ""
            return held[:start]
        kept = max((_overlap(held, stop) for stop in self.stops), default=0)
        cut = len(held) - kept
        self._held = held[cut:]
        return held[:cut]

    def finish(self) -> str:
        """What was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``stop``, less than all."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
