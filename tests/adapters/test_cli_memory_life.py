"""How memories begin and end from the command line: made of files, deleted, expired, swept."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adapters.cli import main
from adapters.stores.sqlite import SqliteStore
from rxstream import Runtime
from rxstream.snapshot import read_file
from rxstream.testing import FakeModel
from rxstream.testing._store_samples import commit_next, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Rxt = Callable[..., tuple[int, str, str]]

URL = "sqlite:///store.db"


@pytest.fixture
def rxt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rxt:
    monkeypatch.chdir(tmp_path)

    def run(action: str, *arguments: str) -> tuple[int, str, str]:
        if action == "make":
            arguments = (*arguments, "--model", "fake:")
        status = main(["memory", action, "--store", URL, *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def store(rxt: Rxt) -> Iterator[SqliteStore]:
    with closing(SqliteStore("store.db")) as opened:
        yield opened


def said(store: SqliteStore, name: str) -> list[tuple[str, str]]:
    return [(r.completed.query, r.completed.answer) for r in store.log(name)]


class TestMake:
    def test_a_text_is_told_line_by_line_and_remembered(self, rxt: Rxt, store: SqliteStore) -> None:
        Path("text.txt").write_text("﻿the dog is Biscuit\n\n  the cat is Tofu  \n")
        status, out, _ = rxt("make", "m", "--text", "text.txt")
        assert (status, out) == (0, "'m' remembers 2 interactions of text.txt; that is version 1\n")
        assert [query for query, _ in said(store, "m")] == ["the dog is Biscuit", "the cat is Tofu"]
        assert store.history("m") == [1]
        assert store.info("m").metadata["provenance"].startswith("text text.txt sha256:")
        with Runtime(FakeModel(fingerprint="fake"), URL) as runtime:
            answer = runtime.memory("m").conversation().ask("recall").result(30).text
        assert "the dog is Biscuit" in answer

    def test_a_dialogue_is_remembered_with_the_answers_that_were_given(
        self, rxt: Rxt, store: SqliteStore
    ) -> None:
        episode = {"query": "c", "answer": "d", "interactions": [{"query": "e", "answer": "f"}]}
        lines = [json.dumps({"query": "a", "answer": "b"}), "", json.dumps(episode)]
        Path("talk.jsonl").write_text("\n".join(lines))
        assert rxt("make", "m", "--dialogue", "talk.jsonl")[0] == 0
        assert said(store, "m") == [("a", "b"), ("c", "d"), ("e", "f")]
        assert store.info("m").log_seq == 3
        assert store.info("m").metadata["provenance"].startswith("dialogue talk.jsonl sha256:")

    def test_the_result_is_what_its_log_says_and_can_be_exported(
        self, rxt: Rxt, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("talk.jsonl").write_text('{"query": "a", "answer": "b"}\n')
        rxt("make", "m", "--dialogue", "talk.jsonl", "--no-user-data")
        assert main(["memory", "replay", "m", "--store", URL, "--model", "fake:"]) == 0
        assert "1 versions the same bit by bit, 0 different" in capsys.readouterr().out
        assert rxt("export", "m", "m.stm.safetensors")[0] == 0
        made = read_file("m.stm.safetensors")
        assert not made.contains_user_data
        assert made.metadata["provenance"].startswith("dialogue")

    def test_it_counts_as_what_a_user_said_unless_that_is_denied(self, rxt: Rxt) -> None:
        Path("text.txt").write_text("secret\n")
        rxt("make", "m", "--text", "text.txt")
        status, _, err = rxt("export", "m", "m.stm.safetensors")
        assert (status, "add --user-data" in err) == (1, True)

    def test_a_long_line_is_cut_between_sentences_and_a_long_sentence_between_words(
        self, rxt: Rxt, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(FakeModel, "validate", refuse_longer_than(20))
        Path("text.txt").write_text("One is short. Two too. " + "word " * 6 + "end.\n")
        assert rxt("make", "m", "--text", "text.txt")[0] == 0
        told = [query for query, _ in said(store, "m")]
        assert told[:2] == ["One is short.", "Two too."]
        assert " ".join(told[2:]) == "word " * 6 + "end."
        assert max(map(len, told)) <= 20

    def test_a_name_can_be_used_again_after_a_delete(self, rxt: Rxt, store: SqliteStore) -> None:
        Path("text.txt").write_text("hello\n")
        rxt("make", "m", "--text", "text.txt")
        status, _, err = rxt("make", "m", "--text", "text.txt")
        assert (status, "memory 'm' exists; choose another name, or delete" in err) == (1, True)
        rxt("delete", "m")
        assert rxt("make", "m", "--text", "text.txt")[1].endswith("that is version 3\n")
        assert store.info("m").log_seq == store.last_seq("m") == 2

    @pytest.mark.parametrize(
        ("option", "content", "why"),
        [
            ("--text", b"", "there is nothing in file to remember"),
            ("--text", b"x" * 100, "file: line 1: the query has 100"),
            ("--text", b"\xff", "file is not UTF-8 at byte 1"),
            ("--dialogue", b'{"query": "a", "answer": "b"}\nhello', "file: line 2 is no interact"),
            ("--dialogue", b'{"query": "a"}', "no 'answer'"),
            ("--dialogue", b'{"query": "a", "answer": 1}', "query and answer must be text"),
            ("--dialogue", b'{"query": "a", "answer": ""}', "query and answer must be text"),
            ("--dialogue", b'{"query": "a", "answer": "b", "system": "c"}', "with 'system'; remov"),
            ("--dialogue", b"[1]", "file: line 1 is no interaction"),
            ("--dialogue", b'{"query": "' + b"x" * 100 + b'", "answer": "b"}', "interaction 1"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_told_is_refused_in_one_line_and_nothing_is_stored(
        self, rxt: Rxt, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, option: str,
        content: bytes, why: str,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(FakeModel, "validate", refuse_longer_than(50))
        Path("file").write_bytes(content)
        status, out, err = rxt("make", "m", option, "file")
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert why in err
        assert store.list() == []

    def test_a_file_that_is_not_there_is_reported(self, rxt: Rxt) -> None:
        assert "cannot read absent: No such file" in rxt("make", "m", "--text", "absent")[2]

    def test_a_piece_that_the_model_has_no_answer_to_is_named(
        self, rxt: Rxt, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        step = FakeModel.step
        monkeypatch.setattr(
            FakeModel,
            "step",
            lambda self, ds: [replace(d, text="", finish="eos") for d in step(self, ds)],
        )
        Path("text.txt").write_text("hello\n")
        status, _, err = rxt("make", "m", "--text", "text.txt")
        assert (status, "no answer to 'hello'" in err) == (1, True)
        assert store.list() == []


def refuse_longer_than(limit: int) -> Callable[[FakeModel, str], None]:
    from rxstream.errors import QueryRejected

    def validate(_: FakeModel, query: str) -> None:
        if len(query) > limit:
            raise QueryRejected("too_long", f"the query has {len(query)} characters; shorten it")

    return validate


class TestEnd:
    def test_delete_removes_memories_with_all_they_hold(self, rxt: Rxt, store: SqliteStore) -> None:
        for name in ("a", "a", "b", "c"):
            commit_next(store, name)
        store.append("d", record())
        status, out, _ = rxt("delete", "a", "d")
        assert status == 0
        assert out == "deleted 'a': 2 versions and the log\ndeleted 'd': 0 versions and the log\n"
        assert store.list() == ["b", "c"]

    def test_delete_removes_nothing_when_one_is_not_there(
        self, rxt: Rxt, store: SqliteStore
    ) -> None:
        commit_next(store, "a")
        status, out, err = rxt("delete", "a", "absent")
        assert (status, out) == (1, "")
        assert "there is no memory 'absent'; rxt memory list" in err
        assert store.list() == ["a"]

    def test_a_lifetime_is_set_shown_and_removed(self, rxt: Rxt, store: SqliteStore) -> None:
        commit_next(store)
        assert rxt("expire", "m")[1] == "'m' never expires\n"
        now = store._now()
        assert rxt("expire", "m", "--days", "2")[1].startswith("'m' expires 20")
        assert store.expires_at("m") == pytest.approx(now + 2 * 86_400, abs=60)
        assert rxt("expire", "m")[1].endswith("Z unless it is updated\n")
        assert rxt("expire", "m", "--never")[1] == "'m' never expires\n"
        assert store.expires_at("m") is None

    @pytest.mark.parametrize("options", [(), ("--days", "1"), ("--never",)])
    def test_what_is_not_there_cannot_expire(self, rxt: Rxt, options: tuple[str, ...]) -> None:
        status, _, err = rxt("expire", "absent", *options)
        assert (status, "there is no memory 'absent'; rxt memory list" in err) == (1, True)

    @pytest.mark.parametrize("days", ["0", "-1", "nan", "inf"])
    def test_a_lifetime_must_be_positive(self, rxt: Rxt, store: SqliteStore, days: str) -> None:
        commit_next(store)
        status, _, err = rxt("expire", "m", f"--days={days}")
        assert (status, "--days must be more than 0 and finite" in err) == (1, True)

    def test_sweep_frees_what_has_expired(self, rxt: Rxt, store: SqliteStore) -> None:
        commit_next(store, "a")
        commit_next(store, "b")
        store._skew = -100
        store.expire("a", 1)
        assert rxt("sweep")[1] == "removed 1 expired memories\n"
        assert rxt("sweep")[1] == "removed 0 expired memories\n"
        assert store.list() == ["b"]


class TestMeanwhile:
    """What others remove between two looks is passed over."""

    def test_a_memory_that_is_deleted_while_it_is_listed(
        self, rxt: Rxt, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit_next(store, "a")
        commit_next(store, "b")
        before(monkeypatch, "info", lambda: store.delete("a"))
        status, out, _ = rxt("list", "--json")
        assert status == 0
        assert [json.loads(line)["name"] for line in out.splitlines()] == ["b"]

    def test_a_version_that_is_pruned_while_the_log_is_shown(
        self, rxt: Rxt, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(3):
            commit_next(store)
        before(monkeypatch, "info", lambda: store.prune("m", keep_last=1))
        status, out, _ = rxt("log", "m", "--json")
        assert (status, [json.loads(line)["version"] for line in out.splitlines()]) == (0, [3])


def before(patch: pytest.MonkeyPatch, method: str, work: Callable[[], object]) -> None:
    """Have others do ``work`` before the first call of a method of the store."""
    real, done = getattr(SqliteStore, method), []

    def meddled(self: SqliteStore, *args: object) -> object:
        if not done:
            done.append(True)
            work()
        return real(self, *args)

    patch.setattr(SqliteStore, method, meddled)
