"""Length-prefixed frames in a file that only grows: written whole or not at all, and checked.

A frame is, with numbers of 4 bytes, little-endian::

    length of the content | CRC-32 of the content | CRC-32 of these 8 bytes | content | 0x5A

Content is a msgpack map. A writer that was stopped leaves a frame cut off at the end, or, after a
power failure on some file systems, zeros in its place: that is a torn tail and was never
acknowledged. Everything else that does not check is damage; the checksum of the length keeps a
damaged length from looking like a torn tail.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import msgpack

from .packing import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_FRAME = 256 << 20
"""Longest content, in bytes; a longer one is neither written nor read."""
_HEAD = struct.Struct("<III")
_END = b"\x5a"
OVERHEAD = _HEAD.size + len(_END)


class DamagedFrame(ValueError):
    """A frame that was written whole is not what it was."""


def frame(content: dict[str, Any]) -> bytes:
    """A frame around ``content``. Raises ``ValueError`` when it is too long."""
    packed = pack(content)
    if len(packed) > MAX_FRAME:
        raise ValueError(f"a frame holds at most {MAX_FRAME} bytes, not {len(packed)}")
    numbers = struct.pack("<II", len(packed), zlib.crc32(packed))
    return b"".join((numbers, struct.pack("<I", zlib.crc32(numbers)), packed, _END))


def frames(
    read: Callable[[int, int], bytes], start: int, end: int
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """``(position, next position, content)`` of every whole frame between two positions of a file.

    ``read(position, size)`` returns what is there, perhaps less. Ends before a torn tail. Raises
    ``DamagedFrame``. Takes no more memory than the file has bytes, whatever the bytes say.
    """
    while start + _HEAD.size <= end:
        head = read(start, _HEAD.size)
        if len(head) < _HEAD.size:
            return  # a torn tail that was cut off since ``end`` was found
        length, check, own = _HEAD.unpack(head)
        if own != zlib.crc32(head[:8]):
            if _only_zeros(read, start, end):
                return
            raise DamagedFrame(f"the frame at byte {start} has a damaged length")
        after = start + OVERHEAD + length
        if length > MAX_FRAME:
            raise DamagedFrame(f"the frame at byte {start} claims {length} bytes")
        if after > end:
            return
        rest = read(start + _HEAD.size, length + len(_END))
        if len(rest) < length + len(_END):
            return
        if zlib.crc32(rest[:length]) != check or rest[length:] != _END:
            if after == end and rest[-1] == 0:
                return
            raise DamagedFrame(f"the frame at byte {start} does not match its checksum")
        yield start, after, _content(rest[:length], start)
        start = after


def _only_zeros(read: Callable[[int, int], bytes], start: int, end: int) -> bool:
    while start < end:
        part = read(start, min(1 << 16, end - start))
        if part.strip(b"\0"):
            return False
        if not part:
            break
        start += len(part)
    return True


def _content(packed: bytes, start: int) -> dict[str, Any]:
    try:
        content = msgpack.unpackb(packed, strict_map_key=True, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException) as exc:
        raise DamagedFrame(f"the frame at byte {start} is not msgpack") from exc
    if not isinstance(content, dict):
        raise DamagedFrame(f"the frame at byte {start} does not hold a map")
    return content
