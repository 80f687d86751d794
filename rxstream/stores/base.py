"""The whole store contract over ``Rows``: a store that extends it only has to keep rows."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from .._snapshot_file import Unpacking
from ..errors import StoreCorrupt, StoreNotFound
from ..snapshot import MAX_NUMBER, Snapshot, keep_digest, packing
from . import branching, records, rules
from .rows import parts_of
from .watching import Watchers

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator

    from ..store import Capability, LogRecord, VersionInfo
    from .rows import Meta, Parted, Rows

T = TypeVar("T")
_PAGE = 256


class BaseStore(ABC):
    """``Store``, for whoever implements ``_read``, ``_write``, ``_names`` and ``_close``.

    ``docs/store-authors.md`` shows how. What is public here is documented at ``Store``.
    """

    capabilities: frozenset[Capability] = frozenset()

    _hashes_beside = False
    """Whether a large version is hashed on a thread while it is written: rows have ``begin``."""

    def __init__(self) -> None:
        self._watchers = Watchers(self)
        self._skew = 0.0
        """Seconds by which tests set the store's clock forward."""

    def _now(self) -> float:
        """Of the store's clock, if it has none of its own: seconds since the Unix epoch."""
        return time.time() + self._skew

    @abstractmethod
    def _read(self, key: str, work: Callable[[Rows], T]) -> T:
        """Run ``work`` on one state of a memory. It may be run again, on a newer one."""

    @abstractmethod
    def _write(self, key: str, work: Callable[[Rows], T], *, repeatable: bool = False) -> T:
        """Run ``work``; what it wrote is stored when it returns, and undone when it raises.

        Nobody else may write to the memory in between; a store that cannot see to that runs
        ``work`` again when somebody did. With ``repeatable`` it may also be run again when nobody
        knows whether it was stored: it looks for its own request first.
        """

    def _request(self) -> str | None:
        """A request id for a call without one, where a call may be in doubt."""
        return None

    @abstractmethod
    def _names(self, prefix: str, after: str, limit: int | None) -> builtins.list[str]:
        """Names of live memories; see ``list``. ``limit`` is None or positive."""

    @abstractmethod
    def _close(self) -> None:
        """See ``close``."""

    def _expired(self) -> builtins.list[str]:
        """Names of memories that have expired, but were not deleted yet, or may have."""
        return []

    def _clean(self) -> None:  # noqa: B027 - there may be nothing to do
        """Free what killed writers left behind."""

    # Versions

    def head(self, key: str) -> int | None:
        return self._read(rules.check_key(key), lambda rows: _meta(rows).head)

    def info(self, key: str, version: int | None = None) -> VersionInfo:
        def work(rows: Rows) -> VersionInfo:
            meta, number = _find(rows, key, version)
            return rules.read_info(key, number, rows.info(number), lambda: rows.packed(number))

        return self._read(rules.check_key(key), work)

    def load(self, key: str, version: int | None = None) -> Snapshot:
        with Unpacking() as file:

            def work(rows: Rows) -> tuple[int, bytes | None]:
                meta, number = _find(rows, key, version)
                found = parts_of(rows, number)
                if found is None:
                    raise rules.damaged_version(key, number, "it is missing")
                file.begin(found.size)
                for part in found.parts:
                    file.add(part)
                return number, rows.info(number)

            number, info = self._read(rules.check_key(key), work)
            return rules.unpack_stored(key, number, file, info)

    def commit(
        self, snapshot: Snapshot, *, expect: int | None, request_id: str | None = None
    ) -> None:
        key = rules.check_key(snapshot.memory_id)
        rules.check_request(request_id)
        request_id = request_id or self._request()
        with packing(snapshot, beside=self._hashes_beside) as file:
            ahead = file.pending
            whole = b"" if ahead else file.packed()

            def asked() -> str:
                return f"commit {expect} {keep_digest(snapshot, file.digest)}"

            def work(rows: Rows) -> None:
                meta = _alive(rows)
                known = request_id in meta.requests
                if known and rules.is_repeated(key, meta, request_id, asked()):
                    return
                rules.check_commit(snapshot, expect=expect, found=meta.head)
                if ahead:
                    cast("Parted", rows).begin(snapshot.version, file)
                packed = file.head() if ahead else whole
                keep_digest(snapshot, file.digest)
                described = records.describe(snapshot, file.size)
                rows.add(snapshot.version, records.encode_info(described), packed)
                meta = replace(meta, head=snapshot.version, deleted=False).renewed(rows.now)
                rows.save(meta.with_request(request_id, asked(), snapshot.version))

            self._write(key, work, repeatable=request_id is not None)
        self._watchers.notify()

    def history(
        self, key: str, *, before: int | None = None, limit: int | None = None
    ) -> builtins.list[int]:
        rules.check_key(key)
        rules.check_limit(limit)
        if before is not None:
            before = min(before, MAX_NUMBER + 1)
        if limit is not None:
            limit = min(limit, MAX_NUMBER)
        if limit == 0 or (before is not None and before <= 0):
            return []
        return self._read(
            key, lambda rows: [] if _meta(rows).deleted else rows.versions(before, limit)
        )

    def fork(self, source: str, target: str, *, version: int | None = None) -> VersionInfo:
        return branching.fork(self, source, target, version)

    def rollback(self, key: str, version: int) -> VersionInfo:
        return branching.rollback(self, key, version)

    # Labels and lifetime

    def tag(self, key: str, label: str, version: int | None = None) -> int:
        rules.check_label(label)

        def work(rows: Rows) -> int:
            meta = _alive(rows)
            _, number = _find(rows, key, version)
            tags = {**meta.tags, label: number}
            rules.check_tags(key, tags)
            rows.save(replace(meta, tags=tags))
            return number

        return self._write(rules.check_key(key), work)

    def untag(self, key: str, label: str) -> None:
        def work(rows: Rows) -> None:
            meta = _alive(rows)
            if label not in meta.tags:
                raise StoreNotFound(f"memory {key!r} has no label {label!r}")
            tags = {name: number for name, number in meta.tags.items() if name != label}
            rows.save(replace(meta, tags=tags))

        self._write(rules.check_key(key), work)

    def tags(self, key: str) -> dict[str, int]:
        return self._read(rules.check_key(key), lambda rows: dict(sorted(_meta(rows).tags.items())))

    def expire(self, key: str, ttl: float | None) -> None:
        rules.check_ttl(ttl)

        def work(rows: Rows) -> None:
            meta = _alive(rows)
            if not meta.live:
                raise rules.no_such_version(key, None, None)
            rows.save(replace(meta, ttl=ttl, expires_at=None).renewed(rows.now))

        self._write(rules.check_key(key), work)

    def expires_at(self, key: str) -> float | None:
        return self._read(rules.check_key(key), lambda rows: _meta(rows).expires_at)

    def sweep(self) -> int:
        def work(rows: Rows) -> bool:
            expired = rows.meta().live and not _meta(rows).live
            _alive(rows)
            return expired

        swept, damage = 0, None
        for key in self._expired():
            try:
                swept += self._write(key, work)
            except StoreCorrupt as exc:  # is told when all others were swept
                damage = damage or exc
        self._clean()
        if damage is not None:
            raise damage
        return swept

    # The log

    def append(self, key: str, record: LogRecord, *, request_id: str | None = None) -> LogRecord:
        rules.check_append(key, record)
        rules.check_request(request_id)
        request_id = request_id or self._request()
        asked = "" if request_id is None else rules.content_of(record)

        def work(rows: Rows) -> LogRecord:
            meta = _alive(rows)
            if rules.is_repeated(key, meta, request_id, asked):
                assert request_id is not None
                return replace(record, seq=meta.requests[request_id][1])
            appended = replace(record, seq=meta.last_seq + 1)
            rows.put(appended.seq, records.store_record(key, appended))
            meta = replace(meta, last_seq=appended.seq).renewed(rows.now)
            rows.save(meta.with_request(request_id, asked, appended.seq))
            return appended

        return self._write(key, work, repeatable=request_id is not None)

    def last_seq(self, key: str) -> int:
        return self._read(rules.check_key(key), lambda rows: rows.meta().last_seq)

    def log(self, key: str, after: int = 0) -> Iterator[LogRecord]:
        return self._pages(rules.check_key(key), max(0, min(after, MAX_NUMBER)))

    def _pages(self, key: str, after: int) -> Iterator[LogRecord]:
        life: int | None = None
        size = _PAGE

        def work(rows: Rows) -> tuple[int, builtins.list[LogRecord]]:
            # Also what is missing is found in here: a store then looks whether somebody removed it.
            meta = _meta(rows)
            expected = range(max(after + 1, meta.log_start), meta.last_seq + 1)[:size]
            found = dict(rows.records(expected.start, len(expected))) if expected else {}
            return meta.log_start, [_record(key, seq, found.get(seq)) for seq in expected]

        while True:
            try:
                start, page = self._read(key, work)
            except StoreCorrupt:
                if size == 1:
                    raise
                size = 1  # all that precede the damaged one can still be given
                continue
            if not page or life not in (None, start):
                return  # the end, or deleted or trimmed meanwhile
            life = start
            yield from page
            after = page[-1].seq

    def forget(self, key: str, seq: int) -> None:
        def work(rows: Rows) -> None:
            meta = _alive(rows)
            if not meta.log_start <= seq <= meta.last_seq:
                raise StoreNotFound(f"memory {key!r} has no log record {seq}")
            found = rows.records(seq, 1)
            if not found or found[0][0] != seq:
                raise records.damaged(key, seq, "it is missing")
            record = records.decode(key, seq, found[0][1])
            rows.put(seq, records.store_record(key, replace(record, remembered=False)))

        self._write(rules.check_key(key), work)

    def trim(self, key: str, through: int) -> int:
        def work(rows: Rows) -> int:
            meta = _alive(rows)
            if through < meta.log_start:
                return 0
            _, number = _find(rows, key, None)
            newest = rules.read_info(key, number, rows.info(number), lambda: rows.packed(number))
            rules.check_trim(key, through, newest)
            rows.drop(through)
            rows.save(replace(meta, log_start=through + 1))
            return through + 1 - meta.log_start

        return self._write(rules.check_key(key), work)

    # All memories

    def list(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> builtins.list[str]:
        rules.check_limit(limit)
        if limit == 0:
            return []
        return self._names(prefix, after, None if limit is None else min(limit, MAX_NUMBER))

    def watch(
        self, key: str, *, after: int | None = None, timeout: float | None = None
    ) -> Iterator[VersionInfo]:
        return self._watchers.watch(rules.check_key(key), after, timeout)

    def delete(self, key: str) -> None:
        def work(rows: Rows) -> None:
            meta = _alive(rows)
            if meta.live:
                _remove_all(rows, meta.after_delete())

        self._write(rules.check_key(key), work)

    def prune(
        self, key: str, *, keep_last: int | None = None, older_than: float | None = None
    ) -> int:
        rules.check_prune(key, keep_last, older_than)

        def work(rows: Rows) -> int:
            meta = _alive(rows)
            old = rows.versions(None, None)[keep_last or 1 :]
            old = [number for number in old if number not in meta.tags.values()]
            if older_than is not None:
                limit = rows.now - older_than
                old = [number for number in old if rules.made(key, number, rows) < limit]
            rows.remove(old)
            return len(old)

        return self._write(key, work)

    def close(self) -> None:
        self._close()
        self._watchers.notify()


def _meta(rows: Rows) -> Meta:
    return rows.meta().at(rows.now)


def _record(key: str, seq: int, stored: records.StoredRecord | None) -> LogRecord:
    if stored is None:
        raise records.damaged(key, seq, "it is missing")
    return records.decode(key, seq, stored)


def _alive(rows: Rows) -> Meta:
    """For writing: what has expired is deleted first."""
    before = rows.meta()
    meta = before.at(rows.now)
    if meta is not before:
        _remove_all(rows, meta)
    return meta


def _remove_all(rows: Rows, meta: Meta) -> None:
    rows.remove(rows.versions(None, None))
    rows.drop(meta.last_seq)
    rows.save(meta)


def _find(rows: Rows, key: str, version: int | None) -> tuple[Meta, int]:
    """The number of a version that is there or ought to be."""
    meta = _meta(rows)
    number = meta.head if version is None else version
    if number is None or meta.deleted:
        raise rules.no_such_version(key, number, None)
    if not 0 <= number <= MAX_NUMBER or not rows.versions(number + 1, 1) == [number]:
        if number == meta.head:
            raise rules.damaged_version(key, number, "it is the newest, but missing")
        kept = rows.versions(None, None)
        raise rules.no_such_version(key, number, min(kept, default=None))
    return meta, number
