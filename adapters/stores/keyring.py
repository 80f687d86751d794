"""Keys for AES-256-GCM, by id. Needs ``rxstream[crypto]``."""

from __future__ import annotations

import hmac
import json
import os
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rxstream.errors import Undecryptable

if TYPE_CHECKING:
    from collections.abc import Mapping

_NONCE = 12


class Keyring:
    """New things are sealed with the key ``current``, old ones opened with whichever it was."""

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        """Keys of 32 random bytes, as ``new_key`` gives, by an id that is not secret.

        Raises ``ValueError``.
        """
        if current not in keys:
            raise ValueError(f"the current key {current!r} is not among {sorted(keys)}")
        for name, key in keys.items():
            if len(key) != 32:
                raise ValueError(f"key {name!r} must have 32 bytes, not {len(key)}")
            if not 1 <= len(name.encode()) <= 64:
                raise ValueError(f"the id of a key must have 1 to 64 bytes: {name[:80]!r}")
        self._keys = {name: bytes(key) for name, key in keys.items()}
        self.current = current

    def __repr__(self) -> str:
        return f"<Keyring {sorted(self._keys)}, current {self.current!r}>"

    @staticmethod
    def new_key() -> bytes:
        """32 random bytes. Keep them apart from the store, and safe: nothing is read without."""
        return os.urandom(32)

    def seal(self, data: bytes, bound: tuple[str, ...], identity: bytes) -> bytes:
        """Encrypt with the current key; ``bound`` must be the same to open it.

        ``identity`` stands for ``data``, its digest for example: the same data gives the same
        bytes, so that a request can be repeated, and a nonce never serves for two.
        """
        key, bytes_bound = self._keys[self.current], _encoded(bound, self.current)
        nonce = hmac.digest(key, b"nonce\0" + bytes_bound + identity, "sha256")[:_NONCE]
        return nonce + AESGCM(key).encrypt(nonce, data, bytes_bound)

    def open(self, sealed: bytes, bound: tuple[str, ...], key: str, what: str) -> bytes:
        """The inverse of ``seal``. Raises ``Undecryptable``, naming ``what``."""
        if key not in self._keys:
            raise Undecryptable(
                f"{what} is encrypted with key {key[:80]!r}, which is not at hand; add it to the "
                "keyring"
            )
        try:
            cipher = AESGCM(self._keys[key])
            return bytes(cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _encoded(bound, key)))
        except (InvalidTag, ValueError) as exc:
            raise Undecryptable(
                f"{what} cannot be opened with key {key[:80]!r}: it is another key of that id, or "
                "it was changed or moved; use the right key or restore it from a copy"
            ) from exc


def _encoded(bound: tuple[str, ...], key: str) -> bytes:
    return json.dumps([*bound, key]).encode("ascii")
