"""The whole model: formulas, independence of rows, purity."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from rxtmodel import AttentionConfig, ReactiveTransformer

from .memory_reference import MemoryReference
from .tiny import EVERY_OPTION, LAYERS, VARIANTS, random_ids, random_memory, tiny_config, tiny_model


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()


@pytest.fixture(params=VARIANTS)
def model(request) -> ReactiveTransformer:
    return tiny_model(request.param).requires_grad_(False)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tie_head": False, "final_norm": False},
        {"encoder_ff_dim": None, "rope_base": 100.0, "norm_eps": 1e-2},
        {"attention": AttentionConfig(num_query_heads=1, num_kv_heads=1)},
    ],
    ids=["default", "published head", "other numbers", "sparse"],
)
@pytest.mark.parametrize("variant", ["interlayer", "delta"])
def test_two_turns_follow_the_formulas(double, variant, settings):
    model = tiny_model(variant, **settings).double().requires_grad_(False)
    loops, turns = MemoryReference(model), random_ids(2, 5)
    memory = model.initial_memory()
    expected_memory = memory[:, 0].numpy()
    for turn in turns:
        expected = loops.logits(turn.numpy(), expected_memory)
        np.testing.assert_allclose(model(turn[None], memory)[0], expected, atol=1e-9)
        memory = model.attend(memory, model.encode(turn[None]))
        expected_memory = loops.attend(expected_memory, loops.encode(turn.numpy()))
        np.testing.assert_allclose(memory[:, 0], expected_memory, atol=1e-9)


def test_without_memory_only_the_text_counts(double):
    model = tiny_model().double().requires_grad_(False)
    ids = random_ids(1, 6)
    expected = MemoryReference(model).logits(ids[0].numpy(), None)
    np.testing.assert_allclose(model(ids, None)[0], expected, atol=1e-10)


def test_single_precision_agrees_with_the_formulas(model):
    ids, memory = random_ids(1, 6), random_memory(model, 1)
    expected = MemoryReference(model).logits(ids[0].numpy(), memory[:, 0].double().numpy())
    np.testing.assert_allclose(model(ids, memory)[0], expected, atol=1e-3, rtol=1e-3)


def test_memory_changes_the_answer(model):
    ids = random_ids(1, 6)
    one, other = (model(ids, random_memory(model, 1, seed=s)) for s in (1, 2))
    assert not torch.allclose(one, other, atol=1e-3)


def test_memories_in_one_batch_never_mix(model):
    """Row 1 is the same to the last digit whatever lies in rows 0 and 2, even no number at all."""
    ids, memory = random_ids(3, 6), random_memory(model, 3)
    other_ids, other_memory = ids.clone(), memory.clone()
    other_ids[[0, 2]] = random_ids(2, 6, seed=9)
    other_memory[:, 0], other_memory[:, 2] = 1e4, torch.nan
    results = []
    for i, m in ((ids, memory), (other_ids, other_memory)):
        results.append((model(i, m)[1], model.attend(m, model.encode(i))[:, 1]))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_a_batch_equals_its_rows_one_by_one(model):
    ids, memory = random_ids(3, 6), random_memory(model, 3)
    logits, new = model(ids, memory), model.attend(memory, model.encode(ids))
    for row in range(3):
        one = slice(row, row + 1)
        torch.testing.assert_close(model(ids[one], memory[:, one]), logits[one])
        alone = model.attend(memory[:, one], model.encode(ids[one]))
        torch.testing.assert_close(alone, new[:, one])


def test_several_rows_may_read_one_memory(model):
    ids, memory = random_ids(6, 5), random_memory(model, 2)
    expected = model(ids, memory.repeat_interleave(3, dim=1))
    torch.testing.assert_close(model(ids, memory), expected)
    torch.testing.assert_close(model(ids, model.project_memory(memory)), expected)


def test_nothing_is_ever_changed_in_place(model):
    ids, memory = random_ids(2, 6), random_memory(model, 2)
    mask = torch.ones(2, 6, dtype=torch.bool)
    encoded = model.encode(ids, mask)
    watched = [ids, memory, mask, encoded, model.rope, *model.parameters()]
    before = [digest(x) for x in watched]
    new = model.attend(memory, encoded, mask)
    model(ids, memory)
    model.project_memory(memory)
    assert [digest(x) for x in watched] == before
    assert digest(new) != digest(memory)


def test_the_same_call_gives_the_same_bits(model):
    """Nothing is remembered in the module between calls."""
    ids, memory = random_ids(2, 6), random_memory(model, 2)
    first = digest(model(ids, memory)), digest(model.attend(memory, model.encode(ids)))
    model.attend(random_memory(model, 2, seed=7), model.encode(random_ids(2, 9)))
    assert (digest(model(ids, memory)), digest(model.attend(memory, model.encode(ids)))) == first


def test_padding_changes_no_result(model):
    ids, memory = random_ids(1, 4), random_memory(model, 1)
    padded = torch.cat((ids, torch.zeros(1, 3, dtype=torch.long)), dim=1)
    mask = padded != 0
    torch.testing.assert_close(model(padded, memory)[:, :4], model(ids, memory))
    expected = model.attend(memory, model.encode(ids))
    torch.testing.assert_close(model.attend(memory, model.encode(padded, mask), mask), expected)


def test_a_memory_is_float32_of_the_configured_shape(model):
    new = model.attend(model.initial_memory(2), model.encode(random_ids(2, 3)))
    for memory in (model.initial_memory(2), new):
        layers, slots, width = model.config.memory_shape
        assert memory.shape == (layers, 2, slots, width)
        assert memory.dtype == torch.float32


def test_the_number_of_memories_and_interactions_must_agree(model):
    with pytest.raises(ValueError, match="2 memories cannot take 3 interactions"):
        model.attend(random_memory(model, 2), torch.randn(LAYERS, 3, 4, 8))


def test_a_drawn_initial_memory_is_the_same_for_everyone():
    settings = {"learned_init": False, **EVERY_OPTION}
    config = tiny_config("interlayer", memory=settings)
    first = ReactiveTransformer(config)
    torch.manual_seed(99)
    second = ReactiveTransformer(config)
    assert torch.equal(first.memory_init, second.memory_init)
    assert not first.memory_init.requires_grad
    assert not torch.equal(first.embedding.weight, second.embedding.weight)


@pytest.mark.parametrize("batch", [1, 2])
def test_an_initial_memory_is_its_owners(model, batch):
    first = model.memory_init.clone()
    mine = model.initial_memory(batch)
    mine[:, 0] += 1
    assert torch.equal(model.memory_init, first)
    assert torch.equal(mine[:, 1:], first[:, None].expand(-1, batch - 1, -1, -1))


def test_a_learned_initial_memory_is_reached_from_every_row():
    model = tiny_model("interlayer")
    model.initial_memory(3).sum().backward()
    assert torch.equal(model.memory_init.grad, torch.full_like(model.memory_init, 3.0))


def test_a_delta_memory_starts_empty():
    assert not ReactiveTransformer(tiny_config()).initial_memory().any()
