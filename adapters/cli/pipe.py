"""The chat without a terminal: one query a line in, one answer a line out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, BinaryIO, TextIO, TypeVar

from rxstream.errors import InteractionError, RxStreamError

from .failure import CommandError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from .session import Session

T = TypeVar("T")

GLANCE = 0.2
"""Seconds of a wait: a Ctrl-C that comes just before one takes effect at its end."""


def run(chat: Session, queries: BinaryIO, answers: TextIO) -> int:
    """Answer every line of ``queries``; returns the exit status.

    Line n of ``answers`` belongs to query n, commands not counted: a line that cannot be answered
    gives an empty line, and one line on stderr that says why.
    """
    reconfigure = getattr(answers, "reconfigure", None)
    if reconfigure is not None:  # what comes in is UTF-8, so is what goes out, whatever the locale
        reconfigure(encoding="utf-8", errors="replace", newline="\n")
    status = 0
    for position, line in enumerate(iter(queries.readline, b""), start=1):
        try:
            query = decode(line, first=position == 1)
        except CommandError as error:
            emit(answers, "")
            status = complain(position, error)
            continue
        if not query.strip():
            emit(answers, "")
            complain(position, "an empty line is no query; skipped")
        elif chat.is_command(query):
            leave, failed = command(chat, query, position)
            status = status or failed
            if leave:
                break
        else:
            status = answer(chat, query, answers, position) or status
    return status


def command(chat: Session, line: str, position: int) -> tuple[bool, int]:
    """Run a command; what it says goes to stderr. Returns whether to leave, and the status."""
    try:
        note = chat.command(line)
    except (CommandError, RxStreamError) as error:
        return False, complain(position, error)
    if note.text:
        print(note.text, file=sys.stderr)
    return note.leave, 0


def answer(chat: Session, query: str, answers: TextIO, position: int) -> int:
    """Ask one query, print its answer as soon as it is complete, wait until it is remembered."""
    try:
        interaction = chat.ask(query)
        text = wait(interaction.result).text
    except RxStreamError as error:
        emit(answers, "")
        return complain(position, error)
    emit(answers, " ".join(text.splitlines()))
    try:
        with interaction.blocking(timeout=GLANCE) as events:
            while (event := wait(lambda _: next(events, None))) is not None:
                if event.kind == "memory_skipped" and event.reason != "empty":
                    return complain(position, f"answered, but not remembered: {event.reason}")
    except InteractionError as error:
        return complain(position, f"answered, but not remembered: {one_line(error)}")
    return 0


def wait(look: Callable[[float], T]) -> T:
    """What ``look`` returns, which raises TimeoutError when that takes longer than ``GLANCE``."""
    while True:
        try:
            return look(GLANCE)
        except TimeoutError:
            pass


def decode(line: bytes, *, first: bool) -> str:
    """The query on a line. Raises CommandError unless it is UTF-8."""
    body = line.rstrip(b"\r\n")
    if first:
        body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(
            f"not UTF-8 at byte {error.start + 1} (0x{body[error.start]:02x}); "
            "convert the text, for example with iconv -t utf-8"
        ) from error


def emit(answers: TextIO, text: str) -> None:
    """One line of output, at once: the reader may be waiting for it."""
    answers.write(text + "\n")
    answers.flush()


def complain(position: int, message: str | Exception) -> int:
    """One line on stderr that names the line of the input; returns the exit status of an error."""
    text = message if isinstance(message, str) else one_line(message)
    print(f"rxt chat: line {position}: {text}", file=sys.stderr)
    return 1
