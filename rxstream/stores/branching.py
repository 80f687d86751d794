"""Forks and rollbacks, made of loading and committing; the same for every store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import StoreCorrupt, StoreNotFound, VersionConflict
from ..snapshot import Snapshot, pack
from .records import describe
from .rules import check_key, no_such_version

if TYPE_CHECKING:
    from ..snapshot import Kind
    from ..store import Store, VersionInfo


def fork(store: Store, source: str, target: str, version: int | None) -> VersionInfo:
    """See ``Store.fork``."""
    check_key(target)
    parent = store.load(source, version)
    # Before it is known to be empty: what is appended after that look is not part of the fork, and
    # is told to it by a redo.
    head, last = store.head(target), store.last_seq(target)
    if store.history(target, limit=1) or next(iter(store.log(target)), None) is not None:
        raise VersionConflict(target, None, head or 0)
    return _committed(store, _child(parent, target, (head or 0) + 1, "fork", last), head)


def rollback(store: Store, key: str, version: int) -> VersionInfo:
    """See ``Store.rollback``."""
    head, last = store.head(key), store.last_seq(key)
    if head is None:  # also when it begins just now
        raise no_such_version(key, version, None)
    old = store.load(key, version)
    try:  # a retry of what was said since then must still be recognised as one
        keys = store.load(key, head).applied_keys
    except StoreCorrupt:  # which may be the very reason to go back
        keys = old.applied_keys
    except StoreNotFound:  # only what is not the newest any more can have been pruned
        raise VersionConflict(key, head, store.head(key)) from None
    child = _child(old, key, head + 1, "rollback", last)
    return _committed(store, replace(child, applied_keys=keys), head)


def _committed(store: Store, child: Snapshot, head: int | None) -> VersionInfo:
    store.commit(child, expect=head)
    # Not asked of the store, where the version may be pruned or deleted by now.
    return describe(child, len(pack(child)))


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
