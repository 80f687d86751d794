"""What a SQLite store does when its disk is full, locked or damaged."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adapters.stores._sqlite_connections import Connections
from adapters.stores.sqlite import SqliteStore
from rxstream.errors import StoreCorrupt, StoreError, StoreNotFound, StoreUnavailable
from rxstream.snapshot import Snapshot
from rxstream.tensorfile import encode

from .sqlite_samples import fill, run, sql, writes
from .sqlite_worker import record, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path)) as opened:
        yield opened


class TestTrouble:
    def test_a_full_disk_is_reported_and_nothing_is_half_written(self, store: SqliteStore) -> None:
        fill(store)
        with store._db.write() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
        size = 1 << 20
        large = Snapshot("m", 4, "f", encode({"a": ("U8", (size,), bytes(size))}))
        with pytest.raises(StoreUnavailable, match="disk is full; nothing was written, free space"):
            store.commit(large, expect=3)
        assert store.history("m") == [3, 2, 1]
        assert store.load("m") == snapshot(3)
        with store._db.write() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
        store.commit(large, expect=3)
        assert store.load("m") == large

    def test_a_limit_on_file_size_is_reported_and_nothing_is_half_written(self, path: Path) -> None:
        assert run(FILE_LIMIT, path).startswith("refused")
        with closing(SqliteStore(path)) as store:
            assert store.load("m") == snapshot(store.history("m")[0])

    def test_a_lock_held_by_another_program_is_reported_after_the_timeout(self, path: Path) -> None:
        with closing(SqliteStore(path, timeout=0.05)) as store:
            fill(store)
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                for write in writes(store):
                    with pytest.raises(StoreUnavailable, match=r"locked by another.*0\.05 s.*try"):
                        write()
                assert store.load("m") == snapshot(3)
                other.execute("ROLLBACK")
            store.commit(snapshot(4), expect=3)

    def test_a_missing_newest_version_is_damage_not_absence(
        self, store: SqliteStore, path: Path
    ) -> None:
        fill(store)
        sql(path, "DELETE FROM versions WHERE version = 3")
        with pytest.raises(StoreCorrupt, match="version 3 is damaged"):
            store.load("m")
        sql(path, "DELETE FROM versions")
        with pytest.raises(StoreCorrupt):
            store.load("m")

    @pytest.mark.parametrize(("gone", "read"), [(1, []), (2, [1]), (3, [1, 2])])
    def test_a_missing_log_record_is_damage_not_absence(
        self, store: SqliteStore, path: Path, gone: int, read: list[int]
    ) -> None:
        fill(store)
        sql(path, "DELETE FROM log WHERE seq = ?", gone)
        seen: list[int] = []
        with pytest.raises(StoreCorrupt, match=f"record {gone} is damaged"):
            seen.extend(r.seq for r in store.log("m"))
        assert seen == read
        with pytest.raises(StoreCorrupt):
            store.forget("m", gone)

    def test_a_log_record_in_anothers_place_or_with_its_mark_changed_is_damage(
        self, store: SqliteStore, path: Path
    ) -> None:
        fill(store)
        sql(path, "UPDATE log SET remembered = 0 WHERE seq = 3")
        sql(
            path,
            "UPDATE log SET (record, checksum) = (SELECT record, checksum FROM log WHERE seq = 1) "
            "WHERE seq = 2",
        )
        for after in (1, 2):
            with pytest.raises(StoreCorrupt, match=f"record {after + 1} is damaged"):
                list(store.log("m", after))

    def test_damage_anywhere_in_the_tables_is_never_served_as_data(self, path: Path) -> None:
        with closing(SqliteStore(path)) as store:
            fill(store, versions=4)
            log = list(store.log("m"))
        whole, rng = path.read_bytes(), random.Random(2)
        outcomes = set()
        for _ in range(60):
            damaged, start = bytearray(whole), rng.randrange(100, len(whole) - 64)
            damaged[start : start + 64] = rng.randbytes(64)
            path.write_bytes(damaged)
            try:
                with closing(SqliteStore(path)) as store:
                    for version in range(1, 5):
                        outcomes.add("read")
                        assert store.load("m", version) == snapshot(version)
                    assert list(store.log("m")) == log
            except StoreError as exc:
                assert not isinstance(exc, StoreNotFound), start
                outcomes.add(type(exc).__name__)
        assert outcomes >= {"read", "StoreCorrupt"}

    def test_damage_that_makes_names_unreadable_is_reported_as_damage(self, path: Path) -> None:
        with closing(SqliteStore(path)) as store:
            fill(store)
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"CREATE TABLE memories", b"CREATE \xff\xff\xffLE memories"))
        with pytest.raises(StoreCorrupt, match="restore it from a copy"):
            SqliteStore(path)
        path.write_bytes(whole)
        sql(path, "UPDATE memories SET key = x'6dff'")
        with closing(SqliteStore(path)) as store, pytest.raises(StoreCorrupt):
            store.list("")

    def test_a_database_that_was_cut_off_is_reported_as_damaged(self, path: Path) -> None:
        with closing(SqliteStore(path)) as store:
            fill(store)
        path.write_bytes(path.read_bytes()[: 4096 * 6])
        with (
            pytest.raises(StoreCorrupt, match="restore it from a copy"),
            closing(SqliteStore(path)) as store,
        ):
            store.load("m")

    def test_what_was_deleted_or_pruned_is_gone_from_the_files(
        self, store: SqliteStore, path: Path
    ) -> None:
        def found() -> list[str]:
            return [p.name for p in path.parent.iterdir() if b"my secret" in p.read_bytes()]

        state = encode({"a": ("U8", (9000,), b"my secret" * 1000)})
        store.commit(Snapshot("m", 1, "f", state), expect=None)
        store.append("m", record("my secret"))
        assert found()
        store.delete("m")
        assert found() == []


FILE_LIMIT = """
import resource, sys
from adapters.stores._sqlite_connections import Connections
from adapters.stores.sqlite import SqliteStore
from rxstream.errors import StoreUnavailable
from tests.adapters.sqlite_worker import snapshot
store = SqliteStore(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
for version in range(1, 200):
    try:
        store.commit(snapshot(version), expect=version - 1 or None)
    except StoreUnavailable as exc:
        assert store.load("m") == snapshot(version - 1)
        print("refused", exc)
        break
"""


class TestMoments:
    """What happens between two steps of a call."""

    def test_patience_is_as_long_after_a_checkpoint_that_failed(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(store)
        writer = store._db._writer

        class Failing:
            def execute(self, statement: str) -> object:
                if "wal_checkpoint" in statement:
                    raise sqlite3.OperationalError("disk I/O error")
                assert writer is not None
                return writer.execute(statement)

        monkeypatch.setattr(store._db, "_writer", Failing())
        store._db.checkpoint()
        monkeypatch.undo()
        with store._db.write() as connection:
            assert connection.execute("PRAGMA busy_timeout").fetchone() == (30_000,)

    def test_a_log_that_its_last_writer_removes_just_now_is_none_that_waits(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with closing(SqliteStore(path)) as store:
            fill(store)
        connect = Connections._connect

        def unwritable(self: Connections, options: str) -> sqlite3.Connection:
            if options == "mode=ro":
                error = sqlite3.OperationalError("unable to open database file")
                error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
                raise error
            return connect(self, options)

        monkeypatch.setattr(Connections, "_connect", unwritable)
        exists = Path.exists
        monkeypatch.setattr(  # it still was there at the first look
            Path, "exists", lambda self: self.name.endswith("-wal") or exists(self)
        )
        with closing(SqliteStore(path, read_only=True)) as store:
            assert store.load("m") == snapshot(3)

    def test_a_file_that_cannot_be_removed_is_reported(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(self: Path, missing_ok: bool = False) -> None:
            raise PermissionError(13, "Permission denied")

        store = SqliteStore(path)
        monkeypatch.setattr(Path, "unlink", refused)
        with pytest.raises(StoreUnavailable, match="cannot be removed: Permission denied"):
            store.erase()

    def test_a_number_of_results_may_be_of_any_size(self, store: SqliteStore) -> None:
        fill(store)
        assert store.history("m", limit=1 << 70) == [3, 2, 1]
        assert store.list(limit=1 << 70) == ["m"]
