"""What happens in a conversation, as immutable values.

One interaction is a word of the grammar ``X | Q(C|F|S T*(C|F|A(K|U(D|E))))``; ``LETTERS`` maps the
kind of an event to its letter. Failures are events, too: only the stream of a single interaction
ends with an error, and ``error_of`` says which.

Events compare by value, can be hashed, pickled, and sent as plain dictionaries (see ``wire``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from ._error_info import ErrorInfo
from .errors import GenerationError, MemoryUpdateError, QueryRejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from .answer import FinishReason, Usage
    from .model import Channel

__all__ = [
    "LETTERS",
    "TERMINAL",
    "AnswerCompleted",
    "Cancelled",
    "ErrorInfo",
    "Event",
    "Failed",
    "Gap",
    "GenerationStarted",
    "MemoryFailed",
    "MemorySkipped",
    "MemoryUpdated",
    "MemoryUpdating",
    "QueryAccepted",
    "Rejected",
    "Token",
    "error_of",
]

CancelReason = Literal["cancelled", "detached", "superseded", "queue_timeout", "shutdown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Stands for ``skipped`` events that a reader with ``overflow="latest"`` was too slow for."""

    kind: ClassVar[Literal["gap"]] = "gap"
    skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """What all events share. ``seq`` counts the events of one memory without gaps; ``at`` is in
    nanoseconds of the clock that the runtime runs by."""

    conversation: str
    interaction: str
    seq: int
    at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(_Event):
    """X: the query was not accepted, nothing ran. ``version``: what a duplicate already wrote."""

    kind: ClassVar[Literal["query_rejected"]] = "query_rejected"
    reason: str
    message: str = ""
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryAccepted(_Event):
    """Q: the query waits; ``position`` interactions of its memory come before it."""

    kind: ClassVar[Literal["query_accepted"]] = "query_accepted"
    position: int = 0
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationStarted(_Event):
    """S: decoding begins, reading memory version ``read_version``."""

    kind: ClassVar[Literal["generation_started"]] = "generation_started"
    read_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(_Event):
    """T: one token. ``text`` may be empty: a token can be a part of a character."""

    kind: ClassVar[Literal["token"]] = "token"
    index: int
    id: int
    text: str
    channel: Channel = "answer"
    logprob: float | None = None

    # One is made for every token of every conversation: a frozen dataclass stores each field with
    # object.__setattr__, which looks its slot up by name; going to the slots takes a third less.
    def __init__(
        self,
        *,
        conversation: str,
        interaction: str,
        seq: int,
        index: int,
        id: int,
        text: str,
        channel: Channel = "answer",
        logprob: float | None = None,
        at: int = 0,
    ) -> None:
        _put_conversation(self, conversation)
        _put_interaction(self, interaction)
        _put_seq(self, seq)
        _put_at(self, at)
        _put_index(self, index)
        _put_id(self, id)
        _put_text(self, text)
        _put_channel(self, channel)
        _put_logprob(self, logprob)


def _slot(name: str) -> Callable[[Token, Any], None]:
    put: Callable[[Token, Any], None] = getattr(Token, name).__set__
    return put


_put_conversation = _slot("conversation")
_put_interaction = _slot("interaction")
_put_seq = _slot("seq")
_put_at = _slot("at")
_put_index = _slot("index")
_put_id = _slot("id")
_put_text = _slot("text")
_put_channel = _slot("channel")
_put_logprob = _slot("logprob")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCompleted(_Event):
    """A: the whole answer, so that a reader who lost tokens can repair itself."""

    kind: ClassVar[Literal["answer_completed"]] = "answer_completed"
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    thinking: str = ""
    tool_call: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(_Event):
    """C: given up before the answer was complete; the memory is untouched. Ends the interaction."""

    kind: ClassVar[Literal["cancelled"]] = "cancelled"
    phase: Literal["queued", "generating"]
    tokens: int = 0
    reason: CancelReason = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(_Event):
    """F: decoding failed in ``phase``; the memory is untouched. Ends the interaction."""

    kind: ClassVar[Literal["failed"]] = "failed"
    error: ErrorInfo
    phase: str
    retryable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySkipped(_Event):
    """K: the answer stands and is not remembered, for ``reason``. Ends the interaction."""

    kind: ClassVar[Literal["memory_skipped"]] = "memory_skipped"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUpdating(_Event):
    """U: the interaction is being folded into version ``base_version``."""

    kind: ClassVar[Literal["memory_updating"]] = "memory_updating"
    base_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUpdated(_Event):
    """D: ``version`` is the memory now. Ends the interaction.

    With ``interaction=""`` it stands alone: a restore (``cause="restore"``), or what another
    process wrote (``cause="rebase"``). An interaction that was folded in on top of such has the
    cause ``rebase``, too; its version may then be more than one above the last.
    """

    kind: ClassVar[Literal["memory_updated"]] = "memory_updated"
    version: int
    digest: str = ""
    durable: bool = False
    seconds: float = 0.0
    cause: Literal["interaction", "restore", "rebase"] = "interaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFailed(_Event):
    """E: the update failed; the answer stands, the memory stays at ``base_version``. Ends it."""

    kind: ClassVar[Literal["memory_failed"]] = "memory_failed"
    base_version: int
    error: ErrorInfo
    reason: str = "error"


Event: TypeAlias = (
    Rejected
    | QueryAccepted
    | GenerationStarted
    | Token
    | AnswerCompleted
    | Cancelled
    | Failed
    | MemorySkipped
    | MemoryUpdating
    | MemoryUpdated
    | MemoryFailed
)

LETTERS: dict[str, str] = {
    "query_rejected": "X",
    "query_accepted": "Q",
    "generation_started": "S",
    "token": "T",
    "answer_completed": "A",
    "cancelled": "C",
    "failed": "F",
    "memory_skipped": "K",
    "memory_updating": "U",
    "memory_updated": "D",
    "memory_failed": "E",
}
"""The letter of each kind of event in the grammar of an interaction."""

TERMINAL: frozenset[str] = frozenset(kind for kind, letter in LETTERS.items() if letter in "XCFKDE")
"""The kinds that end an interaction."""


def error_of(event: Event) -> Exception | None:
    """The error with which the stream of an interaction ends after ``event``; None: it completes.

    After F, E and X the stream of that interaction errors, after C, K and D it completes. Where the
    cause is known in this process it is the ``__cause__`` of the error.
    """
    match event:
        case Rejected():
            return QueryRejected(event.reason, event.message)
        case Failed():
            return _caused(GenerationError(f"{event.phase}: {_told(event.error)}"), event.error)
        case MemoryFailed():
            return _caused(MemoryUpdateError(_told(event.error)), event.error)
        case _:
            return None


def _told(error: ErrorInfo) -> str:
    return f"{error.type}: {error.message}" if error.message else error.type


def _caused(error: Exception, info: ErrorInfo) -> Exception:
    error.__cause__ = info.exception
    return error
