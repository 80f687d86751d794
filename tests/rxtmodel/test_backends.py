"""Choosing how attention is computed, and why a choice is refused."""

from __future__ import annotations

import copy
import types

import pytest
import torch

from rxtmodel import BackendUnavailable, ConfigError, ReactiveTransformer
from rxtmodel.backends import load_kernel
from rxtmodel.backends.eager import eager

from .tiny import random_ids, random_memory, tiny_config, tiny_model

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_the_default_is_that_of_pytorch():
    assert tiny_model().backend == "sdpa"


@pytest.mark.parametrize("variant", ["interlayer", "delta"])
def test_a_backend_is_chosen_when_a_model_is_made_or_loaded(tmp_path, variant):
    model = tiny_model(variant)
    model.save_pretrained(tmp_path)
    loaded = ReactiveTransformer.from_pretrained(tmp_path, backend="eager")
    assert loaded.backend == "eager"
    assert loaded.decoder[0].attention.kernel is eager
    ids, memory = random_ids(2, 5), random_memory(model, 2)
    torch.testing.assert_close(loaded(ids, memory), model(ids, memory), atol=1e-5, rtol=1e-4)


def test_a_backend_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ConfigError, match="one of eager, sdpa, flash, .*got 'fast'"):
        ReactiveTransformer(tiny_config(), backend="fast")


def test_flash_needs_a_cuda_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailable, match="needs a CUDA device.*use backend 'sdpa'"):
        ReactiveTransformer(tiny_config(), backend="flash")


def dense(q, k, v, causal: bool) -> torch.Tensor:
    """What the package computes, [rows, tokens, heads, width]; causal from the last key on."""
    length, keys = q.shape[1], k.shape[1]
    mask = torch.ones(length, keys, dtype=torch.bool).tril(keys - length) if causal else None
    parts = (x.transpose(1, 2) for x in (q, k, v))
    return eager(*parts, mask=mask).transpose(1, 2)


def package_by_its_documentation() -> types.ModuleType:
    """The two functions of flash-attn that are used, in plain PyTorch."""

    def flash_attn_func(q, k, v, dropout_p, causal):
        return dense(q, k, v, causal)

    def flash_attn_varlen_func(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p
    ):
        out = []
        for i in range(len(cu_seqlens_q) - 1):
            a, b = cu_seqlens_q[i : i + 2]
            c, d = cu_seqlens_k[i : i + 2]
            assert b - a <= max_seqlen_q
            assert d - c <= max_seqlen_k
            out.append(dense(q[None, a:b], k[None, c:d], v[None, c:d], False)[0])
        return torch.cat(out)

    package = types.ModuleType("flash_attn")
    package.flash_attn_func = flash_attn_func
    package.flash_attn_varlen_func = flash_attn_varlen_func
    return package


def varlen_by_its_documentation(*, asks: bool):
    """PyTorch's function of rows laid end to end; from 2.12 on it asks whether heads share keys."""

    def before(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k):
        return package_by_its_documentation().flash_attn_varlen_func(
            q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, 0.0
        )

    def after(*arguments, enable_gqa=False):
        assert enable_gqa or arguments[0].shape[1] == arguments[1].shape[1]
        return before(*arguments)

    return after if asks else before


@pytest.fixture(params=["package", "PyTorch", "PyTorch 2.11"])
def flash(request, monkeypatch):
    """The backend on this machine: what it calls stands in as its documentation describes it."""
    from torch.nn.attention import varlen

    from rxtmodel.backends import flash as module

    def package(name: str) -> types.ModuleType:
        if request.param != "package":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return package_by_its_documentation()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(module, "importlib", types.SimpleNamespace(import_module=package))
    asks = request.param == "PyTorch"
    monkeypatch.setattr(varlen, "varlen_attn", varlen_by_its_documentation(asks=asks))
    return load_kernel("flash")


@pytest.mark.usefixtures("flash")
def test_models_that_compute_by_flash_can_be_copied():
    model = ReactiveTransformer(tiny_config(), backend="flash")
    assert copy.deepcopy(model).decoder[0].attention.kernel is model.decoder[0].attention.kernel


@pytest.mark.parametrize(
    ("error", "capability", "said"),
    [
        (ImportError("undefined symbol: _ZN3c10", name="flash_attn_2_cuda"), (9, 0),
         "flash-attn is installed but cannot be loaded .undefined symbol.*use backend 'sdpa'"),
        (ModuleNotFoundError("No module named 'einops'", name="einops"), (9, 0), "einops"),
        (None, (7, 5), r"compute capability 8.0 or more, this one has 7\.5"),
    ],
    ids=["broken", "incomplete", "old device"],
)  # fmt: skip
def test_flash_says_why_it_cannot_be_had(monkeypatch, error, capability, said):
    from rxtmodel.backends import flash as module

    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(module, "importlib", types.SimpleNamespace(import_module=fail))
    with pytest.raises(BackendUnavailable, match=said):
        load_kernel("flash")


def test_flash_refuses_what_it_cannot_compute(flash):
    q = torch.randn(1, 2, 3, 4)
    with pytest.raises(BackendUnavailable, match=r"float16 and bfloat16 on CUDA, not .*float32"):
        flash(q, q, q)


@pytest.mark.parametrize("case", ["all", "causal", "continued", "keys", "gaps", "no keys"])
def test_flash_lays_rows_end_to_end_without_padding(flash, monkeypatch, case):
    from rxtmodel.backends import flash as module

    monkeypatch.setattr(module, "_check", lambda q: None)
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    masks = {
        "continued": torch.ones(5, 7, dtype=torch.bool).tril(2),
        "keys": (torch.arange(7) < torch.tensor([[7], [3]]))[:, None, None],
        "no keys": (torch.arange(7) < torch.tensor([[7], [0]]))[:, None, None],
        "gaps": (torch.arange(7) % torch.tensor([[2], [3]]) == 0)[:, None, None],
    }
    if case == "causal":
        k, v = k[:, :, :5], v[:, :, :5]
    settings = {"mask": masks.get(case), "causal": case == "causal"}
    torch.testing.assert_close(flash(q, k, v, **settings), eager(q, k, v, **settings))


@pytest.mark.parametrize("why", ["narrow", "wide", "dropout"])
def test_what_pytorch_cannot_lay_end_to_end_is_padded(monkeypatch, why):
    from rxtmodel.backends import flash as module

    monkeypatch.setattr(module, "_check", lambda q: None)
    monkeypatch.setattr(module, "_packed", lambda *_: pytest.fail("laid end to end"))
    q = torch.randn(2, 4, 5, {"narrow": 6, "wide": 264, "dropout": 8}[why])
    mask = (torch.arange(5) < torch.tensor([[5], [3]]))[:, None, None]
    found = module._of_pytorch(q, q, q, mask=mask, dropout=0.5 if why == "dropout" else 0.0)
    assert found.shape == q.shape
    if why != "dropout":
        torch.testing.assert_close(found, eager(q, q, q, mask=mask))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("variant", ["interlayer", "delta"])
def test_flash_agrees_with_sdpa_on_a_gpu(variant, monkeypatch):
    from rxtmodel.backends import flash as module

    packed, calls = module._packed, []
    monkeypatch.setattr(module, "_packed", lambda *a: calls.append(1) or packed(*a))
    model = tiny_model(variant, embed_dim=16, head_dim=8).cuda().bfloat16().requires_grad_(False)
    ids, memory = random_ids(3, 9).cuda(), random_memory(model, 3).cuda().float()
    mask = torch.arange(9, device="cuda") < torch.tensor([[9], [4], [6]], device="cuda")
    found = []
    for backend in ("sdpa", "flash"):
        model.use_backend(backend)
        found.append(model(ids, model.attend(memory, model.encode(ids, mask), mask)))
    torch.testing.assert_close(found[0], found[1], atol=0.05, rtol=0.05)
    assert len(calls) >= len(model.encoder)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("trained", [False, True], ids=["forward", "trained"])
def test_flash_lays_rows_end_to_end_on_a_gpu(groups, trained):
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(3, heads, length, 16, device="cuda", dtype=torch.bfloat16)
        for heads, length in ((4, 33), (groups, 70), (groups, 70))
    )
    mask = torch.arange(70, device="cuda") < torch.tensor([[70], [1], [40]], device="cuda")
    parts = [x.requires_grad_(trained) for x in (q, k, v)]
    exact = [x.detach().double().requires_grad_(trained) for x in parts]
    found = load_kernel("flash")(*parts, mask=mask[:, None, None])
    expected = eager(*exact, mask=mask[:, None, None])
    torch.testing.assert_close(found.double(), expected, atol=0.02, rtol=0.02)
    if trained:
        for x in (found, expected):
            (x * torch.linspace(-1, 1, 16, device="cuda")).sum().backward()
        for one, other in zip(parts, exact, strict=True):
            torch.testing.assert_close(one.grad.double(), other.grad, atol=0.05, rtol=0.05)
