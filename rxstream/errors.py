"""Every error that rxstream raises, as one tree.

::

    RxStreamError
    ├── QueryRejected          not accepted (queue full, busy, closed, duplicate, too long)
    ├── InteractionError       an accepted interaction ended in failure
    │   ├── InteractionCancelled
    │   ├── GenerationError    while decoding; the memory is as before
    │   └── MemoryUpdateError  the answer stands, the memory is as before
    ├── SlowSubscriberError    a subscriber fell behind its log's capacity
    ├── BackpressureDeadlock   a thread would have waited for itself
    ├── ClosedError            used after close
    ├── ForkedRuntimeError     used in a forked child process
    ├── SnapshotError          a snapshot file cannot be read
    │   ├── SnapshotCorrupt        damaged: digest or structure does not match
    │   ├── SnapshotIncompatible   whole, but written by another model
    │   └── SnapshotStale          whole, but older than what is accepted
    └── StoreError
        ├── StoreUnavailable   cannot be opened, read or written (path, permission, disk, network)
        ├── StoreNotFound      no such memory or version
        ├── StoreCorrupt       what was stored is damaged
        ├── VersionConflict    somebody else committed first
        ├── RequestReused      a request id came again with other content
        └── Undecryptable      encrypted, and not with a key that is at hand
"""


class RxStreamError(Exception):
    """Base class of all errors of this package."""


class QueryRejected(RxStreamError):
    """A query was not accepted; nothing was run and no memory was touched.

    ``reason`` is one of ``queue_full`` (conversation or runtime: try later), ``tenant_full`` (the
    tenant has too many queries waiting), ``busy, closed, duplicate, too_long, invalid, halted``,
    ``unsupported`` (the model was not trained to think, to call tools, or to follow
    instructions).
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or f"query rejected: {reason}")
        self.reason = reason


class InteractionError(RxStreamError):
    """An accepted interaction ended without an answer, or without its memory update."""


class InteractionCancelled(InteractionError):
    """The interaction was cancelled; the memory is as it was before."""


class GenerationError(InteractionError):
    """Decoding failed; the memory is as it was before."""


class MemoryUpdateError(InteractionError):
    """The answer is complete, but the memory could not be updated and keeps its version."""


class SlowSubscriberError(RxStreamError):
    """A subscriber fell further behind than its stream keeps events."""


class BackpressureDeadlock(RxStreamError):
    """Waiting here would wait for the very thread that has to go on."""


class ClosedError(RxStreamError):
    """The runtime, memory or store is closed."""


class ForkedRuntimeError(RxStreamError):
    """A runtime does not survive ``os.fork``; create one in the child, or spawn."""


class SnapshotError(RxStreamError):
    """A snapshot cannot be used."""


class SnapshotCorrupt(SnapshotError):
    """The bytes are not a whole snapshot: structure or digest does not match."""


class SnapshotIncompatible(SnapshotError):
    """A whole snapshot of another model. The message names both values."""


class SnapshotStale(SnapshotError):
    """A whole snapshot that was replaced by a newer one, or is too old to be accepted."""


class StoreError(RxStreamError):
    """Base class of what a store raises."""


class StoreUnavailable(StoreError):
    """The store cannot be opened, read or written. The message says what to do."""


class StoreNotFound(StoreError):
    """There is no such memory, or not that version of it."""


class StoreCorrupt(StoreError):
    """Something is stored, but it is damaged. Never reported as absent."""


class VersionConflict(StoreError):
    """A commit expected another version than the stored one; nothing was written."""

    def __init__(
        self, key: str, expected: int | None, found: int | None, message: str = ""
    ) -> None:
        told = message or (
            f"commit expected version {expected}, the store holds {found}; "
            "reload the memory and try again"
        )
        super().__init__(f"memory {key!r}: {told}")
        self.key, self.expected, self.found = key, expected, found


class RequestReused(StoreError):
    """A request id that the store remembers came again, with other content; nothing was written."""


class Undecryptable(StoreError):
    """Encrypted with a key that is not at hand, or changed since: a wrong key cannot tell."""
