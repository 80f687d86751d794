"""A snapshot, its file, and ways to forge it."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from rxstream import tensorfile
from rxstream.snapshot import Snapshot, pack

STATE = tensorfile.encode(
    {"stm.0": ("F32", (2, 3), bytes(range(24))), "stm.1": ("BF16", (2,), b"abcd")}
)
WHOLE = Snapshot(
    memory_id="user-42 ü\x1f",
    version=7,
    fingerprint="sha256:one",
    state=STATE,
    log_seq=9,
    applied_keys=("a", 'b"\\\n', "🧠"),
    created_at=1_795_323_077.846372,
    kind="update",
    metadata={"provenance": "dialogue", "stats": "π"},
)
PACKED = pack(WHOLE)

REPEATABLE = settings(derandomize=True, database=None, deadline=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    (size,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def assemble(header: object, body: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode()
    return struct.pack("<Q", len(raw)) + raw + body


def resign(header: dict[str, Any], body: bytes) -> bytes:
    """Give a changed header a digest that matches, as a forger could, in the compact form."""
    metadata = header["__metadata__"]
    metadata.pop("digest", None)
    tensors = {
        name: [t["dtype"], t["shape"], *t["data_offsets"]]
        for name, t in header.items()
        if name != "__metadata__"
    }
    canonical = json.dumps(
        {"metadata": metadata, "tensors": tensors}, sort_keys=True, separators=(",", ":")
    ).encode()
    total = hashlib.sha256(struct.pack("<Q", len(canonical)) + canonical + body)
    metadata["digest"] = f"sha256:{total.hexdigest()}"
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return assemble(raw, body)
