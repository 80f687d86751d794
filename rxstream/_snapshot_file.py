"""A snapshot file on its way out or in, hashed beside its transfer when it is large."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from . import tensorfile
from ._snapshot_metadata import FORMAT, hashing
from .errors import SnapshotCorrupt, SnapshotError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from ._hashing import Hashing

_NO_DIGEST = f"sha256:{'0' * 64}"


class Packing:
    """A snapshot as one file, of which the body is known at once, the head when it is hashed.

    ``digest`` is that of the same snapshot, if it is known; ``beside``, whether it is computed on a
    thread when the body is large. To be used in ``with``. Raises ``SnapshotError`` when the
    metadata is too long to be read back.
    """

    def __init__(
        self,
        file: tensorfile.TensorFile,
        described: Mapping[str, str],
        digest: str | None,
        *,
        beside: bool,
    ) -> None:
        self.body = file.body
        self._tensors, self._described, self._digest = file.tensors, described, digest
        self.head_size = len(self._head(_NO_DIGEST))
        """In bytes, where the body follows."""
        self.size = self.head_size + len(self.body)
        if self.head_size - 8 > tensorfile.MAX_HEADER_BYTES:
            raise SnapshotError(
                f"memory {described['memory'][:80]!r}: metadata takes {self.head_size - 8} bytes, "
                f"more than the {tensorfile.MAX_HEADER_BYTES} allowed; keep fewer applied keys or "
                "less metadata"
            )
        self._hashing: Hashing | None = None
        if digest is None:
            self._hashing = hashing(file.tensors, described, beside=beside)
            self._hashing.update(file.body)

    @property
    def pending(self) -> bool:
        """Whether the digest may still have to be waited for."""
        return self._hashing is not None and self._hashing.pending

    @property
    def digest(self) -> str:
        """That of the snapshot; waits for it."""
        if self._digest is None:
            assert self._hashing is not None
            self._digest = self._hashing.result()
        return self._digest

    def head(self) -> bytes:
        """What precedes the body; waits for the digest, which is in there."""
        return self._head(self.digest)

    def packed(self) -> bytes:
        """The whole file; waits for the digest."""
        return b"".join((self.head(), self.body))

    def __enter__(self) -> Packing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._hashing is not None:
            self._hashing.stop()

    def _head(self, digest: str) -> bytes:
        return tensorfile.build_head(self._tensors, {**self._described, "digest": digest})


class Received(NamedTuple):
    """What a snapshot file says, of which only the structure was checked."""

    state: bytes
    found: dict[str, str]
    """The metadata, without the digest."""
    recorded: str
    """The digest that it says it has."""
    whole: bool
    """Whether it is that of its contents, in the one way of writing them."""


class Unpacking:
    """A snapshot file that comes in parts, from anywhere. To be used in ``with``."""

    def __init__(self) -> None:
        self._hashing: Hashing | None = None
        self._view = self._room = memoryview(b"")
        self.begin(0)

    def begin(self, size: int) -> None:
        """Expect a file of so many bytes; what came before is forgotten."""
        self.close()
        self.size, self._came = size, 0
        self._start = b""
        """What came before the body was known to be one."""
        self._damage: SnapshotCorrupt | None = None

    def add(self, part: bytes | memoryview) -> None:
        """Take what comes next; it must stay as it is. Raises nothing: ``finish`` does."""
        self._came += len(part)
        if self._hashing is not None:
            self._take(memoryview(part))
        elif self._damage is None:
            self._start = self._start + part
            try:
                self._read_head()
            except SnapshotCorrupt as exc:
                self._damage = exc

    def _read_head(self) -> None:
        """When it has come, make room for the state and hash from then on."""
        if len(self._start) < 8 or len(self._start) < (at := tensorfile.head_size(self._start)):
            return
        self._tensors, metadata, self._compact = tensorfile.parse_head(self._start[:at])
        # What is allocated is as much as there is, not as much as the file says.
        tensorfile.check_layout(self._tensors, self.size - at)
        self._metadata = metadata or {}
        described = {name: text for name, text in self._metadata.items() if name != "digest"}
        body = memoryview(self._start)[at:]
        more = len(self._start) < self.size
        self._hashing = hashing(self._tensors, described, beside=more)
        if more:  # filled in place while it is hashed, then handed out as it is
            head = tensorfile.build_head(self._tensors, None)
            self._state = BytesIO(bytes(len(head) + self.size - at))
            self._view = self._state.getbuffer()
            self._view[: len(head)] = head
            self._room = self._view[len(head) :]
            self._take(body)
        else:
            self._hashing.update(body)
            self._state = BytesIO(tensorfile.build(self._tensors, None, body))

    def _take(self, part: memoryview) -> None:
        assert self._hashing is not None
        self._hashing.update(part)
        fits = min(len(part), len(self._room))  # more than all is damage, and told at the end
        self._room[:fits] = part[:fits]
        self._room = self._room[fits:]

    def finish(self) -> Received:
        """What all parts together are. Raises ``SnapshotCorrupt`` when that is no snapshot."""
        if self._damage is not None:
            raise self._damage
        if self._hashing is None:
            tensorfile.parse(self._start)  # too short, and says so
            raise AssertionError("a file that can be parsed has a head")
        if self._came != self.size:
            raise SnapshotCorrupt(
                f"not a whole safetensors file: {self._came} bytes came of {self.size}; "
                "get a fresh copy of it"
            )
        if self._metadata.get("format") != FORMAT:
            raise SnapshotCorrupt(
                "not a snapshot: a safetensors file without the metadata of one; "
                "export the memory again with rxstream"
            )
        found = dict(self._metadata)
        recorded = found.pop("digest", "")
        whole = self._compact and recorded == self._hashing.result()
        self._release()
        return Received(self._state.getvalue(), found, recorded, whole)

    def close(self) -> None:
        """End what is running."""
        if self._hashing is not None:
            self._hashing.stop()
            self._hashing = None
        self._release()

    def _release(self) -> None:
        self._room.release()
        self._view.release()

    def __enter__(self) -> Unpacking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
