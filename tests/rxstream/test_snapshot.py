"""A snapshot file loads as it was written, for any contents, and by any tensor library."""

from __future__ import annotations

import json
import os
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

from rxstream import _snapshot_metadata, tensorfile
from rxstream.errors import SnapshotCorrupt, SnapshotError, SnapshotIncompatible
from rxstream.snapshot import MAX_NUMBER, Snapshot, pack, read_file, unpack, write_file

from .snapshot_samples import PACKED, REPEATABLE, STATE, TEXT, WHOLE, assemble, parts, resign

if TYPE_CHECKING:
    from pathlib import Path


OWN = _snapshot_metadata.NAMES


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

    def test_the_digest_of_a_snapshot_is_the_same_in_every_version(self) -> None:
        """Parents are named by digest, so a change here breaks what users have stored."""
        snapshot = replace(WHOLE, writer="rxstream/0.1.0")
        assert snapshot.digest == (
            "sha256:145c565c2d3a4d79c421abfead4f91ba3c7bdccfa256549bf11f0108962ff3e4"
        )


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
