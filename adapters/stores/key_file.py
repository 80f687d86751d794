"""A keyring as a file that only its owner can read. Needs ``rxstream[crypto]``.

::

    {"format": "rxstream.keys", "current": "2026-11", "keys": {"2026-11": "…", "2026-05": "…"}}
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

from rxstream.errors import StoreUnavailable

from .keyring import Keyring

FORMAT = "rxstream.keys"


def read_keys(path: str | os.PathLike[str]) -> Keyring:
    """The keyring in a file.

    Raises StoreUnavailable when there is none, it is damaged, or others can read it too.
    """
    return Keyring(*_read(Path(path)))


def add_key(path: str | os.PathLike[str], name: str) -> None:
    """Make a key, and make it the current one. The file is made when it is not there.

    Raises StoreUnavailable as ``read_keys``, when it has a key of that name, and when it cannot be
    written: the file is then as it was.
    """
    file = Path(path)
    keys = _read(file)[0] if file.exists() else {}
    if name in keys:
        raise StoreUnavailable(f"{file} has a key {name!r} already; choose another name")
    keys[name] = Keyring.new_key()
    try:
        Keyring(keys, name)
    except ValueError as error:
        raise StoreUnavailable(f"{file}: {error}") from error
    encoded = {key: base64.b64encode(value).decode() for key, value in keys.items()}
    text = json.dumps({"format": FORMAT, "current": name, "keys": encoded}, indent=1) + "\n"
    temporary = file.with_name(f".{file.name[:40]}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreUnavailable(f"cannot write {file}: {error.strerror}") from error


def _read(file: Path) -> tuple[dict[str, bytes], str]:
    try:
        if os.name == "posix" and file.stat().st_mode & 0o077:
            raise StoreUnavailable(
                f"others may read {file}, which has keys in it; chmod 600 {file}"
            )
        content = json.loads(file.read_text())
        if content["format"] != FORMAT:
            raise ValueError("it is something else")
        keys = {k: base64.b64decode(v, validate=True) for k, v in content["keys"].items()}
        Keyring(keys, content["current"])
    except OSError as error:
        raise StoreUnavailable(
            f"cannot read keys from {file}: {error.strerror}; rxt memory new-key makes a file"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreUnavailable(f"{file} is not a file of keys: {error}") from error
    return keys, content["current"]
