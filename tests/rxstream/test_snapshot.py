"""A snapshot file loads as it was written, or is refused with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import struct
from dataclasses import FrozenInstanceError, replace
from typing import TYPE_CHECKING, Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream import tensorfile
from rxstream.errors import SnapshotCorrupt, SnapshotError, SnapshotIncompatible
from rxstream.snapshot import MAX_NUMBER, Snapshot, pack, read_file, unpack, write_file

if TYPE_CHECKING:
    from pathlib import Path

STATE = tensorfile.encode(
    {"stm.0": ("F32", (2, 3), bytes(range(24))), "stm.1": ("BF16", (2,), b"abcd")}
)
WHOLE = Snapshot(
    memory_id="user-42 ü\x1f",
    version=7,
    fingerprint="sha256:one",
    state=STATE,
    log_seq=9,
    applied_keys=("a", 'b"\\\n', "🧠"),
    created_at=1_795_323_077.846372,
    kind="update",
    metadata={"provenance": "dialogue", "stats": "π"},
)
PACKED = pack(WHOLE)

REPEATABLE = settings(derandomize=True, database=None, deadline=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
OWN = {"format", "memory", "version", "kind", "parent", "writer", "digest", "fingerprint"}


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    (size,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def assemble(header: object, body: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode()
    return struct.pack("<Q", len(raw)) + raw + body


def resign(header: dict[str, Any], body: bytes) -> bytes:
    """Give a changed header a digest that matches, as a forger could, in the compact form."""
    metadata = header["__metadata__"]
    metadata.pop("digest", None)
    tensors = {
        name: [t["dtype"], t["shape"], *t["data_offsets"]]
        for name, t in header.items()
        if name != "__metadata__"
    }
    canonical = json.dumps(
        {"metadata": metadata, "tensors": tensors}, sort_keys=True, separators=(",", ":")
    ).encode()
    total = hashlib.sha256(struct.pack("<Q", len(canonical)) + canonical + body)
    metadata["digest"] = f"sha256:{total.hexdigest()}"
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return assemble(raw, body)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    tensors = draw(
        st.dictionaries(
            TEXT.filter(lambda name: name != "__metadata__"),
            st.binary(max_size=8).map(lambda data: ("U8", (len(data),), data)),
            max_size=3,
        )
    )
    return Snapshot(
        memory_id=draw(TEXT),
        version=draw(st.integers(0, MAX_NUMBER)),
        fingerprint=draw(TEXT),
        state=tensorfile.encode(tensors),
        log_seq=draw(st.integers(0, MAX_NUMBER)),
        parent_digest=draw(TEXT),
        applied_keys=tuple(draw(st.lists(TEXT, max_size=3))),
        created_at=draw(st.floats(-1e9, 1e11, allow_nan=False)),
        kind=draw(st.sampled_from(["init", "update", "import", "fork", "restore"])),
        metadata=draw(st.dictionaries(TEXT.filter(lambda name: name not in OWN), TEXT, max_size=3)),
        contains_user_data=draw(st.booleans()),
    )


class TestRoundTrip:
    @settings(REPEATABLE)
    @given(snapshots())
    def test_unpacking_gives_back_what_was_packed(self, snapshot: Snapshot) -> None:
        data = pack(snapshot)
        again = unpack(data, fingerprint=snapshot.fingerprint)
        assert again == snapshot
        assert again.digest == snapshot.digest
        assert pack(again) == data

    def test_the_state_of_a_tensor_library_comes_back_byte_for_byte(self) -> None:
        state = safetensors.torch.save(
            {
                "stm.0": torch.randn(3, 5),
                "stm.1": torch.randn(3, 5).bfloat16(),
                "count": torch.tensor(3, dtype=torch.int8),
                "none": torch.empty(0, 4),
                "half": torch.randn(2, 1, 1).half(),
            }
        )
        assert unpack(pack(replace(WHOLE, state=state))).state == state

    def test_a_tensor_library_reads_the_file_and_its_metadata(self, tmp_path: Path) -> None:
        path = tmp_path / "x.stm.safetensors"
        write_file(path, WHOLE)
        with safetensors.safe_open(path, framework="pt") as file:
            metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}
        assert tensors["stm.0"].shape == (2, 3)
        assert tensors["stm.0"].numpy().tobytes() == bytes(range(24))
        expected = {"format": "rxstream.stm", "format_version": "1", "min_reader": "1"}
        assert expected.items() <= metadata.items()
        assert metadata["created_at"] == "2026-11-22T04:51:17.846372Z"
        assert metadata["writer"].startswith("rxstream/")
        assert json.loads(metadata["applied_keys"]) == list(WHOLE.applied_keys)

    def test_a_file_that_a_tensor_library_wrote_again_is_still_whole(self) -> None:
        metadata = dict(reversed(parts(PACKED)[0]["__metadata__"].items()))
        again = safetensors.torch.save(safetensors.torch.load(PACKED), metadata)
        assert unpack(again) == WHOLE

    def test_what_a_newer_writer_added_is_kept_and_covered_by_the_digest(self) -> None:
        header, body = parts(PACKED)
        header["__metadata__"] |= {"format_version": "3", "signature": "ed25519:x"}
        again = unpack(resign(header, body))
        assert again.metadata["signature"] == "ed25519:x"
        assert replace(again, metadata=WHOLE.metadata) == WHOLE


class TestTheValue:
    def test_the_digest_tells_any_two_contents_apart(self) -> None:
        others = [
            replace(WHOLE, version=8),
            replace(WHOLE, memory_id="other"),
            replace(WHOLE, metadata={}),
            replace(WHOLE, applied_keys=()),
            replace(WHOLE, writer="other/1"),
            replace(WHOLE, state=STATE[:-1] + b"!"),
            replace(WHOLE, state=STATE.replace(b"stm.1", b"stm.2")),
            replace(WHOLE, state=STATE.replace(b"[2,3]", b"[3,2]")),
            replace(WHOLE, state=STATE.replace(b'"BF16"', b'"F16" ')),
        ]
        assert len({s.digest for s in (WHOLE, *others)}) == 10
        assert re.fullmatch("sha256:[0-9a-f]{64}", WHOLE.digest)

    def test_nobody_can_change_a_snapshot(self) -> None:
        data, metadata = bytearray(STATE), {"a": "b"}
        snapshot = Snapshot("m", 1, "f", data, metadata=metadata)  # type: ignore[arg-type]
        data[-1] = 0
        metadata["a"] = "c"
        assert (snapshot.state, snapshot.metadata["a"]) == (STATE, "b")
        with pytest.raises(TypeError):
            snapshot.metadata["a"] = "c"  # type: ignore[index]
        with pytest.raises(FrozenInstanceError):
            snapshot.version = 2  # type: ignore[misc]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"version": -1},
            {"version": True},
            {"version": 1.0},
            {"version": MAX_NUMBER + 1},
            {"log_seq": -1},
            {"kind": "merge"},
            {"memory_id": "\ud800"},
            {"fingerprint": None},
            {"applied_keys": ("\udfff",)},
            {"applied_keys": (1,)},
            {"metadata": {"version": "8"}},
            {"metadata": {"layers": 12}},
            {"metadata": {"\ud800": "x"}},
            {"created_at": float("nan")},
            {"created_at": 1e30},
            {"state": "text"},
            {"state": 5},
        ],
        ids=ascii,
    )
    def test_what_cannot_be_stored_is_refused_at_once(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0] + "|layers|ud800"):
            replace(WHOLE, **wrong)

    @pytest.mark.parametrize(
        ("state", "reason"),
        [
            (b"", "too few"),
            (b"\x80\x04N." * 9, "header claims"),
            (safetensors.torch.save({"a": torch.ones(1)}, {"k": "v"}), "metadata"),
        ],
    )
    def test_a_state_that_is_not_plain_tensors_is_not_packed(
        self, state: bytes, reason: str
    ) -> None:
        with pytest.raises(SnapshotCorrupt, match=reason):
            pack(replace(WHOLE, state=state))

    def test_metadata_too_long_to_be_read_again_is_not_packed(self) -> None:
        keys = tuple(f"{i:064}" for i in range(1 << 14))
        with pytest.raises(SnapshotError, match="keep fewer applied keys"):
            pack(replace(WHOLE, applied_keys=keys))

    def test_tensors_of_the_wrong_size_are_not_encoded(self) -> None:
        with pytest.raises(ValueError, match="do not fit"):
            tensorfile.encode({"a": ("F32", (2,), bytes(4))})


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
            ("F32", [1] * 65, [0, 8]),
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


class TestCompatibility:
    def test_another_model_is_refused_with_both_named(self) -> None:
        assert unpack(PACKED, fingerprint="sha256:one") == WHOLE
        with pytest.raises(SnapshotIncompatible, match=r"'sha256:one'.*'sha256:two'"):
            unpack(PACKED, fingerprint="sha256:two")

    def test_damage_is_reported_before_the_model(self) -> None:
        with pytest.raises(SnapshotCorrupt):
            unpack(PACKED[:-1] + b"!", fingerprint="sha256:two")

    def test_a_format_for_newer_readers_asks_for_an_upgrade(self) -> None:
        header, body = parts(PACKED)
        header["__metadata__"] |= {"format_version": "2", "min_reader": "2"}
        with pytest.raises(SnapshotIncompatible, match="upgrade rxstream"):
            unpack(assemble(header, body))

    def test_other_safetensors_files_are_not_snapshots(self) -> None:
        for data in (STATE, safetensors.torch.save({"w": torch.ones(2)}, {"format": "pt"})):
            with pytest.raises(SnapshotCorrupt, match="not a snapshot"):
                unpack(data)

    def test_a_digest_of_another_kind_is_refused(self) -> None:
        with pytest.raises(SnapshotCorrupt, match="digest"):
            unpack(PACKED.replace(b'"digest":"sha256:', b'"digest":"sha512:'))


class TestFiles:
    def test_a_written_file_reads_as_it_was(self, tmp_path: Path) -> None:
        path = tmp_path / "x.stm.safetensors"
        write_file(path, WHOLE)
        write_file(str(path), replace(WHOLE, version=8))
        assert read_file(str(path), fingerprint="sha256:one").version == 8
        assert [p.name for p in tmp_path.iterdir()] == [path.name]

    def test_a_failed_write_leaves_the_old_file_and_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "x"
        write_file(path, WHOLE)

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(SnapshotError, match=r"x.*No space left.*check"):
            write_file(path, replace(WHOLE, version=8))
        monkeypatch.undo()
        assert read_file(path) == WHOLE
        assert [p.name for p in tmp_path.iterdir()] == ["x"]

    def test_file_and_folder_reach_the_disk_before_the_call_returns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[str] = []

        def note(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

        monkeypatch.setattr(os, "fsync", note)
        write_file(tmp_path / "x", WHOLE)
        assert synced[0].endswith(".tmp")
        assert synced[1:] == [str(tmp_path)]

    @pytest.mark.parametrize("name", ["absent", "file/below", "folder", "pipe", "nul\0"])
    def test_what_is_not_a_file_is_refused_with_its_path(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "file").write_bytes(b"")
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(SnapshotError, match=f"cannot read.*{name[:3]}.*check"):
            read_file(tmp_path / name)

    @pytest.mark.parametrize("name", ["absent/x", "file/x", "folder", "nul\0"])
    def test_a_place_that_cannot_be_written_is_refused_with_its_path(
        self, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        (tmp_path / "folder" / "inside").mkdir(parents=True)
        with pytest.raises(SnapshotError, match=f"cannot write.*{name[:3]}.*check"):
            write_file(tmp_path / name, WHOLE)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(PACKED[:-1])
        with pytest.raises(SnapshotCorrupt, match=re.escape(str(tmp_path / "x"))):
            read_file(tmp_path / "x")
        (tmp_path / "x").write_bytes(PACKED)
        with pytest.raises(SnapshotIncompatible, match=re.escape(str(tmp_path / "x"))):
            read_file(tmp_path / "x", "sha256:two")

    def test_a_huge_file_with_a_huge_header_is_not_read(self, tmp_path: Path) -> None:
        with open(tmp_path / "x", "wb") as file:
            file.write(struct.pack("<Q", 1 << 50))
            file.truncate(1 << 42)  # sparse: four tebibytes that take no space
        with pytest.raises(SnapshotCorrupt, match="more than the 1048576 allowed"):
            read_file(tmp_path / "x")
