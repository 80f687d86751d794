"""A snapshot file that is damaged or forged is refused with a typed error."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream import tensorfile
from rxstream.errors import SnapshotCorrupt, SnapshotError
from rxstream.snapshot import pack, unpack

from .snapshot_samples import PACKED, REPEATABLE, WHOLE, assemble, parts, resign


class TestDamage:
    def test_every_one_of_256_random_bit_flips_is_noticed(self) -> None:
        data = pack(replace(WHOLE, state=tensorfile.encode({"a": ("U8", (600,), bytes(600))})))
        rng = random.Random(0)
        for bit in rng.sample(range(len(data) * 8), 256):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(SnapshotError):
                unpack(bytes(changed))

    def test_every_bit_of_a_header_is_covered(self) -> None:
        size = len(PACKED) - 28
        for bit in range(size * 8):
            changed = bytearray(PACKED)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(SnapshotError):
                unpack(bytes(changed))

    @pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 400, len(PACKED) - 1])
    def test_a_cut_off_file_is_corrupt(self, length: int) -> None:
        with pytest.raises(SnapshotCorrupt, match="fresh copy"):
            unpack(PACKED[:length])

    def test_a_longer_file_is_corrupt(self) -> None:
        with pytest.raises(SnapshotCorrupt, match="follow the header"):
            unpack(PACKED + b"\0")

    @settings(REPEATABLE, max_examples=300)
    @given(st.binary(max_size=200))
    def test_random_bytes_raise_nothing_but_the_typed_error(self, data: bytes) -> None:
        with pytest.raises(SnapshotCorrupt):
            unpack(data)

    @settings(REPEATABLE, max_examples=300)
    @given(st.binary(max_size=200), st.binary(max_size=20))
    def test_random_headers_raise_nothing_but_the_typed_error(
        self, header: bytes, body: bytes
    ) -> None:
        with pytest.raises(SnapshotCorrupt):
            unpack(assemble(header, body))

    @settings(REPEATABLE, max_examples=150)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["__metadata__", "a", "dtype", "shape", "data_offsets"]), inner
                )
            ),
        ),
        st.binary(max_size=16),
    )
    def test_random_json_raises_nothing_but_the_typed_error(self, header: Any, body: bytes) -> None:
        with pytest.raises(SnapshotCorrupt):
            unpack(assemble(json.dumps(header).encode(), body))

    @settings(REPEATABLE, max_examples=500)
    @given(st.data())
    def test_random_mutations_raise_nothing_but_the_typed_errors(self, data: st.DataObject) -> None:
        changed = bytearray(PACKED)
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, len(changed)))
            stop = data.draw(st.integers(start, min(len(changed), start + 12)))
            changed[start:stop] = data.draw(st.binary(max_size=12))
        if bytes(changed) == PACKED:
            return
        with pytest.raises(SnapshotError):
            unpack(bytes(changed))

    @settings(REPEATABLE)
    @given(
        st.sampled_from(sorted(parts(PACKED)[0]["__metadata__"].keys() - {"digest"})),
        st.none() | st.text(max_size=12) | st.sampled_from(["-1", "01", "1.5", "9" * 5000, "[1]"]),
    )
    def test_a_forged_field_with_the_right_digest_loads_cleanly_or_is_refused(
        self, field: str, value: str | None
    ) -> None:
        header, body = parts(PACKED)
        header["__metadata__"].pop(field)
        if value is not None:
            header["__metadata__"][field] = value
        try:
            data = resign(header, body)
        except UnicodeEncodeError:
            return
        try:
            snapshot = unpack(data)
        except SnapshotError:
            return
        recorded = parts(data)[0]["__metadata__"]["digest"]
        assert field in ("format_version", "min_reader") or snapshot.digest == recorded


class TestForgedStructure:
    """Files that a forger wrote with care: digest and length are right, the layout is not."""

    def refused(self, entry: object, body: bytes = bytes(8), **others: object) -> str:
        header, _ = parts(PACKED)
        data = assemble({"__metadata__": header["__metadata__"], "a": entry, **others}, body)
        with pytest.raises(SnapshotCorrupt) as caught:
            unpack(data)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("dtype", "shape", "offsets"),
        [
            ("F32", [2], [0, 4]),
            ("F32", [2], [8, 0]),
            ("F32", [3], [0, 8]),
            ("F32", [-2], [0, 8]),
            ("F32", [2.0], [0, 8]),
            ("F32", [True, 2], [0, 8]),
            ("F32", [1 << 60, 1 << 60], [0, 8]),
            ("F32", [10**400], [0, 8]),
            ("U8", [8] + [1] * 64, [0, 8]),
            ("F32", "2", [0, 8]),
            ("F32", [2], [0, 8, 8]),
            ("F32", [2], [0.0, 8.0]),
            ("F32", [2], None),
            ("F31", [2], [0, 8]),
            (["F32"], [2], [0, 8]),
            ("F4", [3], [0, 1]),
        ],
        ids=str,
    )
    def test_dtype_shape_and_offsets_must_agree(
        self, dtype: object, shape: object, offsets: object
    ) -> None:
        assert "'a'" in self.refused({"dtype": dtype, "shape": shape, "data_offsets": offsets})

    @pytest.mark.parametrize("start", [0, 2, 6])
    def test_tensors_must_neither_overlap_nor_leave_a_gap(self, start: int) -> None:
        first = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
        other = {"dtype": "U8", "shape": [2], "data_offsets": [start, start + 2]}
        assert "gap or overlaps" in self.refused(first, b=other)

    def test_an_entry_may_hold_nothing_else(self) -> None:
        self.refused({"dtype": "U8", "shape": [8], "data_offsets": [0, 8], "x": 1})
        self.refused({"dtype": "U8", "shape": [8]})
        self.refused([])

    def test_a_name_given_twice_is_refused(self) -> None:
        raw = PACKED[8:].replace(b'"stm.1":', b'"stm.0":', 1)
        with pytest.raises(SnapshotCorrupt):
            unpack(PACKED[:8] + raw)

    @pytest.mark.parametrize("metadata", [{"a": 1}, [], "text", {"a": None}])
    def test_metadata_must_map_text_to_text(self, metadata: object) -> None:
        with pytest.raises(SnapshotCorrupt, match="text to text"):
            unpack(assemble({"__metadata__": metadata}, b""))

    def test_a_header_longer_than_a_mebibyte_is_refused_unread(self) -> None:
        for size in (tensorfile.MAX_HEADER_BYTES + 1, 1 << 40, (1 << 64) - 1):
            with pytest.raises(SnapshotCorrupt, match="more than the 1048576 allowed"):
                unpack(struct.pack("<Q", size) + b"{}")

    @pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000])
    def test_a_header_made_to_exhaust_the_parser_is_refused(self, raw: bytes) -> None:
        with pytest.raises(SnapshotCorrupt):
            unpack(assemble(raw, b""))
