"""Names of conversations and files on a command line, and where conversations are kept."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from rxstream.errors import SnapshotError
from rxstream.snapshot import read_file
from rxstream.stores.rules import check_key

from .failure import CommandError

if TYPE_CHECKING:
    from rxstream.store import Store


def has_begun(store: Store, name: str) -> bool:
    """Whether anything is kept under this name."""
    return name in store.list(name)


def default_store() -> str:
    """An SQLite file in the user's data folder."""
    return f"sqlite:///{data_folder() / 'chat.sqlite'}"


def data_folder() -> Path:
    """Where conversations and the query history are kept; made for this user only."""
    import platformdirs

    folder = platformdirs.user_data_path("rxstream", appauthor=False)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CommandError(
            f"cannot make the data folder {folder}: {error.strerror}; "
            "check its permission, or choose another place with --store sqlite:///FILE"
        ) from error
    return folder


def checked_name(name: str) -> str:
    """A name that a store takes."""
    try:
        return check_key(name)
    except ValueError as error:
        raise CommandError(f"{error}; choose another conversation name") from error


def unused_name(store: Store, base: str) -> str:
    """``base-2``, ``base-3`` …: the first that is not taken."""
    taken = set(store.list(base))
    names = (f"{base}-{number}" for number in itertools.count(2))
    return next(name for name in names if name not in taken)


def file_argument(command: str, argument: str) -> Path:
    """The path after a command."""
    if not argument:
        raise CommandError(f"{command} needs a file name: {command} FILE")
    return Path(argument).expanduser()


def is_snapshot(path: Path) -> bool:
    """Whether ``path`` can be read as a snapshot, of whatever model."""
    try:
        read_file(path)
    except SnapshotError:
        return False
    return True
