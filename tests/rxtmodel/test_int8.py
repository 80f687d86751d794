"""Weights of eight bits: near the others where a token is decoded, absent everywhere else."""

from __future__ import annotations

import pytest
import torch

from rxtmodel import ConfigError, ReactiveTransformer, Sampler, SamplerConfig
from rxtmodel.checkpoint import weights_fingerprint
from rxtmodel.engine import DecodeBatch
from rxtmodel.layout import arrange, quantise
from rxtmodel.linear import Int8, linear_of

from .tiny import VARIANTS, random_ids, random_memory, tiny_model


@pytest.mark.parametrize(("wide", "deep"), [(24, 32), (7, 32), (64, 64)])
@pytest.mark.parametrize("rows", [1, 3, 16, 40])
def test_a_product_is_that_of_the_rounded_weights(wide, deep, rows):
    """Against loops in double precision; inputs and outputs are rounded to bfloat16."""
    weight, x = torch.randn(wide, deep), torch.randn(rows, 1, deep)
    short = Int8.of(weight.t().contiguous().t())
    with torch.inference_mode():
        found = linear_of(x, weight, short)
    inputs = x.bfloat16().double()
    for row in range(rows):
        for out in range(wide):
            expected = sum(
                float(inputs[row, 0, i]) * int(short.weight[out, i]) for i in range(deep)
            ) * float(short.scale[out])
            assert abs(float(found[row, 0, out]) - expected) <= 2**-7 * abs(expected) + 1e-5


def test_a_weight_is_rounded_to_the_nearest_step_of_its_output():
    weight = torch.randn(9, 32) * torch.logspace(-6, 6, 9)[:, None]
    short = Int8.of(weight)
    back = short.weight.float() * short.scale.float()[:, None]
    assert ((back - weight).abs() <= 0.502 * short.scale.float()[:, None]).all()
    assert (short.weight.abs().amax(1) >= 126).all(), "every output uses all of its steps"
    assert torch.equal(Int8.of(torch.zeros(3, 32)).weight, torch.zeros(3, 32, dtype=torch.int8))


def test_a_width_that_the_product_cannot_take_is_left_as_it_is():
    assert Int8.of(torch.randn(4, 12)) is None
    x, weight = torch.randn(3, 1, 12), torch.randn(4, 12)
    with torch.inference_mode():
        torch.testing.assert_close(linear_of(x, weight, None), x @ weight.T)


def wide_model(variant: str = "delta", **settings) -> ReactiveTransformer:
    """Every product of a width that there are eight bits for."""
    return tiny_model(variant, embed_dim=32, head_dim=16, ff_dim=64, **settings)


def logits_of(model: ReactiveTransformer, rows: int, memory: torch.Tensor) -> torch.Tensor:
    """Of the second token decoded in each row."""

    class Keep(Sampler):
        def draw(self, logits_V: torch.Tensor) -> int:
            seen.append(logits_V.clone())
            return 20

    seen: list[torch.Tensor] = []
    batch = DecodeBatch(model, rows, 20)
    config = SamplerConfig(temperature=1.0)
    state = model.project_memory(memory)
    added = []
    for i in range(rows):
        own = [tuple(part[i : i + 1] for part in layer) for layer in state]
        added.append(batch.add([12 + i % 9, 13, 14], own, Keep(config)))
    batch.step(added)
    seen.clear()
    batch.step(added)
    return torch.stack(seen)[:, 11:]


@pytest.mark.parametrize("tie_head", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_decoding_is_near_that_of_all_bits(variant, tie_head):
    plain = arrange(wide_model(variant, tie_head=tie_head).requires_grad_(False))
    short = quantise(arrange(wide_model(variant, tie_head=tie_head).requires_grad_(False)))
    memory = random_memory(plain, 3)
    expected, found = (logits_of(model, 3, memory) for model in (plain, short))
    error = (found - expected).abs().max() / expected.abs().max()
    assert 0 < error < 0.2  # weights this wild make the most of every rounding


def test_a_row_gets_the_same_whoever_is_beside_it():
    model = quantise(arrange(wide_model("interlayer").requires_grad_(False)))
    memory = random_memory(model, 20)
    together = logits_of(model, 20, memory)
    alone = logits_of(model, 1, memory[:, :1])
    torch.testing.assert_close(together[0], alone[0], atol=1e-4, rtol=1e-3)


def test_prompts_encoder_memory_and_names_keep_all_their_bits():
    plain, short = wide_model().requires_grad_(False), quantise(wide_model().requires_grad_(False))
    ids, memory = random_ids(2, 7), random_memory(plain, 2)
    with torch.inference_mode():
        assert torch.equal(short(ids, memory), plain(ids, memory))
        encoded = short.encode(ids)
        assert torch.equal(encoded, plain.encode(ids))
        assert torch.equal(short.attend(memory, encoded), plain.attend(memory, encoded))
    assert list(short.state_dict()) == list(plain.state_dict())
    assert weights_fingerprint(short) == weights_fingerprint(plain)


def test_gradients_are_those_of_the_weights():
    model = quantise(wide_model())
    model(random_ids(2, 1), random_memory(model, 2)).sum().backward()
    assert model.decoder[0].ff.down.weight.grad is not None


def test_a_model_of_another_type_is_refused_with_its_type():
    with pytest.raises(ConfigError, match="the model is in torch.bfloat16 on cpu"):
        quantise(wide_model().bfloat16())
