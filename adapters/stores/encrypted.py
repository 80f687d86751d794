"""A store whose contents nobody reads or changes unnoticed without a key: AES-256-GCM.

A snapshot is sealed whole, tensors and metadata; so is each log record. Sealed with them, so that
they cannot be moved elsewhere: the memory's name, the version, the digest, and the key's id.

Not hidden: names of memories, labels, request ids, times, version and log numbers, sizes to the
byte. Whoever can write to the store can still put back what it held before, as a whole, change the
order of a memory's log records, and mark them as forgotten. Needs ``rxstream[crypto]``.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import TYPE_CHECKING

from rxstream import tensorfile
from rxstream.errors import SnapshotError, Undecryptable
from rxstream.model import CompletedInteraction
from rxstream.snapshot import Snapshot, pack, unpack
from rxstream.stores import branching, records, rules
from rxstream.stores.wrapper import StoreWrapper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rxstream.store import Capability, LogRecord, Store, VersionInfo

    from .keyring import Keyring

SEALED = "sealed"
"""What a sealed snapshot names as its model, and a sealed record as its interaction."""
_KEY, _DIGEST, _INFO = "sealed.key", "sealed.digest", "sealed.info"


class EncryptedStore(StoreWrapper):
    """Seals what goes to ``inner`` and opens what comes from it.

    ``strict`` (default) refuses what is not encrypted: whoever can write to the store could have
    put it there. Without it, plain memories of the time before are read, and sealed when they are
    updated. To change keys, make a new one ``current`` and keep the old ones while versions or log
    records need them. Raises ``Undecryptable`` beside what stores raise.
    """

    def __init__(self, inner: Store, keyring: Keyring, *, strict: bool = True) -> None:
        super().__init__(inner)
        self._keys, self._strict = keyring, strict

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.inner.capabilities | ({"encrypted"} if self._strict else set())

    def info(self, key: str, version: int | None = None) -> VersionInfo:
        return self._open_info(self.inner.info(key, version))

    def load(self, key: str, version: int | None = None) -> Snapshot:
        return self._open(self.inner.load(key, version))

    def commit(
        self, snapshot: Snapshot, *, expect: int | None, request_id: str | None = None
    ) -> None:
        rules.check_key(snapshot.memory_id)
        self.inner.commit(self._seal(snapshot), expect=expect, request_id=request_id)

    def fork(self, source: str, target: str, *, version: int | None = None) -> VersionInfo:
        return branching.fork(self, source, target, version)

    def rollback(self, key: str, version: int) -> VersionInfo:
        return branching.rollback(self, key, version)

    def append(self, key: str, record: LogRecord, *, request_id: str | None = None) -> LogRecord:
        rules.check_append(key, record)
        payload = records.encode(record)
        sealed = self._keys.seal(payload, (key, "record"), payload)
        outer = replace(
            record,
            interaction=SEALED,
            conversation=self._keys.current,
            completed=CompletedInteraction(query=base64.b64encode(sealed).decode(), answer=""),
            key=None,
            created_at=0.0,
        )
        return replace(record, seq=self.inner.append(key, outer, request_id=request_id).seq)

    def log(self, key: str, after: int = 0) -> Iterator[LogRecord]:
        return (self._open_record(key, record) for record in self.inner.log(key, after))

    def watch(
        self, key: str, *, after: int | None = None, timeout: float | None = None
    ) -> Iterator[VersionInfo]:
        return map(self._open_info, self.inner.watch(key, after=after, timeout=timeout))

    def _seal(self, snapshot: Snapshot) -> Snapshot:
        plain = pack(snapshot)
        place = (snapshot.memory_id, str(snapshot.version), snapshot.digest)
        identity = snapshot.digest.encode()
        info = records.encode_info(records.describe(snapshot, len(plain)))
        sealed = self._keys.seal(plain, ("snapshot", *place), identity)
        sealed_info = self._keys.seal(info, ("info", *place), identity)
        return Snapshot(
            memory_id=snapshot.memory_id,
            version=snapshot.version,
            fingerprint=SEALED,
            state=tensorfile.encode({SEALED: ("U8", (len(sealed),), sealed)}),
            log_seq=snapshot.log_seq,
            created_at=snapshot.created_at,
            metadata={
                _KEY: self._keys.current,
                _DIGEST: snapshot.digest,
                _INFO: base64.b64encode(sealed_info).decode(),
            },
        )

    def _open(self, outer: Snapshot) -> Snapshot:
        what = f"memory {outer.memory_id!r}: version {outer.version}"
        if not self._is_sealed(outer.fingerprint, what):
            return outer
        file = tensorfile.parse(outer.state)
        digest, key = outer.metadata.get(_DIGEST, ""), outer.metadata.get(_KEY, "")
        bound = ("snapshot", outer.memory_id, str(outer.version), digest)
        plain = self._keys.open(bytes(file.body), bound, key, what)
        try:
            snapshot = unpack(plain)
        except SnapshotError as exc:
            raise rules.damaged_version(outer.memory_id, outer.version, str(exc)) from exc
        found = (snapshot.memory_id, snapshot.version, snapshot.digest)
        if found != (outer.memory_id, outer.version, digest):
            raise Undecryptable(f"{what} is another one than it says; restore it from a copy")
        return snapshot

    def _open_info(self, outer: VersionInfo) -> VersionInfo:
        what = f"the description of memory {outer.memory!r}: version {outer.version}"
        if not self._is_sealed(outer.fingerprint, what):
            return outer
        bound = ("info", outer.memory, str(outer.version), outer.metadata.get(_DIGEST, ""))
        sealed = _from_base64(outer.metadata.get(_INFO, ""))
        plain = self._keys.open(sealed, bound, outer.metadata.get(_KEY, ""), what)
        try:
            return records.decode_info(outer.memory, outer.version, plain)
        except ValueError as exc:
            raise rules.damaged_version(outer.memory, outer.version, str(exc)) from exc

    def _open_record(self, key: str, outer: LogRecord) -> LogRecord:
        what = f"memory {key!r}: log record {outer.seq}"
        if not self._is_sealed(outer.interaction, what):
            return outer
        sealed = _from_base64(outer.completed.query)
        plain = self._keys.open(sealed, (key, "record"), outer.conversation, what)
        try:
            return records.parse(plain, outer.seq, outer.remembered)
        except ValueError as exc:
            raise records.damaged(key, outer.seq, str(exc)) from exc

    def _is_sealed(self, mark: str, what: str) -> bool:
        if mark == SEALED:
            return True
        if self._strict:
            raise Undecryptable(
                f"{what} is not encrypted, which is refused; if it was stored before encryption "
                "began, open the store with strict=False"
            )
        return False


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
