"""The memory updates of all memories: collected, and computed in batches."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ._batches import batched
from ._turn import Phase, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._engine import Engine


class Updates:
    """Runs on the memory lane; on the decode lane, as its policy says, when that is the same."""

    def __init__(self, engine: Engine, *, shares_lane: bool) -> None:
        self._engine, self._shares_lane = engine, shares_lane
        self._handed_over: deque[Turn] = deque()
        self._kicked = False
        self.waiting: list[Turn] = []
        """Of the lane."""
        self.batches = 0

    def add(self, turn: Turn) -> None:
        """From any thread: compute its update."""
        self._handed_over.append(turn)
        if self._shares_lane:
            self._engine.kick()
        elif not self._kicked:
            self._kicked = True
            self._engine.on_memory(self._run_all)

    def __bool__(self) -> bool:
        return bool(self.waiting or self._handed_over)

    def collect(self) -> list[Turn]:
        """Everything that waits; on the lane."""
        while self._handed_over:
            self.waiting.append(self._handed_over.popleft())
        return self.waiting

    def _run_all(self) -> None:
        self._kicked = False  # before looking: whatever comes from now on kicks again
        turns, self.waiting = self.collect(), []
        self.run(turns)

    def run(self, turns: list[Turn]) -> None:
        """Encode and attend, batched; on the lane."""
        turns = [turn for turn in turns if turn.phase is Phase.UPDATING]
        if not turns:
            return
        self.batches += 1
        memories = {id(turn): turn.machine.memorizer.value for turn in turns}

        def attend(encoded: Sequence[tuple[Turn, Any]]) -> list[Any]:
            return self._engine.model.attend(
                [memories[id(turn)] for turn, _ in encoded], [code for _, code in encoded]
            )

        encoded: list[tuple[Turn, Any]] = []
        interactions = [turn.completed for turn in turns]
        for turn, (code, error) in zip(
            turns, batched("encode", self._engine.model.encode, interactions), strict=True
        ):
            if error is not None:
                turn.machine.memorizer.compute_failed(turn, error)
            else:
                encoded.append((turn, code))
        if not encoded:
            return
        for (turn, _), (value, error) in zip(
            encoded, batched("attend", attend, encoded), strict=True
        ):
            if error is not None:
                turn.machine.memorizer.compute_failed(turn, error)
            else:
                turn.machine.memorizer.computed(turn, value)
