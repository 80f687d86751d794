"""A named channel on a memory."""

from __future__ import annotations

import contextvars
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from . import _debug
from ._checks import check_text, check_type
from ._turn import NO_TIMEOUTS, Timeouts, Turn
from .errors import QueryRejected
from .interaction import Interaction
from .model import CompletedInteraction, Sampling, Thinking
from .stream import EventStream

if TYPE_CHECKING:
    from ._line import Busy, Channel
    from ._machine import Machine
    from ._turn import Detach
    from .events import Event
    from .memory import ShortTermMemory

ROOM = 16
"""Room in an interaction's log beyond its tokens: all its other events, so that none is lost."""
CAPACITY = 4096
"""Events that the stream of a conversation or memory keeps for slow readers."""

_DEFAULT_SAMPLING = Sampling()


class Conversation:
    """Where queries are asked; made by ``memory.conversation(name)``. Any thread may use it.

    Interactions of one conversation run in the order asked; conversations of one memory take turns.
    """

    def __init__(self, memory: ShortTermMemory[Any], machine: Machine, channel: Channel) -> None:
        self._memory, self._machine, self._channel = memory, machine, channel
        self._events: EventStream[Event] | None = None

    def __repr__(self) -> str:
        return f"<Conversation {self.name!r} of {self._memory!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a conversation cannot be pickled; send memory.snapshot() instead")

    @property
    def name(self) -> str:
        """Its name, as in the events."""
        return self._channel.name

    @property
    def busy(self) -> Busy:
        """What a query does that comes while another runs."""
        return self._channel.busy

    @property
    def memory(self) -> ShortTermMemory[Any]:
        """The memory it speaks to."""
        return self._memory

    @property
    def events(self) -> EventStream[Event]:
        """All events of this conversation from the subscription on.

        It never ends with an error: a failed interaction is an event. It completes when the memory
        is closed. Kept are the newest 4096 events since the first use of this property.
        """
        machine, channel = self._machine, self._channel
        with machine:
            if channel.log is None:
                channel.log = machine.engine.log(CAPACITY)
                if machine.closed:
                    machine.end(channel.log)
            if self._events is None:
                self._events = EventStream(channel.log)
        return self._events

    def ask(
        self,
        query: str,
        *,
        sampling: Sampling | None = None,
        key: str | None = None,
        timeouts: Timeouts | None = None,
        detach: Detach = "cancel",
        remember: bool = True,
        raise_on_reject: bool = True,
        thinking: Thinking = "fast",
        tools: bool = False,
        tool_result: bool = False,
        instruction: str = "",
    ) -> Interaction:
        """Ask; returns at once, and the interaction runs whether or not anybody listens.

        ``key`` makes the query idempotent: a second one with the same key is rejected as
        ``duplicate`` while the first runs or after it was remembered. ``detach`` says what happens
        when the last listener goes before the answer is complete. ``remember=False`` answers from
        memory and leaves it as it is.

        ``thinking``: answer at once (``fast``), think first (``extended``), or as the model chooses
        (``auto``). ``tools`` lets the answer end with a tool call; what the tool returned is then
        asked with ``tool_result=True``. What is thought and called has channels of its own
        (``Token.channel``), stands apart in the answer, and is remembered with it. ``instruction``
        is what to follow while answering; it stands before the query, and is remembered with it.

        Raises QueryRejected (``queue_full, tenant_full, busy, closed, duplicate, too_long, invalid,
        halted``, and ``unsupported`` by a model that was not trained for that); with
        ``raise_on_reject=False`` the interaction's stream says so instead. TypeError and ValueError
        for wrong arguments; a key has 1 to 512 bytes. Never waits.
        """
        return self._start(
            query,
            sampling=sampling or _DEFAULT_SAMPLING,
            key=key,
            timeouts=timeouts or NO_TIMEOUTS,
            detach=detach,
            remember=remember,
            given=None,
            thinking=thinking,
            tools=tools,
            tool_result=tool_result,
            instruction=instruction,
            raise_on_reject=raise_on_reject,
        )

    def remember(
        self,
        query: str,
        answer: str,
        token_ids: tuple[int, ...] = (),
        *,
        key: str | None = None,
        raise_on_reject: bool = True,
    ) -> Interaction:
        """Fold in an interaction that happened elsewhere: an imported dialogue, another model.

        It takes its turn like a query, with the answer given. Raises QueryRejected, as ``ask``.
        """
        check_type(answer, str, "an answer")
        completed = CompletedInteraction(query=query, answer=answer, token_ids=token_ids)
        return self._remember(completed, key=key, raise_on_reject=raise_on_reject)

    def _remember(
        self,
        completed: CompletedInteraction,
        *,
        key: str | None = None,
        remember: bool = True,
        raise_on_reject: bool,
    ) -> Interaction:
        return self._start(
            completed.query,
            sampling=_DEFAULT_SAMPLING,
            key=key,
            timeouts=NO_TIMEOUTS,
            detach="keep",
            remember=remember,
            given=completed,
            thinking="fast",
            tools=False,
            tool_result=completed.tool_result,
            instruction=completed.instruction,
            raise_on_reject=raise_on_reject,
        )

    def _start(
        self,
        query: str,
        *,
        sampling: Sampling,
        key: str | None,
        timeouts: Timeouts,
        raise_on_reject: bool,
        detach: Detach,
        thinking: Thinking,
        instruction: str,
        **options: Any,
    ) -> Interaction:
        if thinking not in get_args(Thinking):
            known = ", ".join(get_args(Thinking))
            raise ValueError(f"thinking must be one of {known}, not {thinking!r}")
        if detach not in ("cancel", "keep"):
            raise ValueError(f"detach must be 'cancel' or 'keep', not {detach!r}")
        check_type(query, str, "a query")
        check_type(instruction, str, "an instruction")
        check_type(sampling, Sampling, "sampling")
        check_type(timeouts, Timeouts, "timeouts")
        if key is not None:
            check_text(key, "an idempotency key")
        machine = self._machine
        engine = machine.engine
        engine.check()
        turn = Turn(
            id=machine.new_id(),
            machine=machine,
            channel=self._channel,
            query=query,
            sampling=sampling,
            key=key,
            timeouts=timeouts,
            detach=detach,
            context=contextvars.copy_context(),
            may_wait=engine.may_wait,
            asked_at=engine.now(),
            site=_debug.site(),
            thinking=thinking,
            instruction=instruction,
            **options,
        )
        turn.log = engine.log(ROOM + sampling.max_tokens, on_detach=partial(machine.detached, turn))
        interaction = Interaction(turn)
        refusal = machine.ask(turn, self._unsupported(turn) or self._validate(query, instruction))
        if refusal is not None and raise_on_reject:
            raise refusal
        return interaction

    def _unsupported(self, turn: Turn) -> QueryRejected | None:
        if turn.given is not None:
            return None
        wanted = {
            "thinking": "to think before it answers" if turn.thinking != "fast" else "",
            "tool_call": "to call tools" if turn.tools or turn.tool_result else "",
        }
        model = self._machine.engine.model
        known = getattr(model, "channels", ())
        missing = [what for channel, what in wanted.items() if what and channel not in known]
        if turn.instruction and not getattr(model, "instructed", False):
            missing.append("to follow instructions")
        if missing:
            return QueryRejected(
                "unsupported",
                f"this model was not trained {' or '.join(missing)}; ask without thinking, tools, "
                "tool_result and instruction",
            )
        return None

    def _validate(self, query: str, instruction: str) -> QueryRejected | None:
        validate, query = self._machine.engine.model.validate, self._channel.label + query
        if instruction and not instruction.strip():
            return QueryRejected("invalid", "the instruction is blank; give it some text, or none")
        texts = [query, f"{instruction}\n{query}"] if instruction else [query]
        for text in texts:  # a query and its instruction share the room of a query
            try:
                text.encode()  # what cannot be put on record must not be answered
                validate(text)
            except QueryRejected as refusal:
                if text is query:
                    return refusal
                return QueryRejected(refusal.reason, f"with its instruction, {refusal}")
            except Exception as error:
                invalid = QueryRejected("invalid", f"the model cannot read the query: {error}")
                invalid.__cause__ = error
                return invalid
        return None
