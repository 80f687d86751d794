"""A memory version at rest: the value, its one-file format, and reading files nobody vouches for.

The file is a safetensors file whose ``__metadata__`` makes it a snapshot, so that any tensor
library can look into it. Its digest covers the tensors' bytes, names, shapes and types, and all
metadata.
"""

from __future__ import annotations

import importlib.metadata
import os
import struct
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

from . import _files, tensorfile
from . import _snapshot_metadata as _metadata
from ._snapshot_file import Packing, Unpacking
from ._snapshot_metadata import FORMAT_VERSION
from .errors import SnapshotCorrupt, SnapshotError, SnapshotIncompatible

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["init", "update", "import", "fork", "restore", "rollback"]
MAX_NUMBER = 1 << 53
"""Largest version or log position: exact in every store and every language."""


@cache
def _writer() -> str:
    try:
        return f"rxstream/{importlib.metadata.version('rxstream')}"
    except importlib.metadata.PackageNotFoundError:
        return "rxstream/unknown"


@dataclass(frozen=True)
class Snapshot:
    """One immutable version of one memory. Raises ``ValueError`` for what cannot be stored."""

    memory_id: str
    version: int
    """Counts up with each commit to the memory; never reused."""
    fingerprint: str
    """Of the model that can load ``state``."""
    state: bytes = field(repr=False)
    """A safetensors file without metadata, as ``ReactiveModel.dump`` returns it."""
    log_seq: int = 0
    """The last log record that is folded into ``state``; 0 for none."""
    parent_digest: str = ""
    """Digest of the version this one was made from, perhaps of another memory; "" for none."""
    applied_keys: tuple[str, ...] = ()
    """Recent idempotency keys whose interactions are folded in, oldest first."""
    created_at: float = field(default_factory=time.time)
    """Seconds since the Unix epoch, UTC; kept to the microsecond."""
    kind: Kind = "update"
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Free text by name (``provenance``, ``model.id``, ...), written beside the fields above."""
    contains_user_data: bool = True
    writer: str = field(default_factory=_writer, repr=False)
    """Program and version that made this snapshot."""

    def __post_init__(self) -> None:
        for name in ("version", "log_seq"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= MAX_NUMBER:
                raise ValueError(f"{name} must be an int from 0 to {MAX_NUMBER}, not {value!r}")
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, not {self.kind!r}")
        if not isinstance(self.state, bytes | bytearray | memoryview):
            raise ValueError(f"state must be bytes, not {type(self.state).__name__}")
        if reserved := _metadata.NAMES & self.metadata.keys():
            raise ValueError(f"metadata must not use the reserved name {min(reserved)!r}")
        object.__setattr__(self, "state", bytes(self.state))
        object.__setattr__(self, "applied_keys", tuple(self.applied_keys))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        try:
            moment = datetime.fromtimestamp(self.created_at, UTC)
        except (OverflowError, OSError, ValueError) as exc:
            raise ValueError(f"created_at is out of range: {self.created_at}") from exc
        object.__setattr__(self, "created_at", moment.timestamp())
        described = _metadata.describe(self)
        object.__setattr__(self, "_described", described)
        for name, text in [
            *described.items(),
            *(("applied_keys", key) for key in self.applied_keys),
        ]:
            if not _is_utf8(name) or not _is_utf8(text):
                raise ValueError(f"{name!r} must be text that can be encoded as UTF-8")

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` over the tensors and everything said about them: the identity.

        Raises ``SnapshotCorrupt`` when ``state`` is not a safetensors file.
        """
        # Not functools.cached_property: its lock, in Python 3.11, would be inherited by a fork.
        if "_digest" not in self.__dict__:
            digest = _metadata.digest(_parse_state(self.state), _described(self))
            return keep_digest(self, digest)
        return str(self.__dict__["_digest"])


def _described(snapshot: Snapshot) -> dict[str, str]:
    """All metadata but the digest; made once, since every use of a snapshot needs it."""
    described: dict[str, str] = snapshot.__dict__["_described"]
    return described


def keep_digest(snapshot: Snapshot, digest: str) -> str:
    """Have a snapshot know its digest, that was computed elsewhere."""
    object.__setattr__(snapshot, "_digest", digest)
    return digest


def packing(snapshot: Snapshot, *, beside: bool) -> Packing:
    """The file of a snapshot; raises as ``pack``, ``beside`` as in ``Packing``."""
    digest = snapshot.__dict__.get("_digest")
    return Packing(_parse_state(snapshot.state), _described(snapshot), digest, beside=beside)


def pack(snapshot: Snapshot) -> bytes:
    """The snapshot as the bytes of one safetensors file.

    Raises ``SnapshotCorrupt`` when ``state`` is not a safetensors file without metadata, and
    ``SnapshotError`` when the metadata is too long to be read back (1 MiB).
    """
    with packing(snapshot, beside=False) as file:
        packed = file.packed()
        keep_digest(snapshot, file.digest)
    return packed


def unpack(data: bytes, *, fingerprint: str | None = None) -> Snapshot:
    """The inverse of ``pack``, safe for bytes from anywhere: nothing is executed or trusted.

    ``fingerprint`` is that of the model that shall load the state; None accepts any. Raises
    ``SnapshotCorrupt`` for damaged or foreign bytes and ``SnapshotIncompatible`` for a whole
    snapshot of another model or of a newer format. NaN and infinity are for ``ReactiveModel.load``
    to refuse, which knows the tensors.
    """
    with Unpacking() as file:
        file.begin(len(data))
        file.add(data)
        return received(file, fingerprint=fingerprint)


def received(file: Unpacking, *, fingerprint: str | None = None) -> Snapshot:
    """``unpack`` for a file that came in parts."""
    state, found, recorded, whole = file.finish()
    needs = found.get("min_reader", "")
    if _metadata.NUMBER.fullmatch(needs) and int(needs) > FORMAT_VERSION:
        raise SnapshotIncompatible(
            f"snapshot needs a reader of format {needs}, this one reads {FORMAT_VERSION}; "
            "upgrade rxstream"
        )
    if not whole:
        raise SnapshotCorrupt(
            f"snapshot of memory {found.get('memory', '')[:80]!r} is damaged: its digest does not "
            "match its contents; get a fresh copy or load an older version"
        )
    snapshot = _restore(found, state)
    if _described(snapshot) == found:  # a newer writer's is another one when packed here
        keep_digest(snapshot, recorded)
    if fingerprint is not None and snapshot.fingerprint != fingerprint:
        raise SnapshotIncompatible(
            f"snapshot of memory {snapshot.memory_id[:80]!r} was made by model "
            f"{snapshot.fingerprint[:200]!r}, this model is {fingerprint[:200]!r}; "
            "load it with the model that made it"
        )
    return snapshot


def write_file(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """Write ``snapshot`` to ``path``, replacing what is there as one step that survives power loss.

    Raises ``SnapshotError``; the old file, if any, is then as it was.
    """
    data = pack(snapshot)
    try:
        _files.write_atomically(path, data)
    except (OSError, ValueError) as exc:
        raise SnapshotError(
            f"cannot write snapshot {os.fspath(path)!r}: {_reason(exc)}; "
            "check folder, permission and space"
        ) from exc


def read_file(path: str | os.PathLike[str], fingerprint: str | None = None) -> Snapshot:
    """Read a snapshot file; ``fingerprint`` as in ``unpack``.

    The file is copied before it is checked, so that nobody can change it in between. Raises
    ``SnapshotError`` when it cannot be read, else as ``unpack``, naming the file.
    """
    try:
        data = _files.read_regular(path, refuse=_header_too_long)
    except (OSError, ValueError) as exc:
        raise SnapshotError(
            f"cannot read snapshot {os.fspath(path)!r}: {_reason(exc)}; check path and permission"
        ) from exc
    try:
        return unpack(data, fingerprint=fingerprint)
    except SnapshotError as exc:
        raise type(exc)(f"{os.fspath(path)}: {exc}") from exc


def _header_too_long(start: bytes) -> bool:
    return len(start) == 8 and struct.unpack("<Q", start)[0] > tensorfile.MAX_HEADER_BYTES


def _restore(found: dict[str, str], state: bytes) -> Snapshot:
    try:
        snapshot = Snapshot(**_metadata.parse(found), state=state)
        # What is read must be written again to the same bytes, or the digest would change with it.
        written = _described(snapshot) | {"format_version": found["format_version"]}
        written["min_reader"] = found["min_reader"]
        if written != found:
            raise ValueError("a field is not written in its one form")
    except (KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError) as exc:
        raise SnapshotCorrupt(
            f"snapshot metadata is not valid: {str(exc)[:200]}; export the memory again"
        ) from exc
    return snapshot


def _parse_state(state: bytes) -> tensorfile.TensorFile:
    try:
        file = tensorfile.parse(state)
    except SnapshotCorrupt as exc:
        raise SnapshotCorrupt(f"the state of a snapshot is {exc}") from exc
    if file.metadata is not None:
        raise SnapshotCorrupt("the state of a snapshot must not have metadata; dump tensors only")
    return file


def _is_utf8(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _reason(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
