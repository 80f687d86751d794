"""Every setting of ``Sampling`` reaches the model, through the runtime, with the bundled model."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from adapters.model import RxtAdapter, load_model
from rxstream import CompletedInteraction, Runtime, Sampling
from rxstream.errors import GenerationError

FACT, QUESTION = "my dog is called Biscuit", "what is my dog called?"


@pytest.fixture(scope="module")
def model() -> RxtAdapter:
    return load_model()


@pytest.fixture
def runtime(model: RxtAdapter) -> Iterator[Runtime]:
    with Runtime(model, "memory:") as runtime:
        yield runtime


def answered(runtime: Runtime, sampling: Sampling, name: str = "m"):
    chat = runtime.memory(name).conversation()
    chat.ask(FACT).result(timeout=60)
    return chat.ask(QUESTION, sampling=sampling).result(timeout=60)


def test_a_stop_string_ends_the_answer_and_is_not_in_it(runtime: Runtime) -> None:
    whole = answered(runtime, Sampling(), "whole").text
    assert "Biscuit" in whole
    stop = whole[whole.index("Biscuit") - 2 : whole.index("Biscuit") + 3]
    chat = runtime.memory("m").conversation()
    chat.ask(FACT).result(timeout=60)
    it = chat.ask(QUESTION, sampling=Sampling(stop=("never said", stop)))
    shown = "".join(event.text for event in it.blocking() if event.kind == "token")
    answer = it.result(timeout=60)
    assert answer.finish_reason == "stop_sequence"
    assert answer.text == shown == whole[: whole.index(stop)]


def test_a_stop_string_that_does_not_come_changes_nothing(runtime: Runtime) -> None:
    whole = answered(runtime, Sampling(), "a")
    held = answered(runtime, Sampling(stop=(whole.text + " and more",)), "b")
    assert (held.text, held.token_ids, held.finish_reason) == (whole.text, whole.token_ids, "eos")
    cut = answered(runtime, Sampling(max_tokens=3, stop=(whole.text,)), "c")
    assert cut.text and whole.text.startswith(cut.text) and cut.finish_reason == "length"


def test_what_stopped_an_answer_is_not_remembered(model: RxtAdapter) -> None:
    ids = model.tokenizer.encode("Your dog is called Biscuit.")
    for said in ("Your dog is called ", "Your dog is ca", ""):
        stopped = CompletedInteraction(query=QUESTION, answer=said, token_ids=tuple(ids))
        plain = CompletedInteraction(query=QUESTION, answer=said)
        found, expected = model.encode([stopped, plain])
        assert torch.equal(found, expected), said


def test_ids_that_say_the_whole_answer_are_remembered_as_they_are(model: RxtAdapter) -> None:
    """Tokens that the tokeniser would not choose for this text."""
    spelt = [token for letter in "Hi dog" for token in model.tokenizer.encode(letter)]
    whole = CompletedInteraction(query="q", answer="Hi dog", token_ids=tuple(spelt))
    found, other = model.encode([whole, CompletedInteraction(query="q", answer="Hi dog")])
    assert found.shape[2] > other.shape[2]


def test_a_bias_forbids_a_token(runtime: Runtime, model: RxtAdapter) -> None:
    whole = answered(runtime, Sampling(), "a")
    first = whole.token_ids[0]
    other = answered(runtime, Sampling(logit_bias={first: -math.inf}), "b")
    assert first not in other.token_ids


def test_a_bias_that_no_token_has_fails_its_own_query_only(runtime: Runtime) -> None:
    good = runtime.memory("good").conversation().ask(FACT)
    bad = runtime.memory("bad").conversation().ask(FACT, sampling=Sampling(logit_bias={9999: 1.0}))
    assert good.result(timeout=60).text
    with pytest.raises(Exception, match="logit_bias names token 9999 of 2048"):
        bad.result(timeout=60)


def test_a_bias_that_leaves_no_token_fails_its_own_query_only(runtime: Runtime) -> None:
    good = runtime.memory("good").conversation().ask(FACT)
    nothing = Sampling(logit_bias=dict.fromkeys(range(2048), -math.inf))
    bad = runtime.memory("bad").conversation().ask(FACT, sampling=nothing)
    assert good.result(timeout=60).text
    with pytest.raises(GenerationError, match="logit_bias forbids all 2048 tokens"):
        bad.result(timeout=60)


def test_a_penalty_counts_the_query_and_the_answer(runtime: Runtime, model: RxtAdapter) -> None:
    sampling = Sampling(repetition_penalty=1e6, max_tokens=12)
    answer = answered(runtime, sampling)
    asked = set(model.tokenizer.encode(QUESTION))
    assert len(set(answer.token_ids)) == len(answer.token_ids)
    assert not asked & set(answer.token_ids)


def test_min_p_one_is_greedy_and_a_seed_is_the_same_answer(runtime: Runtime) -> None:
    greedy = answered(runtime, Sampling(), "a").token_ids
    sampling = Sampling(temperature=3.0, min_p=1.0, max_tokens=64)
    assert answered(runtime, sampling, "b").token_ids == greedy
    hot = [
        answered(runtime, Sampling(temperature=3.0, seed=seed, max_tokens=8), f"h{i}").token_ids
        for i, seed in enumerate((1, 1, 2))
    ]
    assert hot[0] == hot[1] != hot[2]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"min_p": 1.5}, "min_p must lie in"),
        ({"min_p": None}, r"min_p must lie in \[0, 1\], not None"),
        ({"temperature": -1}, "temperature must be a number >= 0, not -1"),
        ({"temperature": math.nan}, "temperature must be a number >= 0, not nan"),
        ({"temperature": math.inf}, "temperature must be a number >= 0, not inf"),
        ({"temperature": "hot"}, "temperature must be a number >= 0, not 'hot'"),
        ({"top_k": 1.5}, "top_k must be a whole number >= 0, not 1.5"),
        ({"top_p": 0}, r"top_p must lie in \(0, 1\], not 0"),
        ({"top_p": "x"}, r"top_p must lie in \(0, 1\], not 'x'"),
        ({"max_tokens": 0}, "max_tokens must be a whole number >= 1, not 0"),
        ({"max_tokens": 1.5}, "max_tokens must be a whole number >= 1, not 1.5"),
        ({"seed": "x"}, "seed must be a whole number or None, not 'x'"),
        ({"seed": 1.5}, "seed must be a whole number or None, not 1.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be a number > 0, not 0.0"),
        ({"repetition_penalty": math.nan}, "repetition_penalty must be a number > 0, not nan"),
        ({"logit_bias": None}, "logit_bias takes numbers by id, not None"),
        ({"logit_bias": {"a": 0.0}}, "logit_bias takes .* not 'a': 0.0"),
        ({"logit_bias": {1: "x"}}, "logit_bias takes .* not 1: 'x'"),
        ({"logit_bias": {-1: 0.0}}, "logit_bias takes .* not -1: 0.0"),
        ({"logit_bias": {1: math.nan}}, "logit_bias takes .* not 1: nan"),
        ({"stop": "text"}, "stop takes texts, none of them empty, not 'text'"),
        ({"stop": ("",)}, "stop takes texts"),
        ({"stop": (1,)}, "stop takes texts, none of them empty, not \\(1,\\)"),
        ({"stop": None}, "stop takes texts, none of them empty, not None"),
    ],
)
def test_a_setting_that_cannot_be_is_named(fields, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sampling(**fields)


def test_numbers_of_numpy_and_any_collection_of_stops_are_taken(runtime: Runtime) -> None:
    sampling = Sampling(
        temperature=np.float32(0.7), top_p=np.float64(0.9), stop={"is"}, seed=3, max_tokens=8
    )
    same = Sampling(
        temperature=float(np.float32(0.7)), top_p=0.9, stop=("is",), seed=3, max_tokens=8
    )
    assert answered(runtime, sampling, "a").text == answered(runtime, same, "b").text


def test_weights_of_eight_bits_answer_alike_and_share_memories(model: RxtAdapter) -> None:
    short = load_model(int8=True)
    assert short.fingerprint == model.fingerprint
    with Runtime(model, "memory:") as all_bits, Runtime(short, "memory:") as eight:
        chat = all_bits.memory("m").conversation()
        assert [event.kind for event in chat.ask(FACT).blocking()][-1] == "memory_updated"
        snapshot = all_bits.memory("m").snapshot()
        other = eight.memory("m", snapshot=snapshot).conversation()
        answers = [c.ask(QUESTION).result(timeout=60).text for c in (chat, other)]
    assert answers[0] == answers[1] and "Biscuit" in answers[0]
