"""Memory names as folders: any text, on file systems that ignore case or forbid characters."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
_LONGEST = 180
_MORE = "+"
"""At the end of a folder that holds the rest of a long name."""
_CODED = re.compile("(?:[a-z0-9_-]|%[0-9A-F]{2})+")


def folder_of(root: Path, key: str) -> Path:
    """Where a memory is kept. Lower-case letters, digits, ``-`` and ``_`` stay as they are."""
    coded = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in key.encode("utf-8"))
    parts = [coded[i : i + _LONGEST] for i in range(0, len(coded), _LONGEST)]
    return root.joinpath(*(part + _MORE for part in parts[:-1]), parts[-1])


def keys_in(root: Path, before: str = "") -> Iterator[str]:
    """The names of all memories with a folder, in no order. Foreign folders are passed over."""
    with os.scandir(root) as entries:
        for entry in entries:
            if not entry.is_dir():
                continue
            if entry.name.endswith(_MORE):
                yield from keys_in(Path(entry.path), before + entry.name.removesuffix(_MORE))
            elif (key := _decoded(before + entry.name)) is not None:
                yield key


def _decoded(coded: str) -> str | None:
    if not _CODED.fullmatch(coded):
        return None
    raw = re.sub(b"%(..)", lambda found: bytes.fromhex(found[1].decode()), coded.encode("ascii"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
