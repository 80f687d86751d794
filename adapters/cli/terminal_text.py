"""Text for a terminal: nothing in it moves the cursor, wide characters count twice; the history."""

from __future__ import annotations

import os
import unicodedata
from typing import TYPE_CHECKING

from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.utils import get_cwidth

from .failure import CommandError
from .names import data_folder

if TYPE_CHECKING:
    from collections.abc import Iterator


def printable(text: str) -> str:
    """``text`` without control characters: a model must not be able to send escape sequences."""
    return "".join(
        character
        if character == "\n" or unicodedata.category(character) not in ("Cc", "Cs")
        else " " if character == "\t" else "\ufffd"
        for character in text
    )  # fmt: skip


def wrapped(text: str, columns: int) -> list[str]:
    """Lines of at most ``columns`` - 1 cells, broken at spaces where there are any."""
    return [part for line in text.split("\n") for part in _wrap_line(line, max(1, columns - 1))]


def _wrap_line(line: str, width: int) -> Iterator[str]:
    while get_cwidth(line) > width:
        cut, cells = 0, 0
        while cut < len(line) and (cells := cells + get_cwidth(line[cut])) <= width:
            cut += 1
        cut = max(1, cut)
        space = line.rfind(" ", 0, cut + 1)
        cut = space + 1 if space > 0 else cut
        yield line[:cut].rstrip()
        line = line[cut:]
    yield line


class _FileHistory(FileHistory):
    """A history that never ends the chat: a full disk or half a character is not worth it."""

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string.encode("utf-8", "replace").decode("utf-8"))
        except OSError:
            return


def open_history() -> History:
    """What was typed before, readable by this user only; kept in memory if there is no place."""
    try:
        path = data_folder() / "history"
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except (CommandError, OSError):
        return InMemoryHistory()
    return _FileHistory(str(path))
