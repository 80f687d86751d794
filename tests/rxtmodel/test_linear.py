"""Products and norms that are faster on a CPU: the same numbers as PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rxtmodel.linear import Linear, linear
from rxtmodel.norms import RMSNorm


def weights() -> dict[str, torch.Tensor]:
    """By rows, by columns, and a part of a larger one, as ``layout.arrange`` stores them."""
    weight = torch.randn(24, 16)
    wide = torch.randn(64, 16).t().contiguous().t()
    return {"rows": weight, "columns": weight.t().contiguous().t(), "part": wide[8:32]}


@pytest.mark.parametrize("layout", ["rows", "columns", "part"])
@pytest.mark.parametrize("shape", [(1, 1, 16), (7, 16), (8, 16), (16, 1, 16), (2, 9, 16), (0, 16)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_that_of_pytorch(layout, shape, bias):
    weight, x = weights()[layout], torch.randn(shape)
    b = torch.randn(24) if bias else None
    with torch.inference_mode():
        found = linear(x, weight, b)
    assert found.shape == (*shape[:-1], 24)
    torch.testing.assert_close(found, F.linear(x, weight, b), atol=1e-5, rtol=1e-5)


def test_inputs_may_lie_anywhere_in_memory():
    x, weight = torch.randn(16, 40, 2)[:, ::2, 0][:, :16].expand(3, 16, 16), weights()["rows"]
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, weight), x @ weight.T, atol=1e-5, rtol=1e-5)


def test_a_row_does_not_depend_on_the_others():
    x, layer = torch.randn(16, 16), Linear(16, 24)
    other = x.clone()
    other[1:] = torch.randn(15, 16)
    with torch.inference_mode():
        assert torch.equal(layer(x)[0], layer(other)[0])


def test_weights_that_change_are_never_missed():
    layer, x = Linear(16, 24), torch.randn(16, 16)
    with torch.inference_mode():
        layer(x)
        layer.weight.data.add_(1)
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def test_gradients_and_other_types_take_the_ordinary_way():
    layer, x = Linear(16, 24), torch.randn(16, 16, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is not None
    with torch.no_grad():
        double = layer.double()
        assert double(x.double()).dtype == torch.float64
        short = layer.bfloat16()
        assert short(x.bfloat16()).dtype == torch.bfloat16


def test_under_autocast_a_product_is_in_the_short_type():
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert Linear(16, 24)(torch.randn(16, 16)).dtype == torch.bfloat16


@pytest.mark.parametrize("eps", [None, 1e-6, 0.1])
@pytest.mark.parametrize("shape", [(1, 1, 16), (16, 1, 16), (2, 3, 4, 16)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e8])
def test_a_norm_is_that_of_pytorch(eps, shape, scale):
    ours, theirs = RMSNorm(16, eps=eps), nn.RMSNorm(16, eps=eps)
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape) * scale
    kept = x.clone()
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-6, rtol=1e-5)
    assert torch.equal(x, kept)
    torch.testing.assert_close(ours(x), theirs(x), atol=0, rtol=0)  # with gradients
    for dtype in (torch.float64, torch.bfloat16):
        with torch.no_grad():
            found = ours.to(dtype)(x.to(dtype))
            torch.testing.assert_close(found, theirs.to(dtype)(x.to(dtype)), atol=0, rtol=0)


def test_the_norm_of_nothing_is_nothing():
    with torch.inference_mode():
        assert torch.equal(RMSNorm(8, eps=None)(torch.zeros(2, 8)), torch.zeros(2, 8))
