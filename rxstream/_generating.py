"""The path of one interaction through the decode lane: started, token by token, at its last one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ._frame import Frame
from ._turn import Phase, Turn
from .events import GenerationStarted, Token
from .model import CompletedInteraction, DecodeRequest

if TYPE_CHECKING:
    from ._engine import Engine
    from ._memorize import Memorizer
    from ._tenants import Tenant
    from .model import TokenDraft


class Generating(Frame, ABC):
    """What the decode lane calls. What it leads to, ``Answering`` knows."""

    memorizer: Memorizer

    def __init__(self, engine: Engine, tenant: Tenant, run_id: str) -> None:
        super().__init__(engine, run_id)
        self.tenant = tenant

    def begin(self, turn: Turn) -> DecodeRequest[Any] | None:
        """Queued -> started. None when it is over already."""
        with self:
            if turn.phase is not Phase.QUEUED:
                return None
            turn.phase = Phase.STARTED
            self.engine.tenants.unreserve(self.tenant)
            turn.started_at = self.engine.now()
            memory = self.memorizer
            turn.read_version = memory.version
            started = GenerationStarted(**self.head(turn), read_version=memory.version)
            self.emit(turn, started, urgent=False)  # the first token mostly comes right after
            self._arm(turn)
            return DecodeRequest(
                query=turn.channel.label + turn.query,
                memory=memory.value,
                sampling=turn.sampling,
                thinking=turn.thinking,
                tools=turn.tools,
                tool_result=turn.tool_result,
                instruction=turn.instruction,
            )

    def give(self, turn: Turn, given: CompletedInteraction) -> None:
        """Queued -> answered, with an answer that was generated elsewhere."""
        if self.begin(turn) is None:
            return
        with self:
            if turn.phase is Phase.STARTED:
                turn.texts, turn.ids = [given.answer], list(given.token_ids)
                turn.other = {
                    "thinking": ([given.thinking], list(given.thinking_ids)),
                    "tool_call": ([given.tool_call], list(given.tool_call_ids)),
                }
                self._answered(turn, "eos")

    def advance(self, turn: Turn, draft: TokenDraft) -> bool:
        """One more token. False when the decoding is of no further use."""
        if draft.finish is None and turn.index + 1 < turn.sampling.max_tokens:
            return self._go_on(turn, draft)
        with self:
            if turn.phase is not Phase.STARTED:
                return False
            finish = draft.finish
            if finish is None or draft.text or finish != "eos":
                urgent = not turn.index
                self.emit(turn, self._token(turn, draft), urgent=urgent)
            # A model that overruns would overrun the log as well.
            self._answered(turn, finish or "length")
            return False

    def _go_on(self, turn: Turn, draft: TokenDraft) -> bool:
        """A token after which another one comes: what happens most, so without the calls of a
        transition, of which it needs nothing but the lock and the events."""
        log, of_conversation, of_memory = turn.log, turn.channel.log, self.log
        with self._lock:
            if turn.phase is not Phase.STARTED:
                return False
            token = self._token(turn, draft)
            log.push(token)
            if of_conversation is not None:
                of_conversation.push(token)
            if of_memory is not None:
                of_memory.push(token)
            if turn.timed:
                turn.last_token_at = self.engine.now()
                self._arm(turn)
        urgent = not token.index
        log.flush(urgent)
        if of_conversation is not None:
            of_conversation.flush(urgent)
        if of_memory is not None:
            of_memory.flush(urgent)
        return True

    def _token(self, turn: Turn, draft: TokenDraft) -> Token:
        """The event of a token, which is part of the answer from now on. Lock held."""
        self.seq = seq = self.seq + 1
        index, text, channel, last = turn.index, draft.text, draft.channel, draft.finish == "eos"
        turn.index = index + 1
        if channel == "answer":
            turn.texts.append(text)
            if not last:
                turn.ids.append(draft.id)
        else:
            texts, ids = turn.other.setdefault(channel, ([], []))
            texts.append(text)
            if not last:
                ids.append(draft.id)
        return Token(
            conversation=turn.channel.name,
            interaction=turn.id,
            seq=seq,
            at=self.engine.time_ns(),
            index=index,
            id=draft.id,
            text=text,
            channel=channel,
        )

    def fail(self, turn: Turn, error: Exception, stage: str) -> None:
        """Decoding failed. Does nothing when it is over already."""
        with self:
            if turn.phase is Phase.STARTED:
                self._fail(turn, error, stage)

    # Transitions, lock held

    @abstractmethod
    def _answered(self, turn: Turn, finish_reason: str) -> None:
        """The answer is complete."""

    @abstractmethod
    def _fail(self, turn: Turn, error: Exception, stage: str) -> None:
        """There will be none."""

    @abstractmethod
    def _arm(self, turn: Turn) -> None:
        """Begin to watch its timeouts."""
