"""The memory updates of all memories: collected, and computed in batches."""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ._batches import Batches, batched
from ._turn import Phase, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._engine import Engine


class Updates:
    """As the policy says, on the memory lane; it may be the decode lane, between two steps."""

    def __init__(self, engine: Engine, *, shares_lane: bool) -> None:
        self._engine, self._shares_lane = engine, shares_lane
        self._handed_over: deque[Turn] = deque()
        self._kicked = False
        self.waiting: list[Turn] = []
        """Of the lane."""
        self.batches = Batches()
        self._oldest = math.inf
        self._lock = threading.Lock()

    def add(self, turn: Turn) -> None:
        """From any thread: compute its update."""
        with self._lock:
            self._handed_over.append(turn)
            self._oldest = min(self._oldest, turn.since)
        if self._shares_lane:
            self._engine.kick()
        else:
            self._kick()

    def __bool__(self) -> bool:
        return bool(self.waiting or self._handed_over)

    def collect(self) -> list[Turn]:
        """Everything that waits; on the lane."""
        while self._handed_over:
            self.waiting.append(self._handed_over.popleft())
        return self.waiting

    def lag(self) -> float:
        """Age of the oldest that is not computed, on a memory lane of its own. From any thread."""
        return max(0.0, self._engine.now() - self._oldest)

    def _run_some(self) -> None:
        self._kicked = False  # before looking: whatever comes from now on kicks again
        turns = self.collect()
        _, _, chosen, self.waiting = self._engine.planner.plan(
            [], turns, running=0, free=0, lag=0.0, costs=(0.0, self.batches.cost)
        )
        self.run(chosen)
        with self._lock:
            self._oldest = min((turn.since for turn in self.collect()), default=math.inf)
        if chosen and self.waiting:
            self._kick()
        # Queries that were held back for this may begin now.
        self._engine.kick()

    def _kick(self) -> None:
        if not self._kicked:
            try:
                self._kicked = True
                self._engine.on_memory(self._run_some)
            except BaseException:  # a Ctrl-C between the two, as in Engine.kick
                self._kicked = False
                raise

    def run(self, turns: list[Turn]) -> None:
        """Encode and attend, batched; on the lane."""
        turns = [turn for turn in turns if turn.phase is Phase.UPDATING]
        if not turns:
            return
        self.batches.add(len(turns))
        began = self._engine.now()
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
        outcomes = batched("attend", attend, encoded)
        self.batches.took(self._engine.now() - began, sum(turn.size for turn in turns))
        for (turn, _), (value, error) in zip(encoded, outcomes, strict=True):
            if error is not None:
                turn.machine.memorizer.compute_failed(turn, error)
            else:
                turn.tenant.updated += turn.size
                turn.machine.memorizer.computed(turn, value)
