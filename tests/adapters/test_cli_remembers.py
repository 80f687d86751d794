"""The bundled model through ``rxt chat`` remembers across processes, and only what it was told."""

from __future__ import annotations

import pytest

from .rxt import Rxt

TOLD = "my dog is called Biscuit\n"
ASKED = "what is my dog called?\n"


@pytest.fixture(scope="module")
def rxt(tmp_path_factory: pytest.TempPathFactory) -> Rxt:
    """A user who has told conversation ``a`` something and saved what it remembers."""
    rxt = Rxt(tmp_path_factory.mktemp("home"))
    done = rxt.run("chat", "--conversation", "a", typed=f"{TOLD}/save dog.stm.safetensors\n")
    assert done.returncode == 0, done.stderr
    return rxt


def ask(rxt: Rxt, *arguments: str) -> str:
    """The answer of a new process."""
    done = rxt.run("chat", *arguments, typed=ASKED)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_process_knows(rxt: Rxt) -> None:
    assert "Biscuit" in ask(rxt, "--conversation", "a")


def test_another_conversation_does_not_know(rxt: Rxt) -> None:
    assert "Biscuit" not in ask(rxt, "--conversation", "b")


def test_a_conversation_that_begins_with_the_snapshot_knows(rxt: Rxt) -> None:
    assert "Biscuit" in ask(rxt, "--conversation", "c", "--snapshot", "dog.stm.safetensors")
