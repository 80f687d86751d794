"""The log of a memory's interactions: the contract over ``Rows``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import StoreCorrupt, StoreNotFound
from ..snapshot import MAX_NUMBER
from . import records, rules
from .finding import alive, find, meta_of, record_of
from .hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..store import LogRecord
    from .rows import Rows

_PAGE = 256


class Logs(Hooks):
    """What is public here is documented at ``Store``."""

    def append(self, key: str, record: LogRecord, *, request_id: str | None = None) -> LogRecord:
        rules.check_append(key, record)
        rules.check_request(request_id)
        request_id = request_id or self._request()
        asked = "" if request_id is None else rules.content_of(record)

        def work(rows: Rows) -> LogRecord:
            meta = alive(rows)
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

        def work(rows: Rows) -> tuple[int, list[LogRecord]]:
            # Also what is missing is found in here: a store then looks whether somebody removed it.
            meta = meta_of(rows)
            expected = range(max(after + 1, meta.log_start), meta.last_seq + 1)[:size]
            found = dict(rows.records(expected.start, len(expected))) if expected else {}
            return meta.log_start, [record_of(key, seq, found.get(seq)) for seq in expected]

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
            meta = alive(rows)
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
            meta = alive(rows)
            if through < meta.log_start:
                return 0
            _, number = find(rows, key, None)
            newest = rules.read_info(key, number, rows.info(number), lambda: rows.packed(number))
            rules.check_trim(key, through, newest)
            rows.drop(through)
            rows.save(replace(meta, log_start=through + 1))
            return through + 1 - meta.log_start

        return self._write(rules.check_key(key), work)
