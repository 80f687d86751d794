"""Muon against plain loops, who is trained by what, and the schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from curriculum.optim import Muon, build_optimisers, orthogonalise, trapezoid

from .tiny import tiny_model


def newton_schulz(matrix: np.ndarray) -> np.ndarray:
    """One matrix, in float64."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    return x


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (3, 8, 40), (2, 3, 40, 8), (1, 5)], ids=str)
def test_all_directions_come_out_about_equally_long(shape):
    found = orthogonalise(torch.randn(shape))
    assert found.shape == shape
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_directions_are_kept():
    """The singular vectors are the gradient's; only the lengths along them change."""
    x = torch.randn(6, 30)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    turned = u.mT @ orthogonalise(x) @ v.mT
    assert (turned - turned.diag().diag()).abs().max() < 0.06
    assert turned.diag().min() > 0.6


def test_the_size_of_the_gradient_does_not_matter():
    x = torch.randn(6, 30)
    torch.testing.assert_close(orthogonalise(1e-4 * x), orthogonalise(x), atol=0.05, rtol=0)


def test_matrices_of_a_batch_are_separate_and_keep_their_dtype():
    x = torch.randn(3, 6, 9)
    together = orthogonalise(x)
    assert together.dtype == x.dtype
    for i in range(3):
        torch.testing.assert_close(together[i], orthogonalise(x[i]), atol=0.03, rtol=0)


def test_no_gradient_gives_no_update():
    assert torch.equal(orthogonalise(torch.zeros(4, 6)), torch.zeros(4, 6))


@pytest.mark.parametrize("shape", [(4, 12), (12, 4), (2, 12, 4)], ids=str)
def test_muon_steps_follow_the_plain_recipe(shape):
    lr, decay, momentum = 0.1, 0.3, 0.95
    p = nn.Parameter(torch.randn(shape))
    expected = p.detach().double().numpy().copy()
    average = np.zeros(shape)
    muon = Muon([p], lr, weight_decay=decay, momentum=momentum)
    for _ in range(4):
        p.grad = torch.randn(shape)
        grad = p.grad.double().numpy()
        average = momentum * average + (1 - momentum) * grad
        ahead = momentum * average + (1 - momentum) * grad
        update = np.empty(shape)
        for i in np.ndindex(shape[:-2]):
            update[i] = newton_schulz(ahead[i])
        expected = expected * (1 - lr * decay) - lr * 0.2 * np.sqrt(max(shape[-2:])) * update
        muon.step()
    step_size = lr * 0.2 * np.sqrt(12)
    np.testing.assert_allclose(p.detach(), expected, atol=0.1 * step_size)


def test_matrices_of_one_shape_are_updated_as_if_alone():
    start, grads = torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    together = [nn.Parameter(x.clone()) for x in start]
    alone = [nn.Parameter(x.clone()) for x in start]
    for parameters in (together, *([p] for p in alone)):
        muon = Muon(parameters, 0.1)
        for p in parameters:
            p.grad = grads[next(i for i in range(3) if torch.equal(start[i], p))].clone()
        muon.step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


def test_what_has_no_gradient_is_left_alone():
    idle, moved = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(2, 3))
    moved.grad = torch.randn(2, 3)
    Muon([idle, moved], 0.1, weight_decay=0.5).step()
    assert torch.equal(idle, torch.ones(2, 3))
    assert not torch.equal(moved, torch.ones(2, 3))


def split(*, muon: bool = True) -> tuple[set[str], set[str], list]:
    model = tiny_model("self-interlayer", slot_ids=True, null_key=True)
    optimisers = build_optimisers(model, torch.tensor(0.1), muon=muon, weight_decay=0.2)
    names = {id(p): n for n, p in model.named_parameters()}
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    decayed, others = ({names[id(p)] for p in group["params"]} for group in groups)
    assert decayed | others == set(names.values())
    assert not decayed & others
    assert [group["weight_decay"] for group in groups] == [0.2, 0.0]
    return decayed, others, optimisers


@pytest.mark.parametrize("muon", [True, False])
def test_every_weight_has_one_optimiser_and_only_matrices_decay(muon):
    matrices, others, optimisers = split(muon=muon)
    kinds = [type(o) for o in optimisers]
    assert kinds == ([Muon, torch.optim.AdamW] if muon else [torch.optim.AdamW])
    assert {"embedding.weight", "memory_init", "final_norm.weight"} <= others
    assert {"decoder.0.attention_norm.weight", "memory_write.gate.mix.bias"} <= others
    assert {"decoder.0.attention.q_proj.weight", "encoder.1.ff.down.weight"} <= matrices
    assert {"memory_write.attention.q_proj.weight", "memory_write.gate.mix.weight"} <= matrices


def test_a_scale_for_each_layer_is_no_matrix():
    matrices, _, _ = split()
    assert not {name for name in matrices if "norm" in name}


def test_what_is_not_trained_has_no_optimiser():
    model = tiny_model("simple", learned_init=False)
    optimisers = build_optimisers(model, torch.tensor(0.1), muon=True, weight_decay=0.0)
    trained = {id(p) for o in optimisers for g in o.param_groups for p in g["params"]}
    assert id(model.memory_init) not in trained


def test_all_optimisers_follow_one_learning_rate():
    model, lr = tiny_model(), torch.tensor(0.0)
    optimisers = build_optimisers(model, lr, muon=True, weight_decay=0.2)
    before = [p.detach().clone() for p in model.parameters()]
    for value in (0.0, 0.1):
        lr.fill_(value)
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        for optimiser in optimisers:
            optimiser.step()
        same = [torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)]
        assert all(same) if value == 0.0 else not any(same)


def test_the_schedule_rises_stays_and_falls():
    factors = [trapezoid(s, 20, warmup=4, decay=0.5) for s in range(20)]
    assert factors[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert factors[4:11] == [1.0] * 7
    assert factors[11:] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_the_schedule_has_a_floor_and_no_edge_divides_by_zero():
    assert trapezoid(999, 1000, warmup=1, decay=1.0) == pytest.approx(0.03)
    assert trapezoid(0, 1, warmup=0, decay=0.0) == 1.0
    assert 0 < trapezoid(0, 10, warmup=100, decay=0.4) < 0.02
