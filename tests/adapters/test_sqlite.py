"""Opening a SQLite store: what is there, who may write, which process it is."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adapters.stores import _sqlite_schema
from adapters.stores.sqlite import SqliteStore
from rxstream.errors import StoreUnavailable
from rxstream.stores import open_store

from .sqlite_samples import fill, run, sql, writes
from .sqlite_worker import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path)) as opened:
        yield opened


class TestOpening:
    def test_commits_are_synced_to_a_write_ahead_log(self, store: SqliteStore, path: Path) -> None:
        fill(store)
        with store._db.write() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert sql(path, "PRAGMA application_id") == [(0x52785374,)]

    def test_an_empty_file_becomes_a_store(self, path: Path) -> None:
        path.touch()
        with closing(SqliteStore(path)) as store:
            fill(store)
            assert store.head("m") == 3

    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, path: Path) -> None:
        path.write_bytes(b"my dissertation\n" * 300)
        with pytest.raises(StoreUnavailable, match=r"store\.db is not a database of SQLite; give"):
            SqliteStore(path)
        assert path.read_bytes() == b"my dissertation\n" * 300

    @pytest.mark.parametrize("mark", ["CREATE TABLE t (a)", "PRAGMA application_id = 7"])
    def test_the_database_of_another_program_is_refused_and_left_alone(
        self, path: Path, mark: str
    ) -> None:
        sql(path, mark)
        before = path.read_bytes()
        with pytest.raises(StoreUnavailable, match="another program; give another path"):
            SqliteStore(path)
        assert path.read_bytes() == before

    def test_a_store_of_a_newer_version_asks_for_an_upgrade(self, path: Path) -> None:
        SqliteStore(path).close()
        sql(path, "PRAGMA user_version = 99")
        for read_only in (False, True):
            with pytest.raises(StoreUnavailable, match="schema 99.*upgrade rxstream"):
                SqliteStore(path, read_only=read_only)

    def test_a_store_of_an_older_version_is_brought_up_to_date_once(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with closing(SqliteStore(path)) as store:
            fill(store)
        newer = (*_sqlite_schema.MIGRATIONS, "ALTER TABLE memories ADD COLUMN pinned INTEGER")
        monkeypatch.setattr(_sqlite_schema, "MIGRATIONS", newer)
        with pytest.raises(StoreUnavailable, match="open it once with write permission"):
            SqliteStore(path, read_only=True)
        for _ in range(2):
            with closing(SqliteStore(path)) as store:
                assert store.load("m") == snapshot(3)
        assert sql(path, "PRAGMA user_version") == [(len(newer),)]

    def test_a_failed_migration_changes_nothing(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with closing(SqliteStore(path)) as store:
            fill(store)
        broken = (*_sqlite_schema.MIGRATIONS, "DROP TABLE log; SELECT nonsense")
        with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
            patch.setattr(_sqlite_schema, "MIGRATIONS", broken)
            SqliteStore(path)
        with closing(SqliteStore(path)) as store:
            assert len(list(store.log("m"))) == 3

    @pytest.mark.parametrize(
        ("name", "advice"),
        [
            ("", "is a folder; give the path of a file"),
            ("absent/x.db", "absent is not a folder; create it"),
            ("file/x.db", "file is not a folder; create it"),
            ("file/below/x.db", "below is not a folder; create it"),
            ("nul\0.db", "remove the NUL"),
            ("x" * 300, "cannot be opened; check"),
        ],
        ids=["folder", "no folder", "below a file", "far below a file", "nul", "too long"],
    )
    def test_an_impossible_path_is_refused_with_advice(
        self, tmp_path: Path, name: str, advice: str
    ) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreUnavailable, match=advice):
            SqliteStore(tmp_path / name)

    def test_names_with_url_characters_are_just_names(self, tmp_path: Path) -> None:
        for name in ("a?mode=memory", "b#c", "d%20e", "f g", "ü"):
            with closing(SqliteStore(tmp_path / name)) as store:
                fill(store)
            assert (tmp_path / name).is_file()


class TestReadingOnly:
    def test_a_store_open_for_reading_reads_all_and_writes_nothing(
        self, store: SqliteStore, path: Path
    ) -> None:
        fill(store)
        with closing(open_store(f"sqlite:///{path}?mode=ro")) as reader:
            assert (reader.head("m"), reader.list()) == (3, ["m"])
            for write in writes(reader):
                with pytest.raises(StoreUnavailable, match="for reading only; give write perm"):
                    write()
            store.commit(snapshot(4), expect=3)
            assert reader.load("m") == snapshot(4)
            assert len(list(reader.log("m"))) == 3

    def test_reading_only_creates_nothing(self, path: Path) -> None:
        with pytest.raises(StoreUnavailable, match="cannot be opened"):
            SqliteStore(path, read_only=True)
        assert not path.exists()

    def test_a_read_only_folder_can_be_read_and_explains_why_not_written(
        self,
    ) -> None:
        folder = Path(tempfile.mkdtemp())  # where, unlike in tmp_path, another user may look
        folder.chmod(0o755)
        try:
            path = folder / "store.db"
            with closing(SqliteStore(path)) as store:
                fill(store)
                shutil.copy(path, folder / "left.db")
                shutil.copy(f"{path}-wal", folder / "left.db-wal")
                while_open = run(AS_ANOTHER_USER, path)
            after = run(AS_ANOTHER_USER, path)
            left = run(AS_ANOTHER_USER, folder / "left.db")
        finally:
            shutil.rmtree(folder)
        for output in (while_open, after):
            assert output.startswith("read 3 [3, 2, 1] ['m'] 3 3\n"), output
            assert "give write permission" in output
        assert "unfinished work in left.db-wal" in left


AS_ANOTHER_USER = """
import os, sys
from adapters.stores.sqlite import SqliteStore
from rxstream.errors import StoreUnavailable
from tests.adapters.sqlite_worker import record
path = sys.argv[1]
if os.geteuid() == 0:
    os.setuid(65534)
else:
    os.chmod(os.path.dirname(path), 0o555), os.chmod(path, 0o444)
try:
    store = SqliteStore(path)
    for _ in range(2):
        state = (store.head("m"), store.history("m"), store.list(), len(list(store.log("m"))))
    print("read", *state, store.load("m").version)
    store.append("m", record("x"))
    print("written")
except StoreUnavailable as exc:
    print(exc)
finally:
    if os.geteuid() != 65534:
        os.chmod(os.path.dirname(path), 0o755), os.chmod(path, 0o644)
"""


class TestFork:
    def test_a_forked_child_inherits_no_connection_and_both_sides_go_on(self, path: Path) -> None:
        assert run(FORKING, path) == "child 0\nparent 0\n"
        with closing(SqliteStore(path)) as store:
            assert {key: store.head(key) for key in store.list()} == {
                "parent": 50,
                "thread": 50,
                **{f"child {i}": 10 for i in range(5)},
            }
            assert sql(path, "PRAGMA integrity_check") == [("ok",)]


FORKING = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
from adapters.stores.sqlite import SqliteStore
from tests.adapters.sqlite_worker import snapshot
store = SqliteStore(sys.argv[1])

def fill(key, versions, start=0):
    for version in range(start + 1, start + versions + 1):
        store.commit(snapshot(version, key), expect=version - 1 or None)
        assert store.load(key) == snapshot(version, key)

def files():
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
             if os.path.exists(f"/proc/self/fd/{fd}")]
    return sum("store.db" in link for link in links)

thread = threading.Thread(target=fill, args=("thread", 50))
thread.start()
children = []
for i in range(5):
    fill("parent", 10, 10 * i)
    pid = os.fork()
    if pid == 0:
        if i == 0:
            print("child", files(), flush=True)
        fill(f"child {i}", 10)
        os._exit(0)
    children.append(pid)
thread.join()
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
store.close()
print("parent", files(), flush=True)
"""
