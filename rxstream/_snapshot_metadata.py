"""The metadata of a snapshot file: its names, its one way of writing them, and the digest."""

from __future__ import annotations

import json
import re
import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ._hashing import Hashing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .snapshot import Snapshot
    from .tensorfile import TensorEntry, TensorFile

FORMAT = "rxstream.stm"
FORMAT_VERSION = 1

NUMBER = re.compile("0|[1-9][0-9]{0,18}")
NAMES = frozenset(
    "format format_version min_reader memory version fingerprint kind log_seq parent created_at "
    "applied_keys contains_user_data writer digest".split()
)
"""What a snapshot says about itself; every other name is free metadata."""


def describe(snapshot: Snapshot) -> dict[str, str]:
    """All metadata but the digest. Of one snapshot there is one description."""
    moment = datetime.fromtimestamp(snapshot.created_at, UTC).replace(tzinfo=None)
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "min_reader": "1",
        "memory": snapshot.memory_id,
        "version": str(snapshot.version),
        "fingerprint": snapshot.fingerprint,
        "kind": snapshot.kind,
        "log_seq": str(snapshot.log_seq),
        "parent": snapshot.parent_digest,
        "created_at": moment.isoformat(timespec="microseconds") + "Z",
        "applied_keys": json.dumps(snapshot.applied_keys, ensure_ascii=False),
        "contains_user_data": "true" if snapshot.contains_user_data else "false",
        "writer": snapshot.writer,
        **dict(sorted(snapshot.metadata.items())),
    }


def parse(found: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a ``Snapshot``, but its state, from what ``describe`` wrote.

    Raises ``KeyError``, ``TypeError``, ``ValueError`` and their like for anything else.
    """
    if not all(NUMBER.fullmatch(found[name]) for name in ("version", "log_seq")):
        raise ValueError("a number is not written as one")
    return {
        "memory_id": found["memory"],
        "version": int(found["version"]),
        "fingerprint": found["fingerprint"],
        "log_seq": int(found["log_seq"]),
        "parent_digest": found["parent"],
        "applied_keys": tuple(json.loads(found["applied_keys"])),
        "created_at": datetime.fromisoformat(found["created_at"]).timestamp(),
        "kind": found["kind"],
        "metadata": {name: found[name] for name in found.keys() - NAMES},
        "contains_user_data": found["contains_user_data"] == "true",
        "writer": found["writer"],
    }


def hashing(
    tensors: Mapping[str, TensorEntry], described: Mapping[str, str], *, beside: bool
) -> Hashing:
    """``sha256:<hex>`` over tensor names, shapes, types and offsets, the metadata, and then all
    bytes of the tensors, with which it is to be updated; ``beside`` as in ``Hashing``.

    The tensors' order in the header does not count, nor that of the metadata.
    """
    entries = {name: [t.dtype, t.shape, t.start, t.end] for name, t in tensors.items()}
    canonical = json.dumps(
        {"metadata": dict(described), "tensors": entries}, sort_keys=True, separators=(",", ":")
    ).encode("ascii")
    return Hashing(struct.pack("<Q", len(canonical)) + canonical, beside)


def digest(file: TensorFile, described: Mapping[str, str]) -> str:
    """``hashing`` of a whole file."""
    with hashing(file.tensors, described, beside=False) as total:
        total.update(file.body)
        return total.result()
