"""Forks and rollbacks, made of loading and committing; the same for every store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import StoreCorrupt, VersionConflict
from ..snapshot import Snapshot
from .rules import check_key

if TYPE_CHECKING:
    from ..snapshot import Kind
    from ..store import Store, VersionInfo


def fork(store: Store, source: str, target: str, version: int | None) -> VersionInfo:
    """See ``Store.fork``."""
    check_key(target)
    parent = store.load(source, version)
    head = store.head(target)
    if store.history(target, limit=1) or next(iter(store.log(target)), None) is not None:
        raise VersionConflict(target, None, head or 0)
    number, last = (head or 0) + 1, store.last_seq(target)
    store.commit(_child(parent, target, number, "fork", last), expect=head)
    return store.info(target, number)


def rollback(store: Store, key: str, version: int) -> VersionInfo:
    """See ``Store.rollback``."""
    head, last = store.head(key), store.last_seq(key)
    old = store.load(key, version)
    assert head is not None
    try:  # a retry of what was said since then must still be recognised as one
        keys = store.load(key, head).applied_keys
    except StoreCorrupt:  # which may be the very reason to go back
        keys = old.applied_keys
    child = _child(old, key, head + 1, "rollback", last)
    store.commit(replace(child, applied_keys=keys), expect=head)
    return store.info(key, child.version)


def _child(parent: Snapshot, key: str, version: int, kind: Kind, log_seq: int) -> Snapshot:
    return Snapshot(
        memory_id=key,
        version=version,
        fingerprint=parent.fingerprint,
        state=parent.state,
        log_seq=log_seq,
        parent_digest=parent.digest,
        kind=kind,
        metadata=parent.metadata,
        contains_user_data=parent.contains_user_data,
    )
