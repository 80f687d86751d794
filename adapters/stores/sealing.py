"""A memory as bytes that somebody else may keep, but neither read nor change: AES-256-GCM.

A sealed memory is ``RXMH | length of the header, u16 little-endian | header | nonce and
ciphertext``. The header is JSON that anybody can read: format, key id, model, version, time. It is
authenticated with the tensors, and so is the tenant, which is not in it.

Whoever has the bytes can learn what the header says and the size of the memory, and can give them
back any number of times: an older version is as genuine as the newest. ``at_least`` and ``max_age``
are against that. Needs ``rxstream[crypto]``.
"""

from __future__ import annotations

import json
import struct
import time
from typing import TYPE_CHECKING, Any

from rxstream.errors import (
    SnapshotCorrupt,
    SnapshotError,
    SnapshotIncompatible,
    SnapshotStale,
    Undecryptable,
)
from rxstream.snapshot import MAX_NUMBER, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxstream.snapshot import Snapshot

    from .keyring import Keyring

MAGIC = b"RXMH"
FORMAT = 1
MAX_HEADER = 4096
_LENGTH = struct.Struct("<4sH")
_KINDS = {"format": int, "key": str, "model": str, "version": int, "sealed_at": float}


class Sealer:
    """Seals memories for their tenants and opens them again.

    Args:
        keyring: new memories are sealed with its current key; those of its other keys are read.
        max_bytes: a longer sealed memory is neither made nor looked at.
        max_age: seconds for which a sealed memory is accepted; None for ever.
        clock: seconds since the Unix epoch.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        max_bytes: int = 64 << 20,
        max_age: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys, self.max_bytes, self.max_age, self._clock = keyring, max_bytes, max_age, clock

    def seal(self, snapshot: Snapshot, *, tenant: str) -> bytes:
        """``snapshot``, for whoever asks in the name of ``tenant``.

        Raises SnapshotError when it would be longer than ``max_bytes``, and as ``snapshot.pack``.
        """
        header = json.dumps(
            {
                "format": FORMAT,
                "key": self._keys.current,
                "model": snapshot.fingerprint,
                "version": snapshot.version,
                "sealed_at": float(self._clock()),
            }
        ).encode()
        bound = ("held", header.decode(), tenant)
        sealed = self._keys.seal(pack(snapshot), bound, snapshot.digest.encode())
        if len(header) > MAX_HEADER or len(header) + len(sealed) > self.max_bytes:
            raise SnapshotError(
                f"a sealed memory may have {self.max_bytes} bytes and its header {MAX_HEADER}, not "
                f"{len(sealed)} and {len(header)}; raise max_bytes, or keep this one in a store"
            )
        return b"".join((_LENGTH.pack(MAGIC, len(header)), header, sealed))

    def open(
        self, data: bytes, *, tenant: str, fingerprint: str | None = None, at_least: int = 0
    ) -> Snapshot:
        """The inverse of ``seal``, safe for bytes from anywhere.

        ``fingerprint`` is that of the model that shall load it; None accepts any. A version below
        ``at_least`` is refused, for whoever keeps the last number of each memory. Raises
        SnapshotCorrupt (not a sealed memory, or too long), Undecryptable (changed, another tenant's
        or another key's), SnapshotStale, SnapshotIncompatible (another model's, a newer format).
        """
        header, text, sealed = self._split(bytes(data))
        key, version, age = header["key"], header["version"], self._clock() - header["sealed_at"]
        what = f"the sealed memory for {tenant[:80]!r}"
        plain = self._keys.open(sealed, ("held", text, tenant), key, what)
        if version < at_least:
            raise SnapshotStale(
                f"{what} holds version {version}, but version {at_least} was given out; send the "
                "newest"
            )
        if self.max_age is not None and age > self.max_age:
            raise SnapshotStale(
                f"{what} was sealed {age:.0f} seconds ago, and is accepted for {self.max_age:.0f}; "
                "begin anew"
            )
        snapshot = unpack(plain, fingerprint=fingerprint)
        if (snapshot.version, snapshot.fingerprint) != (version, header["model"]):
            raise Undecryptable(f"{what} is another one than it says; send it as it was given out")
        return snapshot

    def _split(self, data: bytes) -> tuple[dict[str, Any], str, bytes]:
        if len(data) > self.max_bytes + _LENGTH.size:
            raise SnapshotCorrupt(
                f"a sealed memory has at most {self.max_bytes} bytes, not {len(data)}; send it as "
                "it was given out"
            )
        try:
            magic, length = _LENGTH.unpack_from(data)
            body = _LENGTH.size + length
            if magic != MAGIC or length > MAX_HEADER or body > len(data):
                raise ValueError("its beginning is not that of one")
            text = data[_LENGTH.size : body].decode()
            header = json.loads(text)
            if type(header) is dict and type(header.get("format")) is int:
                needs = header["format"]
                if needs > FORMAT:
                    raise SnapshotIncompatible(
                        f"the sealed memory has format {needs}, this reads {FORMAT}; upgrade "
                        "rxstream"
                    )
            if type(header) is not dict or {k: type(v) for k, v in header.items()} != _KINDS:
                raise ValueError("its header does not say what it should")
            if not 0 <= header["version"] <= MAX_NUMBER:
                raise ValueError("its version is out of range")
        except (ValueError, RecursionError, struct.error) as exc:
            raise SnapshotCorrupt(
                f"not a sealed memory: {str(exc)[:200]}; send it as it was given out"
            ) from exc
        return header, text, data[body:]
