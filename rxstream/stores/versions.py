"""Versions of a memory, their labels and how long they live: the contract over ``Rows``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from .._snapshot_file import Unpacking
from ..errors import StoreNotFound
from ..snapshot import MAX_NUMBER, Snapshot, keep_digest, packing
from . import records, rules
from .finding import alive, find, meta_of
from .hooks import Hooks
from .rows import parts_of

if TYPE_CHECKING:
    from ..store import VersionInfo
    from .rows import Parted, Rows


class Versions(Hooks):
    """What is public here is documented at ``Store``."""

    def head(self, key: str) -> int | None:
        return self._read(rules.check_key(key), lambda rows: meta_of(rows).head)

    def info(self, key: str, version: int | None = None) -> VersionInfo:
        def work(rows: Rows) -> VersionInfo:
            meta, number = find(rows, key, version)
            return rules.read_info(key, number, rows.info(number), lambda: rows.packed(number))

        return self._read(rules.check_key(key), work)

    def load(self, key: str, version: int | None = None) -> Snapshot:
        with Unpacking() as file:

            def work(rows: Rows) -> tuple[int, bytes | None]:
                meta, number = find(rows, key, version)
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
            ahead = file.pending or self._keeps_body
            whole = b"" if ahead else file.packed()

            def asked() -> str:
                return f"commit {expect} {keep_digest(snapshot, file.digest)}"

            def work(rows: Rows) -> None:
                meta = alive(rows)
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
    ) -> list[int]:
        rules.check_key(key)
        rules.check_limit(limit)
        if before is not None:
            before = min(before, MAX_NUMBER + 1)
        if limit is not None:
            limit = min(limit, MAX_NUMBER)
        if limit == 0 or (before is not None and before <= 0):
            return []
        return self._read(
            key, lambda rows: [] if meta_of(rows).deleted else rows.versions(before, limit)
        )

    # Labels and lifetime

    def tag(self, key: str, label: str, version: int | None = None) -> int:
        rules.check_label(label)

        def work(rows: Rows) -> int:
            meta = alive(rows)
            _, number = find(rows, key, version)
            tags = {**meta.tags, label: number}
            rules.check_tags(key, tags)
            rows.save(replace(meta, tags=tags))
            return number

        return self._write(rules.check_key(key), work)

    def untag(self, key: str, label: str) -> None:
        def work(rows: Rows) -> None:
            meta = alive(rows)
            if label not in meta.tags:
                raise StoreNotFound(f"memory {key!r} has no label {label!r}")
            tags = {name: number for name, number in meta.tags.items() if name != label}
            rows.save(replace(meta, tags=tags))

        self._write(rules.check_key(key), work)

    def tags(self, key: str) -> dict[str, int]:
        return self._read(
            rules.check_key(key), lambda rows: dict(sorted(meta_of(rows).tags.items()))
        )

    def expire(self, key: str, ttl: float | None) -> None:
        rules.check_ttl(ttl)

        def work(rows: Rows) -> None:
            meta = alive(rows)
            if not meta.live:
                raise rules.no_such_version(key, None, None)
            rows.save(replace(meta, ttl=ttl, expires_at=None).renewed(rows.now))

        self._write(rules.check_key(key), work)

    def expires_at(self, key: str) -> float | None:
        return self._read(rules.check_key(key), lambda rows: meta_of(rows).expires_at)

    def prune(
        self, key: str, *, keep_last: int | None = None, older_than: float | None = None
    ) -> int:
        rules.check_prune(key, keep_last, older_than)

        def work(rows: Rows) -> int:
            meta = alive(rows)
            old = rows.versions(None, None)[keep_last or 1 :]
            old = [number for number in old if number not in meta.tags.values()]
            if older_than is not None:
                limit = rows.now - older_than
                old = [number for number in old if rules.made(key, number, rows) < limit]
            rows.remove(old)
            return len(old)

        return self._write(key, work)
