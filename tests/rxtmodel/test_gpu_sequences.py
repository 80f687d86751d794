"""Kernels of whole sequences beside plain PyTorch. Run with ``pytest -m gpu``."""

from __future__ import annotations

import pytest
import torch

from rxtmodel import AttentionConfig, LmConfig, SqaLM
from rxtmodel.backends import load_kernel, load_rotate
from rxtmodel.rope import rope_table, rotate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("shape", [(3, 4, 2, 37, 70), (2, 8, 8, 5, 16), (1, 4, 1, 130, 257)])
def test_padded_rows_attend_to_what_exists(shape):
    rows, heads, groups, length, keys = shape
    generator = torch.Generator("cuda").manual_seed(4)

    def normal(*size):
        return torch.randn(*size, device="cuda", generator=generator).half()

    q, k, v = normal(rows, heads, length, 32), *(normal(rows, groups, keys, 32) for _ in "kv")
    mask = torch.arange(keys, device="cuda") < torch.tensor(
        [[9 + 5 * i] for i in range(rows)], device="cuda"
    )
    mask = mask[:, None, None]
    with torch.inference_mode():
        found = load_kernel("triton")(q, k, v, mask=mask)
        expected = load_kernel("eager")(q.float(), k.float(), v.float(), mask=mask)
    torch.testing.assert_close(found.float(), expected, rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize("shape", [(3, 4, 2, 37, 70, 32), (2, 8, 8, 130, 130, 16)])
def test_sequences_attend_to_their_first_keys(shape):
    from rxtmodel.kernels.sequences import attend_first

    rows, heads, groups, length, keys, width = shape
    q, k, v = heads_of(rows, heads, groups, length, keys, width)
    counts = torch.tensor([keys, 9, 0][:rows], device="cuda", dtype=torch.int32)
    mask = (torch.arange(keys, device="cuda") < counts[:, None])[:, None, None]
    eager = load_kernel("eager")
    with torch.inference_mode():
        found, every = attend_first(q, k, v, counts), attend_first(q, k, v)
        expected = eager(q.float(), k.float(), v.float(), mask=mask).nan_to_num(0.0)
        torch.testing.assert_close(found.float(), expected, rtol=3e-3, atol=3e-3)
        expected = eager(q.float(), k.float(), v.float())
    torch.testing.assert_close(every.float(), expected, rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize("shift", [0.0, -300.0, 300.0], ids=["as they come", "low", "high"])
@pytest.mark.parametrize("spread", [1.0, 40.0], ids=["near each other", "far apart"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_scores_may_be_of_any_size(dtype, spread, shift):
    from rxtmodel.kernels.sequences import attend_first

    q, k, v = (part.to(dtype) for part in heads_of(2, 4, 2, 70, 100, 32))
    k *= spread
    q[..., 0], k[..., 0] = 32**0.5, shift  # which every score is moved by
    q[:, :, :40, 0] = 0.0  # some rows of a tile need what others do not
    counts = torch.tensor([100, 33], device="cuda", dtype=torch.int32)
    mask = (torch.arange(100, device="cuda") < counts[:, None])[:, None, None]
    scale = 32**-0.5 * 1.4426950408889634
    scaled = (q * scale).double() / scale  # as the kernel rounds it
    with torch.inference_mode():
        found = attend_first(q, k, v, counts)
        expected = load_kernel("eager")(scaled, k.double(), v.double(), mask=mask)
    assert (found.double() - expected).norm() / expected.norm() < 5e-3


@pytest.mark.parametrize(("heads", "length", "width"), [(4, 130, 16), (2, 64, 32), (8, 7, 16)])
def test_narrow_heads_attend_causally(heads, length, width):
    q, k, v = heads_of(2, heads, 2, length, length, width)
    with torch.inference_mode():
        found = load_kernel("triton")(q, k, v, causal=True)
        expected = load_kernel("eager")(q.float(), k.float(), v.float(), causal=True)
    torch.testing.assert_close(found.float(), expected, rtol=3e-3, atol=3e-3)


def test_keys_are_trained_beside_queries_that_are_not():
    q, k, v = heads_of(2, 4, 2, 20, 20, 32)
    k.requires_grad_()
    mask = (torch.arange(20, device="cuda") < 13).expand(2, 1, 1, 20)
    load_kernel("triton")(q, k, v, mask=mask).sum().backward()
    assert k.grad.any()


def heads_of(rows, heads, groups, length, keys, width) -> list[torch.Tensor]:
    """Queries, keys and values as a projection leaves them: heads of a token side by side."""
    generator = torch.Generator("cuda").manual_seed(4)
    sizes = ((length, heads), (keys, groups), (keys, groups))
    return [
        torch.randn(rows, *size, width, device="cuda", generator=generator).half().transpose(1, 2)
        for size in sizes
    ]


@pytest.mark.parametrize(("count", "inner", "width"), [(300, 128, 192), (5, 96, 200)])
def test_gate_and_up_are_one_product(count, inner, width):
    from rxtmodel.kernels.wide import gate_up

    generator = torch.Generator("cuda").manual_seed(6)
    x, weight, bias = (
        torch.randn(*size, device="cuda", generator=generator).half() / 4
        for size in ((count, inner), (2 * width, inner), (2 * width,))
    )
    gate, up = (x.float() @ weight.float().T + bias.float()).chunk(2, dim=-1)
    expected = torch.nn.functional.silu(gate) * up
    torch.testing.assert_close(gate_up(x, weight, bias).float(), expected, rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize("heads", [4, 3])
@pytest.mark.parametrize("lies", ["as projected", "head by head", "every other value"])
def test_queries_and_keys_are_turned_by_positions(lies, heads):
    x = heads_of(2, heads, 1, 37, 1, 24)[0]
    if lies == "every other value":
        x = torch.stack((x, -x), dim=-1).flatten(-2)[..., ::2]
    x = x.contiguous() if lies == "head by head" else x
    table = rope_table(50, 24).cuda()[:, :37]
    turned = load_rotate("triton")
    with torch.inference_mode():
        found = turned(x, table)
        apart = turned(x, table[:, None, None].repeat(1, 2, 1, 1, 1))  # a table for each row
    expected = rotate(x.float(), table)
    for one in (found, apart):
        torch.testing.assert_close(one.float(), expected, rtol=2e-3, atol=2e-3)
    trained = x.clone().requires_grad_()
    turned(trained, table).sum().backward()
    assert trained.grad.any()


@pytest.mark.parametrize("count", [4096, 4100, 100], ids=["many", "ragged", "few"])
def test_models_of_this_backend_compute_feed_forwards_so(count):
    torch.manual_seed(7)
    config = LmConfig(
        vocab_size=100, embed_dim=64, num_layers=2, head_dim=16, ff_dim=96, max_seq_len=count,
        attention=AttentionConfig(num_query_heads=4, num_kv_heads=2),
    )  # fmt: skip
    model = SqaLM(config).to("cuda", torch.bfloat16)
    ids = torch.randint(100, (1, count), device="cuda")
    with torch.inference_mode():
        expected = model(ids).float()
        model.use_backend("triton")
        found = model(ids).float()
    assert (found - expected).norm() / expected.norm() < 2e-2
    model(ids).sum().backward()  # training takes PyTorch's way
    assert model.layers[0].ff.gate_up.weight.grad.any()
