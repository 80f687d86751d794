"""Arguments are refused where they are given, before anything is queued or stored."""

from __future__ import annotations

from numbers import Real
from typing import Any

LONGEST = 512
"""Bytes of UTF-8 that a name or key may have."""


def check_text(text: str, kind: str, *, longest: int = LONGEST, shortest: int = 1) -> str:
    """Return ``text`` when every store can keep it as ``kind``, such as "a memory name".

    Raises ``TypeError`` for what is no text, ``ValueError`` for text that is empty, longer than
    ``longest`` bytes of UTF-8, or cannot be encoded so.
    """
    check_type(text, str, kind)
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError(f"{kind} must be valid Unicode, not {text[:80]!r}") from None
    if not shortest <= size <= longest:
        raise ValueError(f"{kind} must have {shortest} to {longest} bytes, not {size}")
    return text


def check_type(value: object, expected: type, kind: str) -> None:
    """Raise ``TypeError`` unless ``value`` is an ``expected``."""
    if not isinstance(value, expected):
        raise TypeError(f"{kind} must be of type {expected.__name__}, not {type(value).__name__}")


def is_whole(value: object, least: float) -> bool:
    """Whether ``value`` is a whole number of at least ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object, low: float, high: float) -> bool:
    """Whether ``value`` is a number in [low, high]; none that is "not a number" is."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    number: Any = value
    return bool(low <= number <= high)


def check_parts(model: object, store: object, policy: object) -> None:
    """Raise TypeError for what is no model, store or policy, before a thread needs it."""
    needed: list[tuple[object, str, tuple[str, ...]]] = [
        (model, "a model", ("fingerprint", "max_batch", "thread_safe", "start", "step", "finish")),
        (policy, "a policy", ("plan",)),
    ]
    if store is not None and not isinstance(store, str):
        needed.append((store, "a store", ("append", "commit", "head", "load", "log")))
    for part, kind, names in needed:
        if missing := [name for name in names if not hasattr(part, name)]:
            raise TypeError(f"{type(part).__name__} is not {kind}: it has no {', '.join(missing)}")
