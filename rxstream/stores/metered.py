"""A store that counts what is done with it."""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .wrapper import StoreWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a store, when it has ended."""

    method: str
    seconds: float
    nbytes: int
    """Of tensors loaded or committed."""
    error: str | None
    """Name of the error's class; a conflict is one, and is normal."""


@dataclass(slots=True)
class Totals:
    """The calls of one method."""

    calls: int = 0
    seconds: float = 0.0
    nbytes: int = 0
    errors: int = 0


class MeteredStore(StoreWrapper):
    """Counts calls, seconds, bytes and errors by method; ``on_call`` sees each call as it ends.

    ``on_call`` is called in the thread of the call, under no lock; what it raises is raised there.
    ``log`` and ``watch`` are counted when they are asked for, not while they are read.
    """

    def __init__(self, inner: Store, on_call: Callable[[Call], None] | None = None) -> None:
        super().__init__(inner)
        self._on_call = on_call
        self._lock = threading.Lock()
        self._totals: dict[str, Totals] = {}

    def totals(self) -> dict[str, Totals]:
        """What was counted so far, by method."""
        with self._lock:
            return {
                name: Totals(t.calls, t.seconds, t.nbytes, t.errors)
                for name, t in self._totals.items()
            }

    def _count(self, call: Call) -> None:
        with self._lock:
            totals = self._totals.setdefault(call.method, Totals())
            totals.calls += 1
            totals.seconds += call.seconds
            totals.nbytes += call.nbytes
            totals.errors += call.error is not None
        if self._on_call is not None:
            self._on_call(call)


def _metered(name: str) -> Any:
    passed_on = getattr(StoreWrapper, name)

    @functools.wraps(passed_on)
    def method(self: MeteredStore, *args: Any, **options: Any) -> Any:
        began, error, result = time.perf_counter(), None, None
        try:
            result = passed_on(self, *args, **options)
            return result
        except Exception as exc:
            error = type(exc).__name__
            raise
        finally:
            moved = (args or [options.get("snapshot")])[0] if name == "commit" else result
            call = Call(
                method=name,
                seconds=time.perf_counter() - began,
                nbytes=len(getattr(moved, "state", b"")) if error is None else 0,
                error=error,
            )
            self._count(call)

    return method


METERED = (
    "head info load commit history fork rollback tag untag tags expire expires_at sweep append "
    "last_seq log forget trim list watch delete prune"
).split()
"""All methods of a store but ``close``."""
for _name in METERED:
    setattr(MeteredStore, _name, _metered(_name))
