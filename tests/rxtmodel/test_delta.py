"""The delta rule: what is addressed is replaced, what is orthogonal stays, nothing overshoots."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rxtmodel.memory import DeltaWrite
from rxtmodel.memory.delta import address

from .memory_reference import delta_write
from .tiny import random_ids, random_memory, tiny_config, tiny_model

SLOTS, WIDTH = 6, 4


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def fold(memory, k, v, b, times: int = 1) -> torch.Tensor:
    """Write tokens [T] with unit keys to one memory [S, H], all at once."""
    write = DeltaWrite(tiny_config(memory={"num_slots": SLOTS, "num_heads": 1}))
    prepared = write._solve(k[None, None, None], v[None, None, None], b[None, None, None])
    memory = memory[None, None]
    for _ in range(times):
        memory = write.fold(memory, prepared)
    return memory[0, 0]


def keys_of(kind: str, seed: int, count: int) -> torch.Tensor:
    """Unit keys: spread, all but equal, equal up to sign, of two bundles, or partly missing."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    noise = draw(count, SLOTS)
    keys = {
        "spread": noise,
        "addresses": address(3 * noise).double(),
        "bundle": draw(SLOTS) + 1e-4 * noise,
        "opposed": draw(SLOTS) * draw(count, 1).sign(),
        "two bundles": draw(2, SLOTS)[torch.arange(count) % 2] + 1e-3 * noise,
        "missing": noise * (torch.arange(count)[:, None] % 2),
        "corners": torch.eye(SLOTS, dtype=torch.float64)[torch.arange(count) % SLOTS],
    }
    return unit(keys[kind])


KINDS = ("spread", "addresses", "bundle", "opposed", "two bundles", "missing", "corners")
tokens = st.builds(
    keys_of, st.sampled_from(KINDS), st.integers(0, 10_000), st.integers(1, 24)
).flatmap(lambda keys: st.tuples(st.just(keys), strengths(len(keys))))


def strengths(count: int) -> st.SearchStrategy[torch.Tensor]:
    one = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1e-12, 1e-4, 0.5, 1.0]))
    return st.lists(one, min_size=count, max_size=count).map(
        lambda values: torch.tensor(values, dtype=torch.float64)
    )


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(tokens)
def test_a_write_is_a_contraction(drawn):
    """All eigenvalues of K^T D K lie in [0, 1], whatever the keys and the strengths are."""
    k, b = drawn
    erase, _ = DeltaWrite._solve(k, torch.zeros(len(k), 1, dtype=k.dtype), b)
    torch.testing.assert_close(erase, erase.mT)
    eigenvalues = torch.linalg.eigvalsh(erase)
    assert eigenvalues.min() >= -1e-9
    assert eigenvalues.max() <= 1 + 1e-9


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(tokens)
def test_a_write_follows_its_formula_for_any_keys(drawn):
    k, b = drawn
    memory, v = torch.randn(SLOTS, WIDTH).double(), torch.randn(len(k), WIDTH).double()
    expected = delta_write(memory.numpy(), k.numpy(), v.numpy(), b.numpy())
    np.testing.assert_allclose(fold(memory, k, v, b), expected, atol=1e-12)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(tokens)
def test_what_already_stands_there_changes_nothing(drawn):
    k, b = drawn
    memory = torch.randn(SLOTS, WIDTH).double()
    torch.testing.assert_close(fold(memory, k, k @ memory, b), memory, atol=1e-12, rtol=0)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(tokens)
def test_what_is_orthogonal_to_every_key_is_untouched(drawn):
    k, b = drawn
    k = k * (torch.arange(SLOTS) < SLOTS // 2)
    k = unit(k)
    memory, v = torch.randn(SLOTS, WIDTH).double(), torch.randn(len(k), WIDTH).double()
    new = fold(memory, k, v, b)
    assert torch.equal(new[SLOTS // 2 :], memory[SLOTS // 2 :])


@pytest.mark.parametrize("agreeing", [1, 2, 30])
def test_full_strength_replaces_and_a_repetition_changes_nothing(agreeing):
    """However many tokens agree on an address, exactly their value stands there afterwards."""
    key = unit(torch.randn(SLOTS).double())
    k, v = key.expand(agreeing, -1), torch.randn(WIDTH).double().expand(agreeing, -1)
    memory, b = torch.randn(SLOTS, WIDTH).double(), torch.ones(agreeing).double()
    once = fold(memory, k, v, b)
    torch.testing.assert_close(key @ once, v[0])
    torch.testing.assert_close(fold(memory, k, v, b, times=2), once, atol=1e-13, rtol=0)


def test_a_second_value_for_an_address_replaces_the_first():
    key, b = unit(torch.randn(1, SLOTS).double()), torch.ones(1).double()
    old, new = torch.randn(2, 1, WIDTH).double()
    memory = fold(torch.randn(SLOTS, WIDTH).double(), key, old, b)
    torch.testing.assert_close(key @ fold(memory, key, new, b), new)


def test_tokens_at_orthogonal_addresses_do_not_disturb_each_other():
    k, b = torch.eye(SLOTS).double(), torch.ones(SLOTS).double()
    v = torch.randn(SLOTS, WIDTH).double()
    torch.testing.assert_close(fold(torch.randn(SLOTS, WIDTH).double(), k, v, b), v)


def test_strength_zero_does_not_write_and_half_goes_half_way():
    key, v = unit(torch.randn(1, SLOTS).double()), torch.randn(1, WIDTH).double()
    memory = torch.randn(SLOTS, WIDTH).double()
    assert torch.equal(fold(memory, key, v, torch.zeros(1).double()), memory)
    half = fold(memory, key, v, torch.full((1,), 0.5).double())
    torch.testing.assert_close(key @ half, (key @ memory + v) / 2)


@settings(max_examples=30, derandomize=True, deadline=None, database=None)
@given(tokens)
def test_a_memory_written_to_for_ever_stays_bounded(drawn):
    k, b = drawn
    v = torch.randn(len(k), WIDTH).double()
    zero = torch.zeros(SLOTS, WIDTH).double()
    steps = [fold(zero, k, v, b, times=n) for n in (5, 6, 60, 61)]
    first, last = (steps[1] - steps[0]).norm(), (steps[3] - steps[2]).norm()
    assert last <= first + 1e-9


def test_masked_tokens_do_not_write():
    model, ids = tiny_model(), random_ids(1, 6)
    memory = random_memory(model, 1)
    mask = torch.tensor([[True, True, True, False, False, False]])
    with torch.no_grad():
        encoded = model.encode(ids)
        loud = encoded.clone()
        loud[:, :, 3:] = 100 * torch.randn_like(loud[:, :, 3:])
        masked = [model.attend(memory, part, mask) for part in (encoded, loud)]
        alone = model.attend(memory, encoded[:, :, :3])
        nothing = model.attend(memory, loud, torch.zeros_like(mask))
    assert torch.equal(*masked)
    torch.testing.assert_close(masked[0], alone)
    assert torch.equal(nothing, memory)


def test_an_address_is_a_unit_vector_even_for_huge_inputs():
    x = torch.randn(4, 9)
    for scale in (1.0, 1e3):
        torch.testing.assert_close(address(scale * x).norm(dim=-1), torch.ones(4))
    assert address(x.bfloat16()).dtype == torch.float32


def test_an_address_fades_out_with_bounded_gradients_where_every_feature_is_off():
    for level in (0.0, -10.0, -60.0, -200.0):
        x = torch.full((9,), level, requires_grad=True)
        unit = address(x)
        unit.sum().backward()
        assert unit.norm() <= 1
        assert x.grad.isfinite().all() and x.grad.abs().max() <= 1 / 1e-3


def test_a_prepared_update_folded_is_the_write():
    """Also when the turns of a dialogue are prepared in one batch and folded one by one."""
    model = tiny_model()
    write, turns = model.memory_write, random_ids(3, 5)
    mask = torch.arange(5) < torch.tensor([[5], [2], [4]])
    memory = random_memory(model, 1)
    with torch.no_grad():
        encoded = model.encode(turns, mask)
        erase, new = write.prepare(encoded, mask)
        folded = stepwise = memory
        for t in range(3):
            one = slice(t, t + 1)
            folded = write.fold(folded, (erase[:, one], new[:, one]))
            stepwise = write(stepwise, encoded[:, one], mask_BT=mask[one])
    torch.testing.assert_close(folded, stepwise)
    assert not torch.allclose(folded, memory)
