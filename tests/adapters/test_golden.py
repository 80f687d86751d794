"""Files that released versions wrote are read by this one, with all that was in them."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

from adapters.stores.sqlite import SqliteStore
from rxstream.snapshot import pack, read_file
from rxstream.testing._store_samples import snapshot

GOLDEN = Path(__file__).parent / "golden"


def test_a_snapshot_file_of_format_1_loads_and_is_written_to_the_same_bytes() -> None:
    path = GOLDEN / "format-1.stm.safetensors"
    loaded = read_file(path)
    assert loaded == snapshot("m", 3)
    assert pack(loaded) == path.read_bytes()


def test_a_sqlite_file_of_schema_1_is_brought_up_to_date_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copy(GOLDEN / "schema-1.sqlite", path)
    with closing(SqliteStore(path)) as store:
        assert (store.list(), store.head("gone"), store.history("m")) == (["m"], 2, [3, 2, 1])
        assert [store.load("m", version) for version in (1, 2, 3)] == [
            snapshot("m", version) for version in (1, 2, 3)
        ]
        assert [(r.seq, r.remembered) for r in store.log("m")] == [(1, True), (2, False), (3, True)]
        # What a version says of itself was not kept apart then.
        assert store.info("m", 2).digest == snapshot("m", 2).digest
        store.commit(snapshot("m", 4), expect=3)
        store.tag("m", "old", 1)
        assert store.prune("m", keep_last=2, older_than=1) == 1
        assert store.history("m") == [4, 3, 1]
