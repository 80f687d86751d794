"""The small parts: SwiGLU, norms, maps of many layers at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rxtmodel.feed_forward import FeedForward
from rxtmodel.memory.stacked import StackedLinear, StackedRMSNorm
from rxtmodel.norms import build_norm

from . import reference
from .reference import Reference
from .tiny import tiny_config


def test_swiglu_is_down_of_silu_gate_times_up():
    holder = torch.nn.Module()
    holder.ff, holder.config = FeedForward(6, 10).double(), tiny_config()
    x = torch.randn(4, 6, dtype=torch.float64)
    expected = Reference(holder).feed_forward("ff", x.numpy())
    np.testing.assert_allclose(holder.ff(x).detach(), expected, atol=1e-13)


def test_the_feed_forward_treats_every_token_alike():
    ff, x = FeedForward(6, 10), torch.randn(2, 3, 6)
    torch.testing.assert_close(ff(x)[1, 2], ff(x[1, 2]))


def test_every_layer_has_a_linear_map_of_its_own():
    linear = StackedLinear(3, 4, 5, bias=True).double()
    torch.nn.init.normal_(linear.bias)
    x = torch.randn(3, 2, 7, 4, dtype=torch.float64)
    found = linear(x)
    assert found.shape == (3, 2, 7, 5)
    for layer, b, t in np.ndindex(3, 2, 7):
        expected = linear.bias[layer].clone()
        for i in range(4):
            expected += x[layer, b, t, i] * linear.weight[layer, i]
        torch.testing.assert_close(found[layer, b, t], expected)


def test_every_layer_has_a_norm_of_its_own():
    norm = StackedRMSNorm(3, 8, 1e-3).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 2, 5, 8, dtype=torch.float64)
    found = norm(x).detach().numpy()
    for layer in range(3):
        scale = norm.weight[layer].detach().numpy()
        expected = reference.rms_norm(x[layer].numpy(), scale, 1e-3)
        np.testing.assert_allclose(found[layer], expected, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_without_an_epsilon_it_is_that_of_float32_in_every_type(dtype):
    """Also in shorter types, whose own would be as large as what is normalised here."""
    x = torch.full((1, 2, 8), 1e-3, dtype=dtype)
    epsilon = torch.finfo(torch.float32).eps
    norms = (build_norm("rms", 8, None).to(dtype), StackedRMSNorm(1, 8, None).to(dtype))
    for norm in norms:
        expected = x.double() / (x.double().square().mean(-1, keepdim=True) + epsilon).sqrt()
        torch.testing.assert_close(norm(x).double(), expected, atol=0.004, rtol=0)


def test_the_norm_of_nothing_is_nothing():
    assert torch.equal(StackedRMSNorm(1, 8, 1e-6)(torch.zeros(1, 2, 8)), torch.zeros(1, 2, 8))
