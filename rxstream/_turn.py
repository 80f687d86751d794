"""What the runtime knows of one interaction while it runs."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ._promise import Pending

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from ._line import Channel
    from ._machine import Machine
    from ._tenants import Tenant
    from .answer import Answer
    from .events import Event
    from .lanes import Timer
    from .log import EventLog
    from .model import Channel as Part
    from .model import CompletedInteraction, Sampling, Thinking

Detach = Literal["cancel", "keep"]

PIECE = 96
"""What a prefill or an update costs beside its characters, in characters. Of the bundled model on
one CPU thread: 2.8 ms + 0.029 ms a character for a prefill, 3.5 ms + 0.04 ms for an update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each phase of an interaction may take, in seconds; None means for ever.

    They fire even while a model or store call hangs. What then comes out of that call is dropped.
    """

    queued: float | None = None
    """From the query to the start of generation. Ends in ``Cancelled("queue_timeout")``."""
    first_token: float | None = None
    """From the start of generation to the first token. Ends in ``Failed``."""
    between_tokens: float | None = None
    """From one token to the next. Ends as ``on_timeout`` says."""
    answer: float | None = None
    """From the query to the complete answer. Ends as ``on_timeout`` says."""
    memory: float | None = None
    """From the complete answer to the updated memory. Ends in ``MemoryFailed``."""
    on_timeout: Literal["fail", "stop"] = "fail"
    """``stop`` keeps a partial answer, and memory remembers it; ``fail`` drops it."""

    def __post_init__(self) -> None:
        for name in ("queued", "first_token", "between_tokens", "answer", "memory"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and value > 0):
                raise ValueError(f"timeout {name} must be a positive number, not {value!r}")
        if self.on_timeout not in ("fail", "stop"):
            raise ValueError(f"on_timeout must be 'fail' or 'stop', not {self.on_timeout!r}")


NO_TIMEOUTS = Timeouts()


class Phase(enum.IntEnum):
    """Where an interaction stands. Phases only ever go up."""

    QUEUED = 0
    STARTED = 1
    ANSWERED = 2
    """Complete, and waiting for an earlier update of the same memory."""
    UPDATING = 3
    OVER = 4


class Turn:
    """One interaction. All fields are guarded by the machine's lock, but for those of the lane."""

    __slots__ = (
        "__weakref__",
        "answer",
        "answered_at",
        "asked_at",
        "base_version",
        "channel",
        "charged",
        "committing",
        "completed",
        "context",
        "deadline",
        "decoding",
        "detach",
        "id",
        "ids",
        "given",
        "index",
        "instruction",
        "key",
        "last_token_at",
        "leased",
        "listeners",
        "log",
        "log_error",
        "machine",
        "other",
        "parked",
        "phase",
        "promise",
        "query",
        "read_version",
        "remember",
        "sampling",
        "seq",
        "since",
        "site",
        "started_at",
        "texts",
        "thinking",
        "ticket",
        "timed",
        "timeouts",
        "timer",
        "tool_result",
        "tools",
        "tries",
        "value",
    )

    def __init__(
        self,
        *,
        id: str,
        machine: Machine,
        channel: Channel,
        query: str,
        sampling: Sampling,
        key: str | None,
        timeouts: Timeouts,
        detach: Detach,
        remember: bool,
        given: CompletedInteraction | None,
        thinking: Thinking,
        tools: bool,
        tool_result: bool,
        instruction: str,
        context: contextvars.Context,
        may_wait: Callable[[], None],
        asked_at: float,
        site: str,
    ) -> None:
        self.id, self.machine, self.channel = id, machine, channel
        self.query, self.sampling, self.key = query, sampling, key
        self.timeouts, self.detach, self.context = timeouts, detach, context
        self.timed = timeouts is not NO_TIMEOUTS
        self.remember, self.given, self.site = remember, given, site
        self.thinking: Thinking = thinking
        self.tools, self.tool_result = tools, tool_result
        self.instruction = instruction
        self.log: EventLog[Event]
        self.promise: Pending[Answer] = Pending(may_wait)
        self.phase = Phase.QUEUED
        self.ticket = 0
        self.leased = False
        self.listeners = 0
        self.asked_at = self.since = asked_at
        self.started_at = self.last_token_at = self.answered_at = 0.0
        self.deadline = math.inf
        self.timer: Timer | None = None
        self.index = 0
        self.ids: list[int] = []
        self.texts: list[str] = []
        self.other: dict[Part, tuple[list[str], list[int]]] = {}
        """Texts and ids of what is generated beside the answer."""
        self.answer: Answer | None = None
        self.completed: CompletedInteraction | None = None
        self.read_version = self.base_version = 0
        # Of the update
        self.seq: int | None = None
        self.log_error: Exception | None = None
        self.value: Any = None
        self.tries = 0
        self.committing = False
        # Of the decode lane alone
        self.decoding: Any = None
        self.parked = False
        self.charged = 0

    @property
    def tenant(self) -> Tenant:
        """Whose it is."""
        return self.machine.tenant

    @property
    def lag(self) -> float:
        """For how many seconds its memory has owed an update."""
        return self.machine.lag

    @property
    def size(self) -> int:
        """How much work its next step is, for the scheduling policy."""
        answer = self.answer
        if answer is None:
            return PIECE + len(self.instruction) + len(self.query)
        said = len(answer.text) + len(answer.thinking) + len(answer.tool_call)
        return PIECE + len(self.instruction) + len(self.query) + said

    @property
    def inherited(self) -> bool:
        """Whether another query waits for this one's update."""
        return self.machine.has_waiting

    def next_deadline(self) -> tuple[float, str]:
        """When the phase it is in must be over, and which timeout says so."""
        limits = self.timeouts
        if not self.timed or self.phase is Phase.OVER:
            return math.inf, ""
        if self.phase >= Phase.ANSWERED:
            return _after(self.answered_at, limits.memory), "memory"
        due = [(_after(self.asked_at, limits.answer), "answer")]
        if self.phase is Phase.QUEUED:
            due.append((_after(self.asked_at, limits.queued), "queued"))
        elif not self.index:
            due.append((_after(self.started_at, limits.first_token), "first_token"))
        else:
            due.append((_after(self.last_token_at, limits.between_tokens), "between_tokens"))
        return min(due)


def _after(start: float, seconds: float | None) -> float:
    return math.inf if seconds is None else start + seconds
