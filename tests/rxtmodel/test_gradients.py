"""Derivatives: right in every part, and reaching every weight."""

from __future__ import annotations

import pytest
import torch

from rxtmodel.attention import Attention
from rxtmodel.feed_forward import FeedForward
from rxtmodel.rope import rope_table

from .tiny import EVERY_OPTION, VARIANTS, random_ids, random_memory, shallow, tiny_config
from .tiny import tiny_model as full_model

pytestmark = pytest.mark.usefixtures("double")


def tiny_model(variant: str, **settings):
    layers = 4 if variant.startswith("grouped") else 2
    config = shallow(tiny_config(variant, **settings), layers)
    fields = {"num_layers": config.num_layers, **settings}
    return full_model(variant, **fields).double()


def check(function, *inputs: torch.Tensor) -> None:
    """Exact derivatives against differences, along random directions."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)


def test_attention_is_differentiated_rightly():
    attention, table = Attention(6, 2, 1, 4).double(), rope_table(4, 4)
    check(lambda x: attention(x, rope=table, causal=True), torch.randn(2, 4, 6).double())


def test_the_feed_forward_is_differentiated_rightly():
    check(FeedForward(4, 6).double(), torch.randn(3, 4).double())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_write_is_differentiated_rightly(variant):
    model = tiny_model(variant)
    layers = model.config.num_layers
    encoded = torch.randn(layers, 2, 3, 8).double()
    mask = torch.tensor([[True, True, True], [True, False, False]])
    check(
        lambda m, e: model.attend(m, e, mask),
        random_memory(model, 2),
        encoded,
    )


@pytest.mark.parametrize("gate", ["static", "elementwise", "linear", "channel", "none"])
def test_a_gated_write_is_differentiated_rightly(gate):
    model = tiny_model("self-interlayer", memory={**EVERY_OPTION, "gate": gate})
    names = [n for n, _ in model.named_parameters() if n.startswith("memory_write")]
    weights = [model.get_parameter(n) for n in names]
    memory, encoded = random_memory(model, 1), torch.randn(2, 1, 3, 8).double()

    def write(*values: torch.Tensor) -> torch.Tensor:
        parameters = {
            n.removeprefix("memory_write."): v for n, v in zip(names, values, strict=True)
        }
        arguments = {"rope": model.rope[:, :3]}
        return torch.func.functional_call(
            model.memory_write, parameters, (memory, encoded), arguments
        )

    check(write, *weights)


@pytest.mark.parametrize("variant", ["interlayer", "delta"])
def test_an_answer_is_differentiated_rightly_through_two_updates(variant):
    """From the logits of turn three back to the memory before turn one."""
    model, turns = tiny_model(variant), random_ids(3, 4)

    def answer(memory: torch.Tensor) -> torch.Tensor:
        for turn in turns[:2]:
            memory = model.attend(memory, model.encode(turn[None]))
        return model(turns[2:], memory)

    check(answer, random_memory(model, 1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_weight_has_a_part_in_the_answer(variant):
    options = {} if variant == "delta" else EVERY_OPTION
    model = tiny_model(variant, memory=options, tie_head=False)
    memory = model.initial_memory()
    for turn in random_ids(2, 4):
        memory = model.attend(memory, model.encode(turn[None]))
    model(random_ids(1, 5, seed=5), memory).square().sum().backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []
