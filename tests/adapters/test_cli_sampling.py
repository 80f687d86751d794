"""How answers are drawn, by the options of ``rxt chat``; with the bundled model."""

from __future__ import annotations

import argparse

import pytest

from adapters.cli import build_parser
from adapters.cli.chat import token_bias
from adapters.cli.session import open_session
from adapters.model import load_model

QUESTION = "what is my dog called?"


def answer(*options: str) -> tuple[int, ...]:
    """The ids of the answer to one query of a new conversation."""
    args = build_parser().parse_args(["chat", "--store", "memory:", *options])
    with open_session(args) as chat:
        return chat.ask(QUESTION).result(timeout=60).token_ids


@pytest.fixture(scope="module")
def greedy() -> tuple[int, ...]:
    return answer()


def test_a_bias_makes_a_token_come_or_never_come(greedy: tuple[int, ...]) -> None:
    other = load_model().tokenizer.encode("zebra")[0]
    assert answer("--logit-bias", f"{other}+1e4", "--max-tokens", "3") == (other,) * 3
    both = answer("--logit-bias", f"{greedy[0]}-inf", "--logit-bias", f"{greedy[1]}-1e4")
    assert not {greedy[0], greedy[1]} & set(both)
    assert answer("--logit-bias", f"{greedy[0]}+0.5")[0] == greedy[0]


def test_a_share_of_one_is_greedy_at_every_temperature(greedy: tuple[int, ...]) -> None:
    assert answer("--temperature", "5", "--min-p", "1", "--seed", "1") == greedy
    assert answer("--temperature", "5", "--seed", "1") != greedy


def test_a_penalty_lets_no_token_come_twice() -> None:
    ids = answer("--repetition-penalty", "1000000", "--max-tokens", "12")
    assert len(set(ids)) == len(ids)


def test_a_stop_text_ends_the_answer(greedy: tuple[int, ...]) -> None:
    text = load_model().tokenizer.decode(greedy)
    stop = text[3:6]
    args = build_parser().parse_args(["chat", "--store", "memory:", "--stop", stop])
    with open_session(args) as chat:
        found = chat.ask(QUESTION).result(timeout=60)
    assert (found.text, found.finish_reason) == (text[: text.index(stop)], "stop_sequence")


@pytest.mark.parametrize(
    ("text", "bias"),
    [("15+2", (15, 2.0)), ("0-1.5", (0, -1.5)), ("7-inf", (7, float("-inf"))), ("7+1e3", (7, 1e3))],
)
def test_a_bias_is_written_as_for_llama_cpp(text: str, bias: tuple[int, float]) -> None:
    assert token_bias(text) == bias


@pytest.mark.parametrize("text", ["15", "+2", "a+2", "15+", "15+inf", "15+nan", "15+2+3", "15 +2"])
def test_any_other_bias_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="such as 15\\+2, not"):
        token_bias(text)
