"""``rxt memory``: every action on a store, its errors in one line, and JSON for programs."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adapters.cli import main
from adapters.stores.directory import DirectoryStore
from adapters.stores.sqlite import SqliteStore
from rxstream import Runtime
from rxstream.snapshot import Snapshot, read_file, write_file
from rxstream.tensorfile import encode
from rxstream.testing import FakeModel

if TYPE_CHECKING:
    from collections.abc import Callable

    Rxt = Callable[..., tuple[int, str, str]]

PATH = "store.db"


def matrix(*slots: tuple[float, float]) -> bytes:
    numbers = [number for slot in slots for number in slot]
    return encode({"stm": ("F32", (1, len(slots), 2), struct.pack(f"<{len(numbers)}f", *numbers))})


STATES = {1: matrix((1, 0), (0, 1)), 2: matrix((1, 0), (1, 0)), 3: matrix((1, 0), (1, 1))}


@pytest.fixture
def rxt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rxt:
    monkeypatch.chdir(tmp_path)

    def run(action: str, *arguments: str, store: str = f"sqlite:///{PATH}") -> tuple[int, str, str]:
        status = main(["memory", action, "--store", store, *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def kept(rxt: Rxt) -> None:
    """Versions 1 to 3 of the memory m."""
    with closing(SqliteStore(PATH)) as store:
        for version, state in STATES.items():
            made = Snapshot("m", version, "model-1", state, created_at=1_700_000_000 + version)
            store.commit(made, expect=version - 1 or None)


@pytest.fixture
def talked(rxt: Rxt) -> None:
    """The memory t of a model that was talked to."""
    with Runtime(FakeModel(fingerprint="fake"), f"sqlite:///{PATH}", durability="sync") as runtime:
        chat = runtime.memory("t").conversation()
        for query in ("one", "two", "three"):
            list(chat.ask(query).blocking())


@pytest.mark.usefixtures("kept")
class TestLooking:
    def test_list_shows_names_and_newest_versions(self, rxt: Rxt) -> None:
        status, out, _ = rxt("list")
        assert status == 0
        assert out.splitlines()[1].split()[:3] == ["m", "3", "2023-11-14"]
        (line,) = rxt("list", "--json")[1].splitlines()
        assert (json.loads(line)["name"], json.loads(line)["version"]) == ("m", 3)
        assert rxt("list", "x")[1].splitlines() == ["name  version  updated  size"]

    def test_log_shows_versions_newest_first_with_their_labels(self, rxt: Rxt) -> None:
        assert rxt("tag", "m@2", "good")[1] == "good: version 2 of 'm'\n"
        _, out, _ = rxt("log", "m")
        assert [line.split()[0] for line in out.splitlines()] == ["version", "3", "2", "1"]
        assert out.splitlines()[2].endswith("good")
        found = [
            json.loads(line) for line in rxt("log", "m", "--json", "--limit", "2")[1].splitlines()
        ]
        assert [(row["version"], row["labels"]) for row in found] == [(3, []), (2, ["good"])]

    def test_show_tells_all_about_a_version_by_number_or_label(self, rxt: Rxt) -> None:
        rxt("tag", "m@2", "good")
        for ref in ("m@2", "m@good"):
            found = json.loads(rxt("show", ref, "--json")[1])
            assert (found["version"], found["labels"]) == (2, ["good"])
            assert found["tensors"] == {"stm": "F32 1x2x2"}
        assert "model-1" in rxt("show", "m")[1]

    def test_diff_gives_the_cosine_of_each_slot(self, rxt: Rxt) -> None:
        (line,) = rxt("diff", "m@1", "m@2", "--json")[1].splitlines()
        assert json.loads(line) == {"layer": "stm[0]", "cosine": [1.0, 0.0]}
        (line,) = rxt("diff", "m@2", "m@3", "--json")[1].splitlines()
        assert json.loads(line)["cosine"] == [1.0, pytest.approx(2**-0.5, abs=1e-5)]
        assert "1 (0.000)" in rxt("diff", "m@1", "m@2")[1]

    def test_heatmap_draws_in_the_terminal_and_to_a_file(self, rxt: Rxt) -> None:
        _, out, _ = rxt("heatmap", "m")
        assert out.startswith("stm[0] |") and "@" in out.splitlines()[0]
        assert rxt("heatmap", "m@1", "--png", "picture.png")[1] == "picture.png\n"
        assert Path("picture.png").read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (("show", "absent"), "there is no memory 'absent'; rxt memory list"),
            (("show", "m@9"), "no version or label '9'; rxt memory log"),
            (("show", "absent@1"), "there is no memory 'absent'"),
            (("log", "absent"), "there is no memory"),
            (("log", "m", "--limit", "0"), "at least 1"),
            (("rollback", "m"), "say which version: m@VERSION"),
            (("prune", "m"), "say what to keep"),
            (("tag", "m", "x", "--remove"), "no label 'x'"),
            (("tag", "m", "x" * 200), "a label must have 1 to 128 bytes"),
            (("fork", "m", "m"), "memory 'm' exists; choose another name"),
            (("export", "m", "f"), "what a user said.*--user-data"),
            (("copy", "absent", "--to", "dir:///d"), "no memory 'absent' to copy"),
            (("import", "m", "absent.stm"), "cannot read snapshot"),
        ],
        ids=lambda words: "-".join(words)[:20] if isinstance(words, tuple) else "",
    )
    def test_errors_are_one_line_with_a_remedy(
        self, rxt: Rxt, words: tuple[str, ...], why: str
    ) -> None:
        status, out, err = rxt(*words)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert re.search(why, err)


@pytest.mark.usefixtures("kept")
class TestChanging:
    def test_a_fork_begins_with_the_version_that_was_named(self, rxt: Rxt) -> None:
        assert rxt("fork", "m@1", "n")[0] == 0
        with closing(SqliteStore(PATH)) as store:
            assert store.load("n").state == STATES[1]

    def test_a_rollback_is_a_new_version(self, rxt: Rxt) -> None:
        assert "version 4 now" in rxt("rollback", "m@1")[1]
        with closing(SqliteStore(PATH)) as store:
            assert (store.load("m").state, store.history("m")) == (STATES[1], [4, 3, 2, 1])

    def test_labels_are_listed_moved_and_removed(self, rxt: Rxt) -> None:
        rxt("tag", "m@1", "a")
        rxt("tag", "m", "a")
        assert rxt("tag", "m")[1] == "a  3\n"
        rxt("tag", "m", "a", "--remove")
        assert rxt("tag", "m")[1] == ""

    def test_pruning_one_memory_or_all(self, rxt: Rxt) -> None:
        rxt("fork", "m", "n")
        rxt("tag", "m@1", "keep")
        assert rxt("prune", "--keep", "1")[1] == "removed 1 versions\n"
        with closing(SqliteStore(PATH)) as store:
            assert store.history("m") == [3, 1]
        rxt("tag", "m@1", "keep", "--remove")
        assert rxt("prune", "m", "--older-than", "1")[1] == "removed 1 versions\n"


@pytest.mark.usefixtures("kept")
class TestFiles:
    def test_an_exported_version_is_imported_elsewhere(self, rxt: Rxt) -> None:
        assert rxt("export", "m@2", "f.stm.safetensors", "--user-data")[0] == 0
        assert rxt("import", "other", "f.stm.safetensors", store="dir:///folder")[0] == 0
        with closing(DirectoryStore("folder")) as store:
            assert (store.load("other").state, store.load("other").kind) == (STATES[2], "import")
        assert (
            "exists; choose another name, or --replace"
            in rxt("import", "m", "f.stm.safetensors")[2]
        )
        assert "version 4" in rxt("import", "m", "f.stm.safetensors", "--replace")[1]

    def test_an_export_does_not_overwrite_other_files(self, rxt: Rxt) -> None:
        Path("thesis.txt").write_text("text")
        assert (
            "is not a snapshot; choose another name"
            in rxt("export", "m", "thesis.txt", "--user-data")[2]
        )
        assert Path("thesis.txt").read_text() == "text"

    def test_a_snapshot_of_another_model_does_not_replace_a_memory(self, rxt: Rxt) -> None:
        write_file("f", Snapshot("x", 1, "model-2", STATES[1]))
        assert "'model-2', memory 'm' by 'model-1'" in rxt("import", "m", "f", "--replace")[2]

    def test_verify_says_what_a_file_is_and_whether_it_is_whole(self, rxt: Rxt) -> None:
        rxt("export", "m", "f", "--user-data")
        status, out, _ = rxt("verify", "f")
        assert status == 0 and out.startswith("f: whole\n")
        assert "model-1" in out and "stm F32 1x2x2" in out
        assert json.loads(rxt("verify", "f", "--json")[1])["digest"] == read_file("f").digest
        data = bytearray(Path("f").read_bytes())
        data[-1] ^= 1
        Path("f").write_bytes(data)
        status, out, _ = rxt("verify", "f")
        assert status == 1 and "damaged: its digest does not match" in out
        assert rxt("verify", PATH)[0] == 1

    def test_verify_without_a_file_looks_through_the_store(self, rxt: Rxt) -> None:
        assert rxt("verify")[1] == "1 memories, 3 versions, 0 log records: all whole\n"
        with closing(sqlite3.connect(PATH)) as connection, connection:
            connection.execute("UPDATE versions SET packed = x'00' WHERE version = 2")
        status, out, _ = rxt("verify")
        assert status == 1
        assert "version 2 is damaged" in out and out.endswith("1 damaged\n")
        assert not json.loads(rxt("verify", "--json")[1])["whole"]


@pytest.mark.usefixtures("talked")
class TestTheLog:
    def test_a_replay_gives_every_version_bit_by_bit(self, rxt: Rxt) -> None:
        status, out, _ = rxt("replay", "t", "--model", "fake:")
        assert (status, out) == (
            0,
            "t: 3 interactions replayed, 3 versions the same bit by bit, 0 different\n",
        )

    def test_a_version_that_is_not_what_the_log_says_is_found_once(self, rxt: Rxt) -> None:
        with closing(SqliteStore(PATH)) as store:
            for record in store.log("t"):
                store.append("u", replace(record, seq=0))
            for version, taken_from in ((1, 1), (2, 1), (3, 3)):
                made = replace(store.load("t", taken_from), memory_id="u", version=version)
                made = replace(made, log_seq=version)
                store.commit(made, expect=version - 1 or None)
        status, out, _ = rxt("replay", "u", "--model", "fake:")
        assert status == 1
        assert out.splitlines()[0] == "version 2 (update): not what the log says"
        assert "2 different" in out, "the third does not follow from the second either"

    def test_another_model_is_refused_or_told_everything_anew(self, rxt: Rxt) -> None:
        other = "fake:fingerprint=b"
        status, _, err = rxt("replay", "t", "--model", other)
        assert status == 1 and "'fake', this one is 'b'" in err
        assert rxt("replay", "t", "--model", other, "--into", "t2")[0] == 0
        assert rxt("replay", "t2", "--model", other)[0] == 0
        with Runtime(FakeModel(fingerprint="b"), f"sqlite:///{PATH}") as runtime:
            recalled = runtime.memory("t2").conversation().ask("recall").result(timeout=30)
        assert "three" in recalled.text
        assert "exists or existed" in rxt("replay", "t", "--model", other, "--into", "t2")[2]

    def test_a_copy_has_every_version_label_and_record(self, rxt: Rxt) -> None:
        rxt("tag", "t@2", "good")
        assert rxt("copy", "--to", "dir:///copy")[1] == "t: 3 versions, 3 log records\n"
        assert rxt("copy", "--to", "dir:///copy")[1] == "t: 0 versions, 0 log records\n"
        assert rxt("replay", "t", "--model", "fake:", store="dir:///copy")[0] == 0
        with closing(SqliteStore(PATH)) as old, closing(DirectoryStore("copy")) as new:
            assert new.tags("t") == {"good": 2}
            for version in (1, 2, 3):
                assert old.load("t", version) == new.load("t", version)
            assert list(old.log("t")) == list(new.log("t"))
        rxt("rollback", "t@1", store="dir:///copy")
        rxt("rollback", "t@2")
        status, _, err = rxt("copy", "--to", "dir:///copy")
        assert status == 1 and "something else under the name 't'" in err

    def test_trimmed_and_deleted_records_keep_their_numbers_in_a_copy(self, rxt: Rxt) -> None:
        with closing(SqliteStore(PATH)) as store:
            store.trim("t", 2)
        rxt("copy", "--to", "dir:///copy")
        with closing(SqliteStore(PATH)) as old, closing(DirectoryStore("copy")) as new:
            assert [r.seq for r in new.log("t")] == [3] == [r.seq for r in old.log("t")]
            assert new.load("t") == old.load("t")
            assert new.history("t") == old.history("t")
