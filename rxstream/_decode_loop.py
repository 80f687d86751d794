"""One decode lane advances all interactions of all memories together."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ._batches import Batches, batched, check_size
from ._turn import Phase, Turn
from .errors import ClosedError

if TYPE_CHECKING:
    from ._engine import Engine
    from ._updates import Updates
    from .events import Event
    from .log import EventLog
    from .model import DecodeRequest

    _Begun = tuple[Turn, DecodeRequest[Any]]

logger = logging.getLogger("rxstream")


class DecodeLoop:
    """Prefills, and steps, of all that is being answered; on the decode lane."""

    def __init__(self, engine: Engine, updates: Updates) -> None:
        self.engine, self.lanes, self.model = engine, engine.lanes, engine.model
        self._updates, self._shared_lane = updates, engine.lanes.memory is engine.lanes.decode
        self.iterations = 0
        self.steps, self.prefills = Batches(), Batches()
        # Handed over by other threads; the lane moves them to the lists below.
        self._admitted: deque[Turn] = deque()
        self._kicked = False
        # Of the lane
        self._waiting: list[Turn] = []
        self._running: list[Turn] = []

    # From any thread

    @property
    def decoding(self) -> int:
        """Decodings that are open now."""
        return len(self._running)

    def admit(self, turn: Turn) -> None:
        """Prefill and decode it, batched with others."""
        self._admitted.append(turn)
        self.kick()

    def kick(self) -> None:
        """Make the decode lane look again. A redundant kick costs one empty iteration."""
        if not self._kicked:
            try:  # once for each token: `suppress` would cost as much as the rest
                self._kicked = True
                self.lanes.decode.submit(self._iterate)
            except ClosedError:
                pass
            except BaseException:  # a Ctrl-C between the two: nobody would ever kick again
                self._kicked = False
                raise

    def look(self) -> None:
        """A last ``kick`` before the lanes close, which cannot be redundant.

        Whoever kicks may be interrupted before it submits, and meanwhile every other kick counts as
        redundant. Were the lanes closed by then, decodings that are over would not be released.
        """
        with suppress(ClosedError):
            self.lanes.decode.submit(self._iterate)

    # On the lane

    def _iterate(self) -> None:
        self._kicked = False  # before looking: whatever comes from now on kicks again
        self.iterations += 1
        if self._admitted:
            self._collect()
        runnable = self._runnable() if self._running else None
        if runnable:
            self.lanes.give_way(len(runnable))  # by now, what the last one gave is delivered
            self._step(runnable)
        # Whatever else there is to do, subscribers get their tokens first.
        if (self._waiting and len(self._running) < self.model.max_batch) or (
            self._shared_lane and self._updates
        ):
            self.lanes.then(self._carry_out)
        elif self._can_step():
            self.kick()

    def _collect(self) -> None:
        self._waiting = [turn for turn in self._waiting if turn.phase is Phase.QUEUED]
        while self._admitted:
            self._waiting.append(self._admitted.popleft())

    def _can_step(self) -> bool:
        for turn in self._running:
            if not turn.parked:
                return True
        return False

    def _runnable(self) -> list[Turn]:
        runnable = []
        for turn in tuple(self._running):
            if turn.phase is not Phase.STARTED:
                self._release(turn)
                continue
            # Hardly any reader holds a model up: those that do are asked how far they are.
            gated = turn.log.gates or turn.channel.log is not None or turn.machine.log is not None
            full = _full_log(turn) if gated else None
            if full is None:
                turn.parked = False
                runnable.append(turn)
            elif not turn.parked:
                turn.parked = True
                full.when_ready(partial(self._unpark, turn))
        return runnable

    def _unpark(self, turn: Turn) -> None:
        turn.parked = False
        self.kick()

    def _step(self, turns: list[Turn]) -> None:
        try:
            drafts = self.model.step([turn.decoding for turn in turns])
            check_size("step", turns, drafts)
        except Exception as error:
            # A step is not pure, so nobody can be tried again, and nobody can be blamed alone.
            for turn in turns:
                turn.machine.fail(turn, error, "decode")
                self._release(turn)
            return
        self.steps.add(len(drafts))
        for turn, draft in zip(turns, drafts, strict=True):
            try:
                goes_on = turn.machine.advance(turn, draft)
            except Exception as error:  # what the model returned is not a draft
                turn.machine.fail(turn, error, "decode")
                goes_on = False
            if not goes_on:
                self._release(turn)

    def _release(self, turn: Turn) -> None:
        self._running.remove(turn)
        turn.tenant.decoding -= 1
        _charge(turn)
        decoding, turn.decoding = turn.decoding, None
        self._finish(decoding)

    def _finish(self, decoding: Any) -> None:
        try:
            self.model.finish(decoding)
        except Exception:
            logger.exception("the model failed to release a decoding")

    def _carry_out(self) -> None:
        """What the policy chooses beside the step."""
        for turn in self._running:
            _charge(turn)
        self._waiting = [turn for turn in self._waiting if turn.phase is Phase.QUEUED]
        planned = self.engine.planner.plan(
            self._waiting,
            self._updates.collect() if self._shared_lane else [],
            running=len(self._running),
            free=max(0, self.model.max_batch - len(self._running)),
            lag=0.0 if self._shared_lane else self._updates.lag(),
            costs=(self.prefills.cost, self._updates.batches.cost),
        )
        prefills, self._waiting, updates, left = planned
        if self._shared_lane:
            self._updates.waiting = left
        begun = self._begin(prefills)
        if begun or updates:
            self.lanes.then(partial(self._work, begun, updates))
        elif prefills or self._can_step():
            self.kick()

    def _work(self, begun: list[_Begun], updates: list[Turn]) -> None:
        if begun:
            self._prefill(begun)
        if updates:
            self._updates.run(updates)
        self.kick()

    def _begin(self, turns: list[Turn]) -> list[_Begun]:
        begun = []
        for turn in turns:
            if turn.given is not None:
                turn.machine.give(turn, turn.given)
            elif (request := turn.machine.begin(turn)) is not None:
                begun.append((turn, request))
        return begun

    def _prefill(self, begun: list[_Begun]) -> None:
        self.prefills.add(len(begun))
        began = self.engine.now()
        outcomes = batched("start", self.model.start, [request for _, request in begun])
        self.prefills.took(self.engine.now() - began, sum(turn.size for turn, _ in begun))
        for (turn, _), (decoding, error) in zip(begun, outcomes, strict=True):
            if error is not None:
                turn.machine.fail(turn, error, "prefill")
            else:
                # Over already? Then the next iteration releases it, on this lane like any other.
                turn.decoding, turn.parked = decoding, False
                turn.tenant.decoding += 1
                turn.tenant.prefilled += turn.size
                self._running.append(turn)


def _charge(turn: Turn) -> None:
    """Count the tokens that are new to its tenant."""
    turn.tenant.tokens += turn.index - turn.charged
    turn.charged = turn.index


def _full_log(turn: Turn) -> EventLog[Event] | None:
    """The stream that must be read before the next token, if there is one."""
    if not turn.log.ready():
        return turn.log
    for log in (turn.channel.log, turn.machine.log):
        if log is not None and not log.ready():
            return log
    return None
