"""Bad input: one clear line on stderr, a status that is not 0, the conversation as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from .rxt import Rxt

BEFORE = ["hello -> hello #0"]


@pytest.fixture
def rxt(tmp_path: Path) -> Rxt:
    """With a conversation that has begun."""
    rxt = Rxt(tmp_path)
    rxt.chat(typed="hello\n/save good.stm.safetensors\n")
    return rxt


def check(rxt: Rxt, *arguments: str, typed: str | bytes = "again\n", says: list[str]) -> None:
    """Nothing is answered, one line says why, and nothing has changed."""
    done = rxt.chat(*arguments, typed=typed)
    assert done.stdout.strip() == ""
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for part in says:
        assert part in done.stderr
    assert rxt.heard() == BEFORE


def test_an_empty_line_keeps_the_count_of_lines(rxt: Rxt) -> None:
    done = rxt.chat(typed="one\n\n  \ntwo\n")
    assert done.stdout == "one #1\n\n\ntwo #2\n"
    assert done.stderr.splitlines() == [
        "rxt chat: line 2: an empty line is no query; skipped",
        "rxt chat: line 3: an empty line is no query; skipped",
    ]
    assert done.returncode == 0


def test_100_kilobytes_of_text(rxt: Rxt) -> None:
    check(rxt, typed="x" * 100_000 + "\n", says=["line 1: ", "10000"])


def test_invalid_utf8(rxt: Rxt) -> None:
    check(rxt, typed=b"caf\xe9\n", says=["line 1: not UTF-8 at byte 4 (0xe9)", "iconv"])


def test_the_lines_around_a_bad_one_are_answered(rxt: Rxt) -> None:
    done = rxt.chat(typed=b"one\n\xff\ntwo\n")
    assert done.stdout == "one #1\n\ntwo #2\n"
    assert done.returncode == 1


@pytest.mark.parametrize("how", ["option", "command"])
def test_a_snapshot_of_another_model(rxt: Rxt, how: str) -> None:
    typed = "hi\n/save other.stm.safetensors\n"
    rxt.chat("--conversation", "b", typed=typed, model="fake:fingerprint=other")
    says = ["other.stm.safetensors", "'other'", "'fake'"]
    if how == "option":
        check(rxt, "--conversation", "new", "--snapshot", "other.stm.safetensors", says=says)
    else:
        check(rxt, typed="/load other.stm.safetensors\n", says=says)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_snapshot(rxt: Rxt, kept: int) -> None:
    whole = (rxt.home / "good.stm.safetensors").read_bytes()
    (rxt.home / "bad.stm.safetensors").write_bytes(whole[:kept])
    says = ["bad.stm.safetensors"]
    check(rxt, typed="/load bad.stm.safetensors\n", says=says)
    check(rxt, "--conversation", "new", "--snapshot", "bad.stm.safetensors", says=says)


def test_a_snapshot_that_does_not_exist(rxt: Rxt) -> None:
    says = ["absent.stm.safetensors", "No such file"]
    check(rxt, typed="/load absent.stm.safetensors\n", says=says)
    check(rxt, typed="/load\n", says=["/load FILE"])


def test_a_snapshot_for_a_conversation_that_has_begun(rxt: Rxt) -> None:
    check(rxt, "--snapshot", "good.stm.safetensors", says=["'main' has begun", "--conversation"])


def test_the_same_command_line_with_a_snapshot_again(rxt: Rxt) -> None:
    for number in range(2):
        done = rxt.chat("--conversation", "b", "--snapshot", "good.stm.safetensors", typed="hi\n")
        assert (done.stdout, done.returncode) == (f"hi #{number + 1}\n", 0)


def test_saving_over_another_file(rxt: Rxt) -> None:
    (rxt.home / "notes.txt").write_text("mine")
    check(rxt, typed="/save notes.txt\n", says=["notes.txt exists and is not a snapshot"])
    assert (rxt.home / "notes.txt").read_text() == "mine"
    assert rxt.chat(typed="/save good.stm.safetensors\n").returncode == 0
    check(rxt, typed="/save absent/file.stm.safetensors\n", says=["absent/file.stm.safetensors"])


def test_a_new_conversation_with_a_name_that_is_taken(rxt: Rxt) -> None:
    check(rxt, typed="/new main\n", says=["'main' exists"])


def test_a_conversation_of_another_model(rxt: Rxt) -> None:
    done = rxt.chat(typed="hi\n", model="fake:fingerprint=other")
    assert (done.stdout, done.returncode) == ("", 1)
    assert len(done.stderr.splitlines()) == 1
    assert "'fake'" in done.stderr
    assert rxt.heard() == BEFORE


def test_a_read_only_store(rxt: Rxt) -> None:
    done = rxt.chat("--store", "sqlite:///rxstream/chat.sqlite?mode=ro", typed="again\n")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "reading only" in done.stderr
    assert "permission" in done.stderr
    assert rxt.heard() == BEFORE


def test_a_model_that_fails_to_answer(rxt: Rxt) -> None:
    check(rxt, "--model", "fake:fail=step", says=["line 1: ", "the model is broken"])


def test_a_model_that_fails_to_remember(rxt: Rxt) -> None:
    done = rxt.chat("--model", "fake:fail=attend", typed="again\n")
    assert (done.stdout, done.returncode) == ("again #1\n", 1)
    assert len(done.stderr.splitlines()) == 1
    assert "line 1: answered, but not remembered: RuntimeError: the model is broken" in done.stderr
    assert rxt.heard() == BEFORE


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ("nowhere://x", "known scheme"),
        ("chat.db", "sqlite:///"),
        ("sqlite:///absent/chat.db", "create it first"),
        ("sqlite:///good.stm.safetensors", "not a database"),
    ],
)
def test_a_store_that_cannot_be_opened(rxt: Rxt, store: str, says: str) -> None:
    check(rxt, "--store", store, says=[says])


@pytest.mark.parametrize(("name", "says"), [("", "1 to 512 bytes"), ("x" * 600, "not 600")])
def test_a_name_that_cannot_be_one(rxt: Rxt, name: str, says: str) -> None:
    check(rxt, "--conversation", name, says=[says])


def test_a_model_that_does_not_exist(rxt: Rxt) -> None:
    check(rxt, "--model", "absent", says=["no model 'absent'"])


def test_a_model_folder_without_weights(rxt: Rxt) -> None:
    (rxt.home / "empty").mkdir()
    check(rxt, "--model", "empty", says=["empty"])
