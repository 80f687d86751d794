"""The safetensors container in pure Python: written, and read by the rules for untrusted files.

A file is ``u64 little-endian header length | JSON header | tensor bytes``. The header maps tensor
names to dtype, shape and offsets, and may hold string metadata under ``__metadata__``. Nothing here
interprets tensor values or uses a tensor's name for anything but a name.
Source of the format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import SnapshotCorrupt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_HEADER_BYTES = 1 << 20
"""A longer header is refused before it is read: a small file must not cost much to refuse."""

_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
_MAX_RANK = 64
_MAX_DIMENSION = 1 << 53
_METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies: ``start`` and ``end`` are byte offsets into the tensor bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A parsed file whose structure holds; ``body`` is a view into the parsed bytes."""

    tensors: dict[str, TensorEntry]
    """In the order of the header."""
    metadata: dict[str, str] | None
    body: memoryview
    compact: bool
    """The header is written in the one way this module writes it, but for the order of its entries.

    False when it says the same with other bytes: escapes, spaces, a name given twice.
    """


def parse(data: bytes) -> TensorFile:
    """Check the structure of a safetensors file and return its parts, without copying tensors.

    Raises ``SnapshotCorrupt`` for any bytes that are not exactly one well-formed file: the tensors
    must fill the file without a gap or an overlap, and each must have the size of its dtype and
    shape.
    """
    if len(data) < 8:
        raise _corrupt(f"{len(data)} bytes are too few for a file with a header")
    size = head_size(data)
    if size > len(data):
        raise _corrupt(f"its header claims {size - 8} bytes, but only {len(data) - 8} follow")
    tensors, metadata, compact = parse_head(data[:size])
    body = memoryview(data)[size:]
    check_layout(tensors, len(body))
    return TensorFile(tensors, metadata, body, compact)


def head_size(start: bytes) -> int:
    """Where the tensor bytes begin, by the first 8 bytes. Raises ``SnapshotCorrupt``."""
    (size,) = struct.unpack_from("<Q", start)
    if size > MAX_HEADER_BYTES:
        raise _corrupt(f"its header claims {size} bytes, more than the {MAX_HEADER_BYTES} allowed")
    return 8 + int(size)


def parse_head(head: bytes) -> tuple[dict[str, TensorEntry], dict[str, str] | None, bool]:
    """Tensors, metadata and ``compact`` of a ``TensorFile``, by what precedes the tensor bytes.

    Raises ``SnapshotCorrupt``.
    """
    raw = bytes(head[8:])
    try:
        header = json.loads(raw.decode("utf-8"))
        compact = _dump(header) == raw.rstrip(b" ")
    except (ValueError, RecursionError) as exc:
        raise _corrupt(f"its header is not JSON ({type(exc).__name__})") from exc
    if not isinstance(header, dict):
        raise _corrupt("its header is not a JSON object")
    metadata = header.pop(_METADATA, None)
    if metadata is not None and not _is_text_mapping(metadata):
        raise _corrupt("its metadata does not map text to text")
    return {name: _entry(name, value) for name, value in header.items()}, metadata, compact


def build_head(tensors: Mapping[str, TensorEntry], metadata: Mapping[str, str] | None) -> bytes:
    """What precedes the tensor bytes, padded with spaces so that these are 8-aligned."""
    header: dict[str, Any] = {} if metadata is None else {_METADATA: dict(metadata)}
    for name, entry in tensors.items():
        offsets = [entry.start, entry.end]
        header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets}
    raw = _dump(header)
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


def build(
    tensors: Mapping[str, TensorEntry],
    metadata: Mapping[str, str] | None,
    *body: bytes | memoryview,
) -> bytes:
    """Put a file together, of its tensor bytes in one or more parts."""
    return b"".join((build_head(tensors, metadata), *body))


def check_layout(tensors: Mapping[str, TensorEntry], size: int) -> None:
    """Raise ``SnapshotCorrupt`` unless the tensors fill ``size`` bytes without gap or overlap."""
    position = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            raise _corrupt(f"tensor {name[:80]!r} leaves a gap or overlaps another")
        position = entry.end
    if position != size:
        raise _corrupt(f"its tensors take {position} bytes, but {size} follow the header")


def encode(tensors: Mapping[str, tuple[str, Sequence[int], bytes]]) -> bytes:
    """A safetensors file of ``name -> (dtype, shape, little-endian bytes)``, without metadata.

    For models and tests that have no tensor library at hand. Raises ``ValueError`` when the bytes
    do not have the size of dtype and shape.
    """
    entries: dict[str, TensorEntry] = {}
    position = 0
    # Wide types first keeps every tensor aligned to its own size, as the safetensors library does.
    names = sorted(tensors, key=lambda name: (-_BITS.get(tensors[name][0], 0), name))
    for name in names:
        dtype, shape, data = tensors[name]
        entries[name] = TensorEntry(dtype, tuple(shape), position, position + len(data))
        position += len(data)
    data = build(entries, None, *(tensors[name][2] for name in names))
    try:
        parse(data)
    except SnapshotCorrupt as exc:
        raise ValueError(str(exc)) from exc
    return data


def _dump(header: Any) -> bytes:
    return json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _is_text_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _entry(name: str, value: Any) -> TensorEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _corrupt(f"tensor {name[:80]!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _corrupt(f"tensor {name[:80]!r} has a dtype that is not known: {str(dtype)[:40]!r}")
    if not _are_counts(shape) or len(shape) > _MAX_RANK:
        raise _corrupt(f"the shape of tensor {name[:80]!r} is not a list of sizes")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise _corrupt(f"the offsets of tensor {name[:80]!r} are not two positions")
    start, end = offsets
    if math.prod(shape) * _BITS[dtype] != (end - start) * 8:
        raise _corrupt(
            f"the {end - start} bytes of tensor {name[:80]!r} do not fit its dtype and shape"
        )
    return TensorEntry(dtype, tuple(shape), start, end)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item <= _MAX_DIMENSION for item in value
    )


def _corrupt(reason: str) -> SnapshotCorrupt:
    return SnapshotCorrupt(f"not a whole safetensors file: {reason}; get a fresh copy of it")
