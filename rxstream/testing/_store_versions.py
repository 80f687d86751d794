"""Store contract: what was committed comes back, in order, whole, or not at all."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ..errors import SnapshotError, StoreCorrupt, StoreNotFound
from ..snapshot import Snapshot
from ..tensorfile import encode
from ._store_samples import commit_next, record, snapshot, state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..store import Store

LAYOUTS: dict[str, Mapping[str, tuple[str, Sequence[int], bytes]]] = {
    "f32": {"stm": ("F32", (2, 3), bytes(range(24)))},
    "f16": {"stm": ("F16", (2, 3), bytes(range(12)))},
    "bf16": {"stm": ("BF16", (3,), bytes(range(6)))},
    "fp8": {"stm": ("F8_E4M3", (5,), bytes(range(5)))},
    "int8": {"stm": ("I8", (7,), bytes(range(7)))},
    "one number": {"stm": ("F32", (), bytes(4))},
    "no slots": {"stm": ("F32", (0, 8), b"")},
    "no tensors": {},
    "a layer each": {f"stm.{i}": ("F32", (2, 2), bytes([i]) * 16) for i in range(12)},
    "names like paths": {"../../x": ("U8", (1,), b"x"), "ü/\0": ("U8", (1,), b"y")},
}


class Versions:
    """Round trip, history, pruning, deleting."""

    def test_a_committed_snapshot_loads_with_every_field_as_it_was(self, store: Store) -> None:
        parent = snapshot("user-42 ü 🧠", 6)
        whole = Snapshot(
            memory_id=parent.memory_id,
            version=7,
            fingerprint="sha256:é",
            state=state(3),
            log_seq=12,
            parent_digest=parent.digest,
            applied_keys=("k-1", 'quote " and \\ and\nline', "🔑"),
            created_at=1_795_323_077.846372,
            kind="fork",
            metadata={"provenance": '{"source": "dialogue"}', "stats": "π"},
            contains_user_data=False,
            writer="another/1.0",
        )
        store.commit(whole, expect=None)
        loaded = store.load(whole.memory_id)
        assert loaded == whole
        assert loaded.digest == whole.digest
        assert loaded.parent_digest == parent.digest

    @pytest.mark.parametrize("layout", LAYOUTS, ids=str)
    def test_tensor_bytes_of_any_layout_come_back_identical(
        self, store: Store, layout: str
    ) -> None:
        data = encode(LAYOUTS[layout])
        store.commit(replace(snapshot(), state=data), expect=None)
        assert store.load("m").state == data

    def test_a_large_memory_comes_back_identical(self, store: Store) -> None:
        data = encode({"stm": ("U8", (8 << 20,), random.Random(0).randbytes(8 << 20))})
        store.commit(replace(snapshot(), state=data), expect=None)
        assert store.load("m").state == data

    def test_the_store_keeps_a_copy_of_what_the_caller_may_change(self, store: Store) -> None:
        data, metadata = bytearray(state(1)), {"source": "before"}
        store.commit(Snapshot("m", 1, "f", data, metadata=metadata), expect=None)  # type: ignore[arg-type]
        data[-1] ^= 1
        metadata["source"] = "after"
        loaded = store.load("m")
        assert (loaded.state, loaded.metadata["source"]) == (state(1), "before")

    def test_a_snapshot_that_cannot_be_packed_leaves_no_trace(self, store: Store) -> None:
        with pytest.raises(SnapshotError):
            store.commit(replace(snapshot(), state=b"not tensors"), expect=None)
        assert (store.head("m"), store.history("m"), store.list()) == (None, [], [])

    def test_every_version_stays_as_it_was_committed(self, store: Store) -> None:
        for _ in range(4):
            commit_next(store)
        assert [store.load("m", version) for version in (1, 2, 3, 4)] == [
            snapshot("m", version) for version in (1, 2, 3, 4)
        ]
        assert store.load("m") == snapshot("m", 4)

    def test_what_was_never_stored_is_not_found(self, store: Store) -> None:
        assert store.head("m") is None
        assert store.history("m") == []
        with pytest.raises(StoreNotFound, match="'m'"):
            store.load("m")
        commit_next(store)
        for version in (0, 2, -1, 10**30):
            with pytest.raises(StoreNotFound, match=str(version)):
                store.load("m", version)

    def test_history_is_newest_first(self, store: Store) -> None:
        for _ in range(12):
            commit_next(store)
        assert store.history("m") == list(range(12, 0, -1))

    def test_pruning_keeps_the_newest_and_says_how_many_went(self, store: Store) -> None:
        for _ in range(5):
            commit_next(store)
        assert store.prune("m", keep_last=9) == 0
        assert store.prune("m", keep_last=2) == 3
        assert store.history("m") == [5, 4]
        assert store.load("m") == snapshot("m", 5)
        with pytest.raises(StoreNotFound):
            store.load("m", 3)
        assert commit_next(store) == 6

    def test_pruning_never_takes_the_newest(self, store: Store) -> None:
        commit_next(store)
        with pytest.raises(ValueError, match="keep_last"):
            store.prune("m", keep_last=0)
        assert store.prune("absent", keep_last=1) == 0
        assert store.history("m") == [1]

    def test_deleting_removes_versions_and_log_of_one_memory(self, store: Store) -> None:
        for key in ("a", "ab", "b"):
            commit_next(store, key)
            store.append(key, record(key))
        store.delete("a")
        assert (store.history("a"), list(store.log("a"))) == ([], [])
        with pytest.raises(StoreNotFound):
            store.load("a")
        assert store.list() == ["ab", "b"]
        assert [r.completed.query for r in store.log("ab")] == ["ab"]
        assert store.load("ab") == snapshot("ab", 1)

    def test_deleting_what_is_absent_changes_nothing(self, store: Store) -> None:
        store.delete("m")
        assert store.head("m") is None
        commit_next(store)
        store.delete("m")
        head = store.head("m")
        store.delete("m")
        assert store.head("m") == head


class Integrity:
    """Damage is reported as damage, and only where it is."""

    def corrupt_version(
        self, store: Store, key: str, version: int, change: Callable[[bytes], bytes]
    ) -> None:
        """Hook; see ``StoreContract``."""

    def test_a_flipped_bit_anywhere_is_reported_as_damage(self, store: Store) -> None:
        commit_next(store)
        rng = random.Random(1)
        for _ in range(48):
            whole: list[bytes] = []

            def flip(data: bytes, whole: list[bytes] = whole) -> bytes:
                whole.append(data)
                position = rng.randrange(len(data))
                changed = bytes([data[position] ^ (1 << rng.randrange(8))])
                return data[:position] + changed + data[position + 1 :]

            self.corrupt_version(store, "m", 1, flip)
            with pytest.raises(StoreCorrupt, match=r"'m'.*version 1"):
                store.load("m")
            self.corrupt_version(store, "m", 1, lambda _, whole=whole: whole[0])  # type: ignore[misc]
        assert store.load("m") == snapshot("m", 1)

    @pytest.mark.parametrize("damage", ["cut off", "half", "empty", "longer", "zeros", "not ours"])
    def test_bytes_of_the_wrong_length_or_kind_are_damage(self, store: Store, damage: str) -> None:
        changes: dict[str, Callable[[bytes], bytes]] = {
            "cut off": lambda data: data[:-1],
            "half": lambda data: data[: len(data) // 2],
            "empty": lambda data: b"",
            "longer": lambda data: data + b"\0",
            "zeros": lambda data: bytes(len(data)),
            "not ours": lambda data: state(1),
        }
        commit_next(store)
        self.corrupt_version(store, "m", 1, changes[damage])
        with pytest.raises(StoreCorrupt, match=r"'m'.*version 1"):
            store.load("m")

    @pytest.mark.parametrize(("key", "version"), [("m", 1), ("other", 2)])
    def test_a_whole_snapshot_in_anothers_place_is_damage(
        self, store: Store, key: str, version: int
    ) -> None:
        for name in ("m", "other"):
            commit_next(store, name)
            commit_next(store, name)
        taken: list[bytes] = []
        self.corrupt_version(store, key, version, lambda data: taken.append(data) or data)  # type: ignore[func-returns-value]
        self.corrupt_version(store, "m", 2, lambda _: taken[0])
        with pytest.raises(StoreCorrupt, match=r"'m'.*version 2"):
            store.load("m")

    def test_damage_to_one_version_leaves_the_others_and_the_memory_usable(
        self, store: Store
    ) -> None:
        for _ in range(3):
            commit_next(store)
        self.corrupt_version(store, "m", 2, lambda data: data[:-1])
        assert store.load("m", 1) == snapshot("m", 1)
        assert store.load("m", 3) == snapshot("m", 3)
        self.corrupt_version(store, "m", 3, lambda data: data[:-1])
        assert (store.head("m"), store.history("m"), store.list()) == (3, [3, 2, 1], ["m"])
        assert commit_next(store) == 4
        assert store.load("m") == snapshot("m", 4)
