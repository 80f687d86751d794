"""The path of one interaction up to its complete answer: every transition, under the memory's lock.

Whoever makes a transition owns its follow-up; the loser of a race finds the phase changed and does
nothing. So a cancel, a stop, a timeout and the last token can come at once from four threads.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Literal

from ._generating import Generating
from ._line import Line
from ._turn import Phase, Turn
from .answer import Answer, Usage
from .errors import ClosedError, InteractionCancelled
from .events import AnswerCompleted, Cancelled, ErrorInfo, Event, Failed, MemorySkipped, error_of
from .model import CompletedInteraction

if TYPE_CHECKING:
    from ._engine import Engine
    from ._tenants import Tenant
    from .model import Channel


class Answering(Generating):
    """Started, token by token, answered; or cancelled, failed, timed out."""

    name: str

    def __init__(self, engine: Engine, tenant: Tenant, run_id: str) -> None:
        super().__init__(engine, tenant, run_id)
        self.active: dict[Turn, None] = {}
        """The interactions that hold a lease, oldest first."""
        self.line = Line()
        self.keys_under_way: set[str] = set()

    @abstractmethod
    def dispatch(self) -> None:
        """Give the lease to whoever is next. Lock held."""

    @abstractmethod
    def check_idle(self) -> None:
        """Tell those who wait for it when nothing runs any more. Lock held."""

    # Called from any thread

    def cancel(self, turn: Turn, reason: str = "cancelled") -> bool:
        """Abandon it. False when the answer is complete, or it is over."""
        with self:
            return self._cancel(turn, reason)

    def stop(self, turn: Turn) -> bool:
        """Complete the answer with what there is. False when nothing is being generated."""
        with self:
            if turn.phase is not Phase.STARTED:
                return False
            self._answered(turn, "stopped")
            self.after(self.engine.kick)
            return True

    # Transitions, lock held

    def _answered(self, turn: Turn, finish_reason: str) -> None:
        turn.answered_at = self.engine.now()
        turn.phase = Phase.ANSWERED
        text, ids = "".join(turn.texts), tuple(turn.ids)
        thinking, thinking_ids = _part(turn, "thinking")
        tool_call, tool_call_ids = _part(turn, "tool_call")
        turn.answer = answer = Answer(
            text=text,
            token_ids=ids,
            finish_reason=finish_reason,  # type: ignore[arg-type]
            usage=Usage(
                query_tokens=getattr(turn.decoding, "query_tokens", 0),
                answer_tokens=max(turn.index, len(ids)),
            ),
            interaction=turn.id,
            conversation=turn.channel.name,
            read_version=turn.read_version,
            thinking=thinking,
            tool_call=tool_call,
        )
        turn.completed = CompletedInteraction(
            query=turn.channel.label + turn.query,
            answer=text,
            token_ids=ids,
            thinking=thinking,
            thinking_ids=thinking_ids,
            tool_call=tool_call,
            tool_call_ids=tool_call_ids,
            tool_result=turn.tool_result,
            instruction=turn.instruction,
        )
        turn.texts, turn.ids, turn.other = [], [], {}
        event = AnswerCompleted(
            **self.head(turn),
            text=text,
            token_ids=ids,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            thinking=thinking,
            tool_call=tool_call,
        )
        self.emit(turn, event)
        if turn.channel.read_only or not turn.remember or not answer.says_something:
            forgetful = turn.channel.read_only or not turn.remember
            reason = "read_only" if forgetful else "empty"
            self.emit(turn, MemorySkipped(**self.head(turn), reason=reason))
            self.memorizer.record_only(turn)
            self.finish(turn, None)
            return
        self._arm(turn)
        self.memorizer.enqueue(turn)

    def _cancel(self, turn: Turn, reason: str) -> bool:
        if turn.phase > Phase.STARTED:
            return False
        phase: Literal["queued", "generating"] = "generating"
        if turn.phase is Phase.QUEUED:
            phase = "queued"
            self.engine.tenants.unreserve(self.tenant)
            if not turn.leased:
                self.line.remove(turn)
        event = Cancelled(
            **self.head(turn),
            phase=phase,
            tokens=turn.index,
            reason=reason,  # type: ignore[arg-type]
        )
        self.emit(turn, event)
        note = f"interaction {turn.id} was cancelled while {phase}: {reason}"
        self.finish(turn, None, _located(InteractionCancelled(note), turn))
        return True

    def _fail(self, turn: Turn, error: Exception, stage: str) -> None:
        if turn.phase is Phase.QUEUED:
            self.engine.tenants.unreserve(self.tenant)
            if not turn.leased:
                self.line.remove(turn)
        info = ErrorInfo.of(error)
        event = Failed(**self.head(turn), error=info, phase=stage, retryable=True)
        self.emit(turn, event)
        wrapped = self.explain(turn, event, stage)
        self.finish(turn, wrapped, wrapped)

    def explain(self, turn: Turn, event: Event, stage: str) -> Exception:
        """The error that ends the stream of ``turn``, saying where it happened."""
        error = error_of(event)
        assert error is not None
        error.add_note(
            f"rxstream: interaction {turn.id}, stage {stage}, memory {self.name!r} "
            f"version {self.memorizer.version}"
        )
        return _located(error, turn)

    def finish(self, turn: Turn, error: Exception | None, outcome: Exception | None = None) -> None:
        """After its terminal event: end its stream, settle its answer, pass the lease on."""
        turn.phase = Phase.OVER
        if turn.key is not None:
            self.keys_under_way.discard(turn.key)
        if turn.timer is not None:
            turn.timer.cancel()
            turn.timer = None
        if outcome is not None:
            self.settle(partial(turn.promise.reject, outcome))
        self.end(turn.log, error)
        if turn.leased:
            turn.leased = False
            turn.channel.active -= 1
            self.active.pop(turn, None)
            self.after(self.engine.kick)  # the lane releases the decoding, if there is one
            self.dispatch()
        self.check_idle()

    # Timeouts: one timer for each interaction, re-armed when it comes too early

    def _arm(self, turn: Turn) -> None:
        deadline, _ = turn.next_deadline()
        if deadline >= turn.deadline or deadline == math.inf:
            return
        if turn.timer is not None:
            turn.timer.cancel()
        turn.deadline = deadline
        with suppress(ClosedError):
            turn.timer = self.engine.lanes.clock.submit_later(
                deadline - self.engine.now(), partial(self._expired, turn)
            )

    def _expired(self, turn: Turn) -> None:
        with self:
            turn.timer, turn.deadline = None, math.inf
            deadline, kind = turn.next_deadline()
            if deadline > self.engine.now():
                self._arm(turn)
                return
            error = TimeoutError(f"timeout {kind!r} is over")
            if kind == "memory":
                self.memorizer.failed(turn, error, "timeout")
            elif kind == "queued":
                self._cancel(turn, "queue_timeout")
            elif (
                turn.phase is Phase.STARTED
                and turn.timeouts.on_timeout == "stop"
                and kind != "first_token"
            ):
                self._answered(turn, "timeout")
                self.after(self.engine.kick)
            else:
                self._fail(turn, error, "timeout")


def _part(turn: Turn, channel: Channel) -> tuple[str, tuple[int, ...]]:
    texts, ids = turn.other.get(channel, ((), ()))
    return "".join(texts), tuple(ids)


def _located(error: Exception, turn: Turn) -> Exception:
    if turn.site:
        error.add_note(f"rxstream: asked at {turn.site}")
    return error
