"""How a command fails: one clear line on stderr that says what happened and what to do."""

from __future__ import annotations

import logging
import os

DEBUG = "RXSTREAM_DEBUG"
"""Set in the environment, it brings tracebacks."""


class CommandError(Exception):
    """An error of the user's making, or of their machine's: shown as one line, no traceback."""


def one_line(error: BaseException) -> str:
    """The message of ``error`` on one line, or its type when it has none."""
    return " ".join(str(error).split()) or type(error).__name__


class OneLine(logging.Formatter):
    """Log records as one line of the command's own, with a traceback only on request."""

    def format(self, record: logging.LogRecord) -> str:
        line = "rxt: " + " ".join(record.getMessage().split())
        if record.exc_info and DEBUG in os.environ:
            line += "\n" + self.formatException(record.exc_info)
        return line


def log_to_stderr() -> None:
    """What the library warns about in the background is shown as the command shows errors."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logger = logging.getLogger("rxstream")
    logger.handlers = [handler]
    logger.propagate = False
