"""Log records as stored bytes: no single bit of them can change unnoticed."""

from __future__ import annotations

import pytest

from rxstream.errors import StoreCorrupt
from rxstream.model import CompletedInteraction
from rxstream.store import LogRecord
from rxstream.stores.records import StoredRecord, decode, store_record


def record(remembered: bool) -> LogRecord:
    return LogRecord(
        seq=3,
        interaction="i-1",
        conversation="main",
        completed=CompletedInteraction(query="hello", answer="hi", token_ids=(12, 13)),
        key=None,
        remembered=remembered,
        created_at=1.5,
    )


@pytest.mark.parametrize("remembered", [True, False])
def test_every_bit_of_a_record_counts(remembered):
    whole = store_record("m", record(remembered)).frame()
    assert decode("m", 3, StoredRecord.parse(whole)) == record(remembered)
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreCorrupt, match="log record 3 is damaged"):
            decode("m", 3, StoredRecord.parse(bytes(flipped)))


@pytest.mark.parametrize("length", range(6))
def test_a_record_that_was_cut_off_is_damaged(length):
    whole = store_record("m", record(True)).frame()
    with pytest.raises(StoreCorrupt):
        decode("m", 3, StoredRecord.parse(whole[:length]))


@pytest.mark.parametrize("truth", [2, -1, 257])
def test_a_column_of_truth_that_is_neither_is_damage(truth):
    stored = store_record("m", record(True))
    with pytest.raises(StoreCorrupt):
        decode("m", 3, StoredRecord.of(truth, stored.payload, stored.checksum))
