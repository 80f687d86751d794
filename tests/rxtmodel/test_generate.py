"""Answers for a whole batch: each as if it were alone."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rxtmodel.generate import generate, pad
from rxtmodel.template import EOS, PAD, SPECIAL_TOKENS, TokenIds

from .tiny import VARIANTS, random_memory, tiny_model

MODELS = {v: tiny_model(v, num_layers=2).requires_grad_(False) for v in VARIANTS}
BANNED = [i for i in range(len(SPECIAL_TOKENS)) if i != EOS]
prompts = st.lists(st.lists(st.integers(11, 23), min_size=1, max_size=7), min_size=1, max_size=5)


def slowly(model, prompt: list[int], memory, max_tokens: int) -> list[int]:
    """Greedy decoding without any cache: the whole text once more for every token."""
    answer: list[int] = []
    while len(answer) < max_tokens:
        logits = model(torch.tensor([[*prompt, *answer]]), memory)[0, -1]
        logits[BANNED] = -torch.inf
        token = int(logits.argmax())
        if token == EOS:
            break
        answer.append(token)
    return answer


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(st.sampled_from(VARIANTS), prompts)
def test_every_answer_is_the_one_of_a_lonely_slow_decoder(variant, texts):
    model = MODELS[variant]
    memory = random_memory(model, len(texts))
    found = generate(model, texts, memory, max_tokens=6)
    for row, text in enumerate(texts):
        assert found[row] == slowly(model, text, memory[:, row : row + 1], 6)


def test_an_answer_stops_at_its_own_end():
    """Rows end at different times; what is drawn after the end does not count."""
    model = tiny_model("delta", num_layers=2, tie_head=False, seed=3).requires_grad_(False)
    model.head.bias[EOS] = 3.0
    texts = [[11 + n, 12 + n] for n in range(10)]
    memory = random_memory(model, 10)
    found = generate(model, texts, memory, max_tokens=12)
    assert found == [slowly(model, t, memory[:, i : i + 1], 12) for i, t in enumerate(texts)]
    assert len({len(answer) for answer in found}) > 2
    assert not any(token in answer for answer in found for token in range(len(SPECIAL_TOKENS)))


def test_an_answer_stops_at_any_of_its_ends():
    model = tiny_model("delta", num_layers=2, tie_head=False, seed=3, tokens=TokenIds(ends=(20,)))
    model.requires_grad_(False)
    model.head.bias[20] = 3.0
    texts = [[11 + n, 12 + n] for n in range(10)]
    found = generate(model, texts, random_memory(model, 10), max_tokens=12)
    assert len({len(answer) for answer in found}) > 2
    assert not any(20 in answer for answer in found)


def test_special_tokens_are_never_drawn():
    model = tiny_model("delta", num_layers=2, tie_head=False).requires_grad_(False)
    model.head.bias[: len(SPECIAL_TOKENS)] = 50.0
    model.head.bias[EOS] = -50.0
    (answer,) = generate(model, [[12, 13]], random_memory(model, 1), max_tokens=8)
    assert len(answer) == 8
    assert min(answer) >= len(SPECIAL_TOKENS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_answering_changes_no_memory(variant):
    model = MODELS[variant]
    memory = random_memory(model, 2)
    before = hashlib.sha256(memory.numpy().tobytes()).digest()
    generate(model, [[12], [13, 14]], memory, max_tokens=4)
    assert hashlib.sha256(memory.numpy().tobytes()).digest() == before


def test_a_model_of_a_short_type_answers_from_its_own_memory():
    """Memories stay float32 whatever the weights are."""
    model = tiny_model("interlayer", num_layers=2).to(torch.bfloat16).requires_grad_(False)
    memory, texts = model.initial_memory(2), [[12, 13, 14], [15]]
    assert memory.dtype == torch.float32
    found = generate(model, texts, memory, max_tokens=3)
    for row, answer in enumerate(found):
        assert answer == slowly(model, texts[row], memory[:, row : row + 1], 3)


def test_nobody_asks_and_nobody_is_answered():
    model = MODELS["delta"]
    assert generate(model, [], random_memory(model, 1)) == []


@pytest.mark.parametrize(
    ("texts", "tokens", "words"),
    [
        ([[12]], 0, "max_tokens must be at least 1, got 0"),
        ([[12], []], 4, r"prompts \[1\] are empty"),
        ([[12] * 30], 11, "30 tokens of a prompt and max_tokens=11 .* max_seq_len=40;"),
        ([[12], [13], [14]], 4, "3 rows cannot read 2 memories"),
    ],
)
def test_what_cannot_be_answered_is_refused(texts, tokens, words):
    model = MODELS["delta"]
    with pytest.raises(ValueError, match=words):
        generate(model, texts, random_memory(model, 2), max_tokens=tokens)


def test_an_answer_may_end_with_the_last_position():
    model = MODELS["delta"]
    assert generate(model, [[12] * 30], random_memory(model, 1), max_tokens=10)


def test_rows_are_padded_on_the_right():
    assert pad([[1, 2, 3], [4], []]).tolist() == [[1, 2, 3], [4, PAD, PAD], [PAD, PAD, PAD]]
