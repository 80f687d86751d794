"""Every kind of attention, with every option, on every path and backend, against loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rxtmodel import AttentionConfig, RxtConfig
from rxtmodel.attention import Attention
from rxtmodel.backends import load_kernel
from rxtmodel.cache import KVCache
from rxtmodel.memory.stacked import StackedAttention
from rxtmodel.rope import rope_table

from .published_reference import PublishedReference
from .reference import causal
from .tiny import tiny_config

WIDTH, HEAD, LENGTH = 16, 4, 6
KINDS = {
    "MHA": (4, 4),
    "GQA": (4, 2),
    "MQA": (4, 1),
    "SQA": (2, 1),
    "sSQA": (2, 2),
    "xSQA": (1, 1),
    "reversed": (1, 4),
    "reversed, two": (2, 4),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gate, bias": {"output_gate": "sigmoid", "output_bias": True},
    "QK-norm, other gate": {"qk_norm": True, "output_gate": "silu"},
}
SETTINGS = {"embed_dim": WIDTH, "att_heads": WIDTH // HEAD, "rope_base": 10_000.0}

pytestmark = pytest.mark.usefixtures("double")
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
every_backend = pytest.mark.parametrize("backend", ["eager", "sdpa"])


def config_of(kind: tuple[int, int], options: dict[str, Any]) -> AttentionConfig:
    return AttentionConfig(num_query_heads=kind[0], num_kv_heads=kind[1], **options)


def randomise(module: torch.nn.Module) -> None:
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.5)


def build(kind, options, backend) -> Attention:
    attention = Attention.of(config_of(kind, options), WIDTH, HEAD).double().requires_grad_(False)
    randomise(attention)
    attention.kernel = load_kernel(backend)
    return attention


def loops(attention: Attention, options, x, kv=None, *, allowed, **turn) -> np.ndarray:
    weights = {f"a.{n}": w.numpy() for n, w in attention.state_dict().items()}
    reference = PublishedReference(
        {"decoder_config": {}, "encoder_config": {}, "memory_attention_config": {},
         "memory_attention_variant": ""}, weights,
    )  # fmt: skip
    kv = x if kv is None else kv
    return reference.attention(
        "a", SETTINGS, x.numpy(), kv.numpy(), allowed=allowed, gate=options.get("output_gate"),
        **turn,
    )  # fmt: skip


def tokens(rows: int = 2, length: int = LENGTH) -> torch.Tensor:
    return torch.randn(rows, length, WIDTH, dtype=torch.float64)


def table(length: int = LENGTH) -> torch.Tensor:
    return rope_table(length, HEAD)


@every_backend
@every_option
@every_kind
@pytest.mark.parametrize("mask", ["all", "causal", "keys"])
def test_whole_sequences(kind, options, backend, mask):
    attention, x = build(kind, options, backend), tokens()
    lengths = [LENGTH, LENGTH - 2]
    exists = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    given = {"all": {}, "causal": {"causal": True}, "keys": {"mask": exists[:, None, None]}}[mask]
    found = attention(x, rope=table(), **given)
    for row in range(2):
        allowed = {
            "all": np.ones((LENGTH, LENGTH), bool),
            "causal": causal(LENGTH),
            "keys": np.broadcast_to(exists[row].numpy(), (LENGTH, LENGTH)),
        }[mask]
        expected = loops(attention, options, x[row], allowed=allowed, turn_q=True, turn_k=True)
        np.testing.assert_allclose(found[row], expected, atol=1e-11)


@every_backend
@every_option
@every_kind
def test_a_read_of_slots(kind, options, backend):
    attention, x, slots = build(kind, options, backend), tokens(), tokens(length=3)
    found = attention.attend(x, attention.project_kv(slots), rope=table())
    for row in range(2):
        every = np.ones((LENGTH, 3), bool)
        expected = loops(attention, options, x[row], slots[row], allowed=every, turn_q=True)
        np.testing.assert_allclose(found[row], expected, atol=1e-11)


def without_keys() -> torch.Tensor:
    """Which keys exist in two rows: all in one, none in the other."""
    return torch.tensor([True, False])[:, None].expand(2, LENGTH)


def what_nothing_gives(attention: torch.nn.Module) -> torch.Tensor:
    """Zeros before the last product: its bias after it."""
    bias = attention.out_proj.bias
    return torch.zeros((), dtype=torch.float64) if bias is None else bias


@every_backend
@every_option
@every_kind
def test_a_row_without_keys_gets_nothing(kind, options, backend):
    attention, x = build(kind, options, backend), tokens()
    found = attention(x, rope=table(), mask=without_keys()[:, None, None])
    torch.testing.assert_close(found[0], attention(x[:1], rope=table())[0])
    assert torch.equal(found[1], what_nothing_gives(attention).expand_as(found[1]))


@every_backend
@every_option
@every_kind
def test_slots_without_keys_get_nothing(kind, options, backend):
    attention = StackedAttention(3, WIDTH, config_of(kind, options), HEAD).double()
    attention.requires_grad_(False)
    randomise(attention)
    attention.kernel = load_kernel(backend)
    slots = torch.randn(3, 2, 4, WIDTH, dtype=torch.float64)
    seen = torch.randn(3, 2, LENGTH, WIDTH, dtype=torch.float64)
    found = attention(slots, seen, rope_k=table(), mask_BT=without_keys())
    nothing = what_nothing_gives(attention)
    nothing = nothing[:, None] if nothing.dim() else nothing
    assert torch.equal(found[:, 1], nothing.expand_as(found[:, 1]))
    assert found[:, 0].isfinite().all()


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_a_row_without_keys_has_no_part_in_gradients(backend):
    q, k, v = (torch.randn(2, 2, LENGTH, HEAD, requires_grad=True) for _ in range(3))
    load_kernel(backend)(q, k, v, mask=without_keys()[:, None, None]).square().sum().backward()
    for part in (q, k, v):
        assert part.grad[0].abs().sum() > 0
        assert not part.grad[1].any()


def cache_for(kind, rows: int) -> KVCache:
    heads = AttentionConfig(num_query_heads=kind[0], num_kv_heads=kind[1])
    config: RxtConfig = tiny_config(
        num_layers=1, embed_dim=WIDTH, attention=heads, memory={"num_heads": 4}
    )
    cache = KVCache(config, rows, LENGTH, dtype=torch.float64)
    cache.lengths = [0] * rows
    return cache


def advance(attention: Attention, cache: KVCache, first: int, x: torch.Tensor) -> torch.Tensor:
    cache.begin(first, x.shape[0], x.shape[1])
    rope = table()[:, cache.positions]
    rope = rope[:, :, None] if rope.dim() == 4 else rope
    out = attention(x, rope=rope, mask=cache.mask, causal=cache.causal, cache=cache.layers[0])
    cache.advance(x.shape[1])
    return out


@every_backend
@every_option
@every_kind
def test_a_cache_in_pieces_and_token_by_token(kind, options, backend):
    attention, x, cache = build(kind, options, backend), tokens(), cache_for(kind, 2)
    pieces = [advance(attention, cache, 0, part) for part in x.split((2, 2, 1, 1), dim=1)]
    found = torch.cat(pieces, dim=1)
    for row in range(2):
        expected = loops(
            attention, options, x[row], allowed=causal(LENGTH), turn_q=True, turn_k=True
        )
        np.testing.assert_allclose(found[row], expected, atol=1e-11)


@every_backend
@every_option
@every_kind
def test_a_cache_of_rows_of_different_length(kind, options, backend):
    attention, x, cache = build(kind, options, backend), tokens(), cache_for(kind, 2)
    advance(attention, cache, 0, x[:1, :3])
    advance(attention, cache, 1, x[1:, :1])
    steps = [advance(attention, cache, 0, torch.stack((x[0, 3 + i], x[1, 1 + i]))[:, None])
             for i in range(3)]  # fmt: skip
    for row, start in ((0, 3), (1, 1)):
        end = start + 3
        expected = loops(
            attention, options, x[row, :end], allowed=causal(end), turn_q=True, turn_k=True
        )
        for i, step in enumerate(steps):
            np.testing.assert_allclose(step[row, 0], expected[start + i], atol=1e-11)


@every_backend
@every_option
@every_kind
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "padded"])
def test_slots_of_all_layers_at_once(kind, options, backend, masked):
    attention = StackedAttention(3, WIDTH, config_of(kind, options), HEAD).double()
    attention.requires_grad_(False)
    randomise(attention)
    attention.kernel = load_kernel(backend)
    slots = torch.randn(3, 2, 4, WIDTH, dtype=torch.float64)
    seen = torch.randn(3, 2, LENGTH, WIDTH, dtype=torch.float64)
    lengths = [LENGTH, 2] if masked else [LENGTH, LENGTH]
    mask = torch.arange(LENGTH) < torch.tensor(lengths)[:, None] if masked else None
    found = attention(slots, seen, rope_k=table(), mask_BT=mask)
    for layer, row in np.ndindex(3, 2):
        one = Attention.of(config_of(kind, options), WIDTH, HEAD).double().requires_grad_(False)
        state = {
            n: w[layer].T if n.endswith("proj.weight") else w[layer]
            for n, w in attention.state_dict().items()
        }
        one.load_state_dict(state)
        kept = seen[layer, row, : lengths[row]]
        every = np.ones((4, len(kept)), bool)
        expected = loops(one, options, slots[layer, row], kept, allowed=every, turn_k=True)
        np.testing.assert_allclose(found[layer, row], expected, atol=1e-11)
