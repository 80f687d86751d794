"""Exceptions as values: what an event says of a failure."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import builtins


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An exception that can be compared, pickled and sent.

    ``exception`` is the object itself where the failure happened in this process, else None; it
    takes no part in comparison and is left behind by pickle and by the wire. It has its causes and
    no traceback any more: streams keep thousands of events, and frames would keep the tensors of
    the call that failed. Where it was raised is in ``traceback_text``, and a note of the exception.
    """

    type: str
    message: str
    traceback_text: str = ""
    exception: BaseException | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, exception: BaseException) -> ErrorInfo:
        """Describe ``exception`` with its traceback as text, and take its traceback away."""
        text = "".join(traceback.format_exception(exception))
        _detach(exception)
        return cls(type(exception).__qualname__, str(exception), text, exception)

    def __reduce__(self) -> tuple[builtins.type[ErrorInfo], tuple[str, str, str]]:
        return ErrorInfo, (self.type, self.message, self.traceback_text)


_RAISED = "rxstream: raised here, on another thread perhaps:"


def _detach(exception: BaseException) -> None:
    """Replace the tracebacks of ``exception`` and its causes by notes."""
    todo: list[BaseException | None] = [exception]
    while todo:
        error = todo.pop()
        if error is None or error.__traceback__ is None:
            continue
        where = "".join(traceback.format_tb(error.__traceback__)).rstrip()
        error.__traceback__ = None
        notes = [note for note in getattr(error, "__notes__", ()) if not note.startswith(_RAISED)]
        error.__notes__ = [*notes, f"{_RAISED}\n{where}"]
        todo += (error.__cause__, error.__context__)
        if isinstance(error, BaseExceptionGroup):
            todo += error.exceptions
