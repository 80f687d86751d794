"""Where errors go that nobody handles."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("rxstream")


def log_unhandled(error: BaseException) -> None:
    """The default of ``hooks.on_unhandled``: log ``error`` with its traceback."""
    logger.error("unhandled error in a subscriber: %r", error, exc_info=error)


class Hooks:
    """What an application can set for the whole process.

    ``on_unhandled`` receives the errors that no subscriber handles: a stream ends with an error and
    the subscriber has no ``on_error``, or its ``on_error`` or ``on_completed`` itself raises. It
    runs on the thread where that happened.
    """

    __slots__ = ("on_unhandled",)

    def __init__(self) -> None:
        self.on_unhandled: Callable[[BaseException], object] = log_unhandled


hooks = Hooks()


def report(error: BaseException) -> None:
    """Hand ``error`` to ``hooks.on_unhandled``; a hook that raises is logged, never propagated."""
    try:
        hooks.on_unhandled(error)
    except Exception:
        logger.exception("hooks.on_unhandled itself failed")
        log_unhandled(error)
