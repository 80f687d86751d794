"""Arranged weights: the same model, elsewhere in memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rxtmodel import ReactiveTransformer
from rxtmodel.checkpoint import load_model, save_model, weights_fingerprint
from rxtmodel.layout import arrange

from .tiny import VARIANTS, random_ids, random_memory, tiny_model


def frozen(variant: str = "delta", **settings) -> ReactiveTransformer:
    return tiny_model(variant, **settings).requires_grad_(False)


def one_by_one(model: ReactiveTransformer, x: torch.Tensor) -> torch.Tensor:
    attention = model.decoder[0].attention
    return torch.cat([p(x) for p in (attention.q_proj, attention.k_proj, attention.v_proj)], dim=-1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("settings", [{}, {"tie_head": False}])
def test_names_values_and_results_stay(variant, settings):
    plain, model = frozen(variant, **settings), arrange(frozen(variant, **settings))
    before, after = plain.state_dict(), model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert weights_fingerprint(model) == weights_fingerprint(plain)
    ids, memory = random_ids(2, 7), random_memory(model, 2)
    torch.testing.assert_close(model(ids, memory), plain(ids, memory), atol=2e-5, rtol=1e-4)
    expected = plain.attend(memory, plain.encode(ids))
    torch.testing.assert_close(model.attend(memory, model.encode(ids)), expected)


def test_an_arranged_model_can_be_saved(tmp_path):
    model = arrange(frozen())
    save_model(model, tmp_path)
    assert weights_fingerprint(load_model(tmp_path)) == weights_fingerprint(model)


def test_the_joined_product_is_the_three_products():
    model, x = arrange(frozen()), torch.randn(2, 3, 8)
    attention = model.decoder[0].attention
    assert attention.joined is not None
    torch.testing.assert_close(attention._project(x), one_by_one(model, x))


def double(model: ReactiveTransformer) -> None:
    model.double()


def replace(model: ReactiveTransformer) -> None:
    weight = torch.randn_like(model.decoder[0].attention.v_proj.weight)
    model.decoder[0].attention.v_proj.weight = nn.Parameter(weight, requires_grad=False)


def assign(model: ReactiveTransformer) -> None:
    model.load_state_dict(frozen(seed=3).state_dict(), assign=True)


def overwrite(model: ReactiveTransformer) -> None:
    model.load_state_dict(frozen(seed=3).state_dict())


def add(model: ReactiveTransformer) -> None:
    model.decoder[0].attention.k_proj.weight.data.add_(1)


@pytest.mark.parametrize("change", [double, replace, assign, overwrite, add])
def test_weights_that_change_are_never_missed(change):
    model = arrange(frozen())
    change(model)
    attention = model.decoder[0].attention
    x = torch.randn(2, 3, 8, dtype=attention.q_proj.weight.dtype)
    torch.testing.assert_close(attention._project(x), one_by_one(model, x))


def test_gradients_reach_weights_that_train_again():
    model = arrange(frozen()).requires_grad_(True)
    attention = model.decoder[0].attention
    attention._project(torch.randn(1, 2, 8)).sum().backward()
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        assert projection.weight.grad is not None
