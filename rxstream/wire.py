"""Events as plain values, for whoever sends them elsewhere in a format of their own."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from .answer import Usage
from .events import (
    AnswerCompleted,
    Cancelled,
    ErrorInfo,
    Event,
    Failed,
    Gap,
    GenerationStarted,
    MemoryFailed,
    MemorySkipped,
    MemoryUpdated,
    MemoryUpdating,
    QueryAccepted,
    Rejected,
    Token,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLASSES: dict[str, type[Event | Gap]] = {
    cls.kind: cls
    for cls in (
        *(Rejected, QueryAccepted, GenerationStarted, Token, AnswerCompleted, Cancelled, Failed),
        *(MemorySkipped, MemoryUpdating, MemoryUpdated, MemoryFailed, Gap),
    )
}
_FIELDS = {kind: tuple(f.name for f in fields(cls)) for kind, cls in _CLASSES.items()}


def to_wire(event: Event | Gap) -> dict[str, Any]:
    """``event`` as a dictionary of plain values: text, numbers, lists, dictionaries, None."""
    wire: dict[str, Any] = {"kind": event.kind}
    for name in _FIELDS[event.kind]:
        value = getattr(event, name)
        if isinstance(value, ErrorInfo):
            value = {
                "type": value.type,
                "message": value.message,
                "traceback_text": value.traceback_text,
            }
        elif isinstance(value, Usage):
            value = {"query_tokens": value.query_tokens, "answer_tokens": value.answer_tokens}
        elif isinstance(value, tuple):
            value = list(value)
        wire[name] = value
    return wire


def from_wire(wire: Mapping[str, Any]) -> Event | Gap:
    """Inverse of ``to_wire``. Fields of a newer version are ignored.

    Raises ``ValueError`` for an unknown kind and for a missing or ill-formed field.
    """
    kind = wire.get("kind")
    cls = _CLASSES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise ValueError(f"not an event: kind is {kind!r}, expected one of {sorted(_CLASSES)}")
    values = {name: wire[name] for name in _FIELDS[cls.kind] if name in wire}
    try:
        if "error" in values:
            values["error"] = ErrorInfo(**values["error"])
        if "usage" in values:
            values["usage"] = Usage(**values["usage"])
        if "token_ids" in values:
            values["token_ids"] = tuple(values["token_ids"])
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"not an event of kind {kind!r}: {error}") from error
