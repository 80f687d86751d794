"""Aids for finding mistakes, on when ``RXSTREAM_DEBUG`` is set: ``RXSTREAM_DEBUG=1 python app.py``.

Errors of an interaction name the line that asked; a subscriber that holds a lane up for more than
50 ms is logged; a runtime that nobody closed is warned of, with the line that made it.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("rxstream")

enabled = os.environ.get("RXSTREAM_DEBUG", "0") not in ("", "0")
SLOW = 0.05
"""Seconds that a subscriber may take on a lane."""
_PASSED_OVER = frozenset({"rxstream", "reactivex"})

if enabled:  # Python hides ResourceWarnings unless told otherwise.
    warnings.filterwarnings("default", message="a Runtime", category=ResourceWarning)


def site() -> str:
    """The line of the user's program that called into the library; "" when debugging is off."""
    if not enabled:
        return ""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _PASSED_OVER:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def watched(function: Callable[[Any], object] | None) -> Callable[[Any], object] | None:
    """``function`` of a subscriber; when debugging is on it is logged where it holds a lane up."""
    if not enabled or function is None:
        return function

    @functools.wraps(function)
    def timed(item: Any) -> None:
        began = time.perf_counter()
        try:
            function(item)
        finally:
            seconds = time.perf_counter() - began
            thread = threading.current_thread().name
            if seconds > SLOW and thread.startswith("rxstream-"):
                logger.warning(
                    "a subscriber held the lane %r up for %.0f ms with %s: %r; nobody is answered "
                    "meanwhile. Read with `async for` or blocking() instead",
                    thread.removeprefix("rxstream-"),
                    seconds * 1000,
                    getattr(item, "kind", type(item).__name__),
                    function,
                )

    return timed
