"""``rxt chat`` in a terminal: streaming, typing ahead, Ctrl-C, commands, leaving."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from .rxt import RXT, Rxt

NO_CURSOR = {"PROMPT_TOOLKIT_NO_CPR": "1"}  # nobody is here to say where the cursor is
CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.fixture
def rxt(tmp_path: Path) -> Rxt:
    return Rxt(tmp_path)


@contextmanager
def terminal(rxt: Rxt, *arguments: str, model: str = "fake:") -> Iterator[pexpect.spawn]:
    """A chat that is ready for input."""
    child = pexpect.spawn(
        RXT, ["chat", "--model", model, *arguments], env=rxt.env | NO_CURSOR, cwd=str(rxt.home),
        dimensions=(24, 100), timeout=15, encoding="utf-8",
    )  # fmt: skip
    try:
        child.expect("/help lists the commands")
        child.expect(">")
        yield child
    finally:
        child.close(force=True)


def leaves(child: pexpect.spawn) -> None:
    """Ends with status 0 and without a traceback."""
    child.expect(pexpect.EOF)
    assert "Traceback" not in (child.before or "")
    child.close()
    assert (child.exitstatus, child.signalstatus) == (0, None)


def test_an_answer_appears_and_is_remembered(rxt: Rxt) -> None:
    with terminal(rxt, model="fake:attend=0.3") as child:
        child.sendline("my dog is called Biscuit")
        child.expect("my dog is called Biscuit #0")
        child.expect("remembering…")
        child.sendline("/quit")
        leaves(child)
    assert rxt.heard() == ["my dog is called Biscuit -> my dog is called Biscuit #0"]


def test_ctrl_c_stops_the_answer_and_what_was_said_is_remembered(rxt: Rxt) -> None:
    with terminal(rxt, "--max-tokens", "500", model="fake:step=0.05") as child:
        child.sendline("long 400")
        child.expect("w3")
        child.send(CTRL_C)
        child.expect(r"w0 w1 w2 w3.* \[stopped\]")
        child.send(CTRL_C)
        leaves(child)
    [entry] = rxt.heard()
    assert entry.startswith("long 400 -> w0 w1 w2 w3")
    assert "w399" not in entry


def test_ctrl_c_before_the_first_token(rxt: Rxt) -> None:
    with terminal(rxt, model="fake:start=1") as child:
        child.sendline("hello")
        child.expect("answering")
        child.send(CTRL_C)
        child.expect(r"\[stopped\]")
        child.send(CTRL_C)
        leaves(child)
    assert rxt.heard() == []


def test_twice_ctrl_c_at_the_prompt_leaves(rxt: Rxt) -> None:
    with terminal(rxt) as child:
        child.send(CTRL_C)
        child.expect("again.*leaves")
        child.send(CTRL_C)
        leaves(child)


def test_ctrl_c_clears_what_is_typed_first(rxt: Rxt) -> None:
    with terminal(rxt) as child:
        child.send("not meant")
        child.expect("not meant")
        child.send(CTRL_C)
        child.sendline("meant")
        child.expect("meant #0")
        child.send(CTRL_D)
        leaves(child)
    assert rxt.heard() == ["meant -> meant #0"]


def test_queries_typed_meanwhile_wait_their_turn(rxt: Rxt) -> None:
    with terminal(rxt, model="fake:step=0.05,attend=0.2") as child:
        child.sendline("long 10")
        child.expect("w2")
        child.sendline("second")
        child.expect("waiting")
        child.sendline("/quit")
        child.expect("second #1")
        leaves(child)
    assert [entry.split(" -> ")[0] for entry in rxt.heard()] == ["long 10", "second"]


def test_leaving_in_the_middle_of_an_answer_remembers_it(rxt: Rxt) -> None:
    with terminal(rxt, "--max-tokens", "500", model="fake:step=0.05,attend=0.3") as child:
        child.sendline("long 400")
        child.expect("w3")
        child.send(CTRL_C + CTRL_C)
        child.expect(r"w0 w1 w2 w3.* \[stopped\]")
        child.expect("remembering…")
        leaves(child)
    [entry] = rxt.heard()
    assert entry.startswith("long 400 -> w0 w1 w2 w3")


def test_commands(rxt: Rxt) -> None:
    with terminal(rxt) as child:
        child.sendline("hello")
        child.expect("hello #0")
        child.sendline("/memory")
        child.expect(r"'main': version 1, \d+\.\d KiB, updated 20\d\d-")
        child.sendline("/save hello.stm.safetensors")
        child.expect("saved version 1 to hello.stm.safetensors")
        child.sendline("/new")
        child.expect("new conversation 'main-2'")
        child.sendline("/load hello.stm.safetensors")
        child.expect("loaded hello.stm.safetensors")
        child.sendline("recall")
        child.expect("hello -> hello #0")
        child.sendline("/help")
        child.expect("/save FILE")
        child.sendline("/nonsense")
        child.expect("! there is no command /nonsense; /help lists them")
        child.sendline("/quit")
        leaves(child)


def test_a_query_that_is_refused_leaves_the_chat_usable(rxt: Rxt) -> None:
    with terminal(rxt) as child:
        child.sendline("/load absent.stm.safetensors")
        child.expect("! cannot read snapshot 'absent.stm.safetensors'")
        child.sendline("hello")
        child.expect("hello #0")
        child.send(CTRL_D)
        leaves(child)


def test_history_comes_back(rxt: Rxt) -> None:
    with terminal(rxt) as child:
        child.sendline("hello")
        child.expect("hello #0")
        child.send(CTRL_D)
        leaves(child)
    with terminal(rxt) as child:
        child.send("\x1b[A\r")  # up, enter
        child.expect("hello #1")
        child.send(CTRL_D)
        leaves(child)
    history = rxt.home / "rxstream" / "history"
    assert history.stat().st_mode & 0o077 == 0


def test_a_model_cannot_move_the_cursor(rxt: Rxt) -> None:
    with terminal(rxt) as child:
        child.send("\x1b[200~\x1b]0;owned\x07\x1b[201~\r")  # pasted, so taken as it is
        child.expect("owned. #0")
        assert "\x1b]0;owned" not in child.before + child.after
        child.send(CTRL_D)
        leaves(child)


def test_a_model_that_does_not_exist_is_one_line(rxt: Rxt) -> None:
    child = pexpect.spawn(RXT, ["chat", "--model", "absent"], env=rxt.env, encoding="utf-8")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    assert "rxt chat: no model 'absent'" in child.before
