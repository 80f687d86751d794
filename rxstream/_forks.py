"""What must be made anew in a forked child, where the threads that held it do not exist."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_all: weakref.WeakKeyDictionary[Any, Callable[[Any], object]] = weakref.WeakKeyDictionary()


def renew_in_child(thing: T, renew: Callable[[T], object]) -> None:
    """Have ``renew(thing)`` called in every forked child, for as long as ``thing`` lives.

    Its locks may be held there, and nobody would ever let them go.
    """
    _all[thing] = renew


def _after_fork() -> None:
    for thing, renew in _all.items():
        renew(thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
