"""Memories that clients hold: sealed in an answer, sent back with the next request.

The server keeps nothing between two requests: no store has the memory or its log, not even for a
moment. Any server with the key and the model goes on with it. What is protected, and what is not,
is said in ``sealing``. Needs ``rxstream[crypto]``.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio
import anyio.to_thread

from rxstream.errors import MemoryUpdateError, StoreNotFound
from rxstream.stores.transient import TransientStore

if TYPE_CHECKING:
    from types import TracebackType

    from rxstream import Runtime, ShortTermMemory, Snapshot

    from .sealing import Sealer

M = TypeVar("M")


class ClientHeld(Generic[M]):
    """Opens sealed memories in a runtime and seals them again.

    ::

        runtime = Runtime(model, TransientStore(open_store("sqlite:///memories.db")))
        held = ClientHeld(runtime, Sealer(Keyring({"2026": key}, "2026")))

        with held.visit(request.memory, tenant=request.user) as visit:   # also: async with
            answer = visit.memory.conversation().ask(request.query).result()
        respond(answer.text, visit.sealed)

    The runtime's store must be a ``TransientStore``; other memories of it are kept as ever.
    """

    def __init__(self, runtime: Runtime[M], sealer: Sealer, *, grace: float | None = 30.0) -> None:
        """``grace`` bounds how long leaving a visit waits for the memory update, in seconds."""
        store = runtime.store
        if not isinstance(store, TransientStore):
            raise ValueError(
                "a runtime with client-held memories needs Runtime(model, TransientStore(store)), "
                f"or its {type(store).__name__} would keep what it must not"
            )
        self.store = store
        self.runtime, self.sealer, self.grace = runtime, sealer, grace

    def visit(
        self,
        sealed: bytes | None = None,
        *,
        tenant: str,
        at_least: int = 0,
        snapshot: Snapshot | None = None,
    ) -> Visit[M]:
        """A context manager within which a memory is open.

        ``sealed`` is what the visit before gave; None begins a new memory, with ``snapshot`` if
        there is one. ``tenant`` is whose it is: nobody else's name opens it. ``at_least`` is the
        lowest version that is accepted. Entering raises what ``Sealer.open`` raises, and what
        ``runtime.memory`` raises: SnapshotIncompatible for another model's memory.
        """
        return Visit(self, sealed, tenant=tenant, at_least=at_least, snapshot=snapshot)


class Visit(Generic[M]):
    """A memory while its holder is being served. Leaving waits until every answer is remembered.

    Wait for the answers themselves first: a query that still queues when the visit ends is
    cancelled, as by ``runtime.release``.
    Two visits of the same sealed memory know nothing of each other: each gives a successor of its
    own. A visit that ends with an error leaves the memory as it was sent.
    """

    memory: ShortTermMemory[M]
    """The open memory; ends with the visit."""

    def __init__(
        self,
        held: ClientHeld[M],
        sealed: bytes | None,
        *,
        tenant: str,
        at_least: int,
        snapshot: Snapshot | None,
    ) -> None:
        self._held, self._tenant, self._at_least = held, tenant, at_least
        self._snapshot = snapshot
        self.sealed = sealed
        """What to give to the client: after the visit, the memory with all that was said in it.
        None while nothing was ever said."""
        self.id = secrets.token_hex(16)
        """Of the memory; stays the same in all that follow from it."""
        self.version = 0
        """Of ``sealed``; counts up with every update."""

    def __enter__(self) -> Visit[M]:
        runtime = self._held.runtime
        begin = self._snapshot
        if self.sealed is not None:
            begin = self._held.sealer.open(
                self.sealed, tenant=self._tenant, at_least=self._at_least
            )
            self.id, self.version = begin.memory_id, begin.version
        self._name = self._held.store.prefix + secrets.token_hex(16)
        try:
            self.memory = runtime.memory(
                self._name, snapshot=begin, tenant=self._tenant, durability="close"
            )
        except BaseException:
            self._held.store.drop(self._name)
            raise
        self._began = self.memory.version
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            whole = self._held.runtime.release(
                self._name, grace=self._held.grace, drain=error is None
            )
            if error is None:
                self._seal(whole)
        finally:
            self._held.store.drop(self._name)

    async def __aenter__(self) -> Visit[M]:
        return await anyio.to_thread.run_sync(self.__enter__)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(
                lambda: self.__exit__(kind, error, traceback), limiter=anyio.CapacityLimiter(1)
            )

    def _seal(self, whole: bool) -> None:
        if not whole:
            raise MemoryUpdateError(
                f"the memory update did not end within {self._held.grace} seconds; what the client "
                "holds is as before, ask again"
            )
        with suppress(StoreNotFound):  # nothing was ever said
            kept = self._held.store.load(self._name)
            self.version += kept.version - self._began
            made = replace(
                kept, memory_id=self.id, version=self.version, log_seq=0, applied_keys=()
            )
            self.sealed = self._held.sealer.seal(made, tenant=self._tenant)
