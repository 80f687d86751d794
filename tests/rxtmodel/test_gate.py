"""Residual gates: the published kinds, the one for each channel, and none at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rxtmodel import MemoryConfig
from rxtmodel.memory.gate import ResidualGate

from . import memory_reference

LAYERS, BATCH, SLOTS, WIDTH = 3, 2, 4, 6
KINDS = ("none", "static", "elementwise", "linear", "channel")


def build(kind: str, activation: str = "sigmoid", *, random: bool = True) -> ResidualGate:
    config = MemoryConfig(num_slots=SLOTS, gate=kind, gate_activation=activation, gate_init=0.7)
    gate = ResidualGate(config, LAYERS, WIDTH)
    if random:
        for p in gate.parameters():
            torch.nn.init.normal_(p)
    return gate.double()


def memories(count: int = 2) -> torch.Tensor:
    return torch.randn(count, LAYERS, BATCH, SLOTS, WIDTH, dtype=torch.float64)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_follows_its_formula(kind, activation):
    gate = build(kind, activation)
    old, update = memories()
    found = gate(old, update).detach().numpy()
    weights = {n: p.detach().numpy() for n, p in gate.state_dict().items()}
    for layer, b in np.ndindex(LAYERS, BATCH):
        own = {n: w[layer] for n, w in weights.items()}
        tanh = activation == "tanh"
        pair = old[layer, b].numpy(), update[layer, b].numpy()
        expected = memory_reference.gate(kind, tanh, own, *pair)
        np.testing.assert_allclose(found[layer, b], expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["static", "elementwise", "linear", "channel"])
def test_a_sigmoid_gate_stays_between_old_and_update(kind):
    old, update = memories()
    new = build(kind)(old, update)
    low, high = torch.minimum(old, update), torch.maximum(old, update)
    assert ((new >= low - 1e-12) & (new <= high + 1e-12)).all()


@pytest.mark.parametrize("kind", ["static", "channel"])
def test_a_closed_gate_keeps_and_an_open_one_replaces(kind):
    old, update = memories()
    for logit, expected in ((-40.0, old), (40.0, update)):
        gate = build(kind)
        for name, p in gate.named_parameters():
            weight_of_channel = kind == "channel" and name.endswith("weight")
            torch.nn.init.constant_(p, 0.0 if weight_of_channel else logit)
        torch.testing.assert_close(gate(old, update), expected, atol=1e-12, rtol=0)


def test_a_static_tanh_gate_at_zero_adds_the_update():
    old, update = memories()
    gate = build("static", "tanh")
    torch.nn.init.zeros_(gate.weight)
    torch.testing.assert_close(gate(old, update), old + update)


def test_gate_init_sets_where_training_starts():
    for kind in ("static", "elementwise"):
        assert (build(kind, random=False).weight == torch.tensor(0.7).double()).all()
    channel = build("channel", random=False)
    assert (channel.mix.bias == torch.tensor(0.7).double()).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_changes_neither_of_its_inputs(kind):
    old, update = memories()
    before = old.clone(), update.clone()
    build(kind)(old, update)
    assert torch.equal(old, before[0])
    assert torch.equal(update, before[1])
