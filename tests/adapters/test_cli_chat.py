"""``rxt chat`` without a terminal: answers, remembering across processes, snapshots."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .rxt import RXT, Rxt


@pytest.fixture
def rxt(tmp_path: Path) -> Rxt:
    return Rxt(tmp_path)


def test_one_answer_a_line_and_nothing_else_on_stdout(rxt: Rxt) -> None:
    done = rxt.chat(typed="hello\nhow are you\n")
    assert (done.stdout, done.stderr, done.returncode) == ("hello #0\nhow are you #1\n", "", 0)


def test_what_is_thought_is_not_printed_and_is_asked_of_models_that_can(rxt: Rxt) -> None:
    done = rxt.chat("--thinking", "extended", model="fake:thinks=1", typed="hello\n")
    assert (done.stdout, done.returncode) == ("hello #0\n", 0)
    done = rxt.chat("--thinking", "auto", typed="hello\n")
    assert (done.stdout, done.returncode) == ("\n", 1)
    assert "line 1: this model was not trained to think before it answers" in done.stderr


def test_an_instruction_goes_with_every_query_and_is_asked_of_models_that_follow_it(
    rxt: Rxt,
) -> None:
    told = "--instruction", "in verse"
    done = rxt.chat(*told, model="fake:instructed=1", typed="hello\nyou\n")
    assert (done.stdout, done.returncode) == ("hello #0\nyou #1\n", 0)
    done = rxt.chat(*told, typed="hello\n")
    assert (done.stdout, done.returncode) == ("\n", 1)
    assert "line 1: this model was not trained to follow instructions" in done.stderr
    done = rxt.chat("--instruction", "", typed="hello\n")
    assert done.returncode == 2 and "some text" in done.stderr


def test_no_input_is_no_error(rxt: Rxt) -> None:
    done = rxt.chat(typed="")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_last_line_needs_no_newline_and_windows_line_ends_work(rxt: Rxt) -> None:
    assert rxt.chat(typed=b"\xef\xbb\xbfone\r\ntwo").stdout == "one #0\ntwo #1\n"


def test_a_conversation_goes_on_in_another_process(rxt: Rxt) -> None:
    rxt.chat("--conversation", "a", typed="my dog is called Biscuit\n")
    assert rxt.heard("a") == ["my dog is called Biscuit -> my dog is called Biscuit #0"]
    assert rxt.heard("b") == []


def test_the_default_conversation_is_called_main(rxt: Rxt) -> None:
    rxt.chat(typed="hello\n")
    assert rxt.heard("main") == ["hello -> hello #0"]


def test_a_store_of_ones_own(rxt: Rxt) -> None:
    for _ in range(2):
        rxt.chat("--store", "sqlite:///mine.db", typed="hello\n")
    assert rxt.heard() == []
    done = rxt.chat("--store", "sqlite:///mine.db", typed="recall\n")
    assert done.stdout == "hello -> hello #0 | hello -> hello #1\n"
    assert rxt.chat("--store", "memory:", typed="recall\n").stdout == "\n"


def test_a_snapshot_carries_what_is_remembered(rxt: Rxt) -> None:
    typed = "my dog is called Biscuit\n/save dog.stm.safetensors\n"
    saved = rxt.chat("--conversation", "a", typed=typed)
    assert saved.stdout == "my dog is called Biscuit #0\n"
    assert "saved version 1 to dog.stm.safetensors" in saved.stderr
    begun = rxt.chat("--conversation", "b", "--snapshot", "dog.stm.safetensors", typed="recall\n")
    assert "Biscuit" in begun.stdout
    loaded = rxt.chat("--conversation", "c", typed="hello\n/load dog.stm.safetensors\nrecall\n")
    assert loaded.stdout.splitlines()[1] == (
        "my dog is called Biscuit -> my dog is called Biscuit #0"
    )


def test_a_new_conversation_keeps_the_old_one(rxt: Rxt) -> None:
    done = rxt.chat(typed="hello\n/new\nhello again\n/new work\nhello\n")
    assert done.stdout == "hello #0\nhello again #0\nhello #0\n"
    assert rxt.heard("main") == ["hello -> hello #0"]
    assert rxt.heard("main-2") == ["hello again -> hello again #0"]
    assert rxt.heard("work") == ["hello -> hello #0"]


def test_memory_help_and_quit_speak_on_stderr(rxt: Rxt) -> None:
    done = rxt.chat(typed="hello\n/memory\n/help\n/quit\nnot reached\n")
    assert (done.stdout, done.returncode) == ("hello #0\n", 0)
    assert "'main': version 1, " in done.stderr
    assert "/save FILE" in done.stderr


def test_text_with_a_slash_is_a_query(rxt: Rxt) -> None:
    assert rxt.chat(typed="/usr is full\n").stdout == "/usr is full #0\n"


def test_max_tokens_cuts_the_answer(rxt: Rxt) -> None:
    assert rxt.chat("--max-tokens", "2", typed="long 500\n").stdout == "w0 w1 \n"


def test_answers_come_one_by_one(rxt: Rxt) -> None:
    """A program may wait for each answer before it sends the next query."""
    with subprocess.Popen(
        [RXT, "chat", "--model", "fake:"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=rxt.env,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        for number in range(3):
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"hello #{number}\n".encode()
        process.stdin.close()
    assert process.returncode == 0


def test_a_reader_that_goes_away_is_no_traceback(rxt: Rxt) -> None:
    with subprocess.Popen(
        [RXT, "chat", "--model", "fake:"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=rxt.env,
    ) as process:  # fmt: skip
        assert process.stdout
        process.stdout.close()
        _, errors = process.communicate(b"hello\n" * 3)
    assert b"Traceback" not in errors


def test_leaving_waits_for_what_is_to_be_remembered(rxt: Rxt) -> None:
    rxt.chat(typed="hello\n", model="fake:attend=0.3")
    assert rxt.heard() == ["hello -> hello #0"]


def test_ctrl_c_in_a_pipe_ends_at_once_and_keeps_what_was_answered(rxt: Rxt) -> None:
    with subprocess.Popen(
        [RXT, "chat", "--model", "fake:step=0.05", "--max-tokens", "5000"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=rxt.env,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"hello\nlong 4000\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hello #0\n"
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (130, b"", b"")
    assert rxt.heard() == ["hello -> hello #0"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--temperature", "-1"],
        ["--top-p", "0"],
        ["--max-tokens", "x"],
        ["--top-k", "-2"],
        ["--min-p", "1.5"],
        ["--repetition-penalty", "0"],
        ["--stop", ""],
        ["--logit-bias", "15+inf"],
    ],
)
def test_wrong_usage_says_the_rule(rxt: Rxt, arguments: list[str]) -> None:
    done = rxt.chat(*arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr.splitlines()[-1]


def test_help_answers_at_once(rxt: Rxt) -> None:
    """Help must not load the model's libraries."""
    code = (
        "import sys; from adapters.cli import build_parser; build_parser().format_help(); "
        "sys.exit(bool({'torch', 'prompt_toolkit', 'reactivex'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert "--conversation" in rxt.run("chat", "--help").stdout
    assert "rxstream" in rxt.run("version").stdout
