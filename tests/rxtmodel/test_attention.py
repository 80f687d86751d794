"""One attention for all head counts, against loops over heads, queries and keys."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from rxtmodel import AttentionConfig
from rxtmodel.attention import Attention
from rxtmodel.rope import rope_table

from . import reference
from .reference import Reference, causal
from .tiny import tiny_config

WIDTH, HEAD = 32, 4
KINDS = {
    "MHA": (8, 8),
    "GQA": (8, 2),
    "MQA": (8, 1),
    "SQA": (4, 2),
    "sSQA": (4, 4),
    "xSQA": (2, 2),
    "xSMQA": (2, 1),
}


@dataclasses.dataclass
class Case:
    """An attention and the same one in loops."""

    attention: Attention
    reference: Reference

    def expected(self, x: torch.Tensor, allowed: np.ndarray) -> np.ndarray:
        return np.stack([self.reference.self_attention("a", row.numpy(), allowed) for row in x])


@pytest.fixture(params=KINDS.items(), ids=KINDS.keys())
def case(request, double) -> Case:
    q, kv = request.param[1]
    attention = Attention(WIDTH, q, kv, HEAD).double().requires_grad_(False)
    loops = Reference(attention_holder(attention, q, kv))
    return Case(attention, loops)


def attention_holder(attention: Attention, q: int, kv: int) -> torch.nn.Module:
    holder = torch.nn.Module()
    holder.a = attention
    holder.config = tiny_config(attention=AttentionConfig(num_query_heads=q, num_kv_heads=kv))
    return holder


def tokens(batch: int = 2, length: int = 5) -> torch.Tensor:
    return torch.randn(batch, length, WIDTH, dtype=torch.float64)


def table(length: int = 5) -> torch.Tensor:
    return rope_table(length, HEAD)


def test_every_token_attends_to_every_token(case):
    x = tokens()
    found = case.attention(x, rope=table())
    np.testing.assert_allclose(found, case.expected(x, np.ones((5, 5), bool)), atol=1e-12)


def test_causal_tokens_see_no_later_ones(case):
    x = tokens()
    found = case.attention(x, rope=table(), causal=True)
    np.testing.assert_allclose(found, case.expected(x, causal(5)), atol=1e-12)


def test_a_mask_says_which_keys_exist(case):
    x = tokens()
    mask = torch.tensor([[True, True, False, True, False], [True] * 5])
    found = case.attention(x, rope=table(), mask=mask[:, None, None])
    for row in range(2):
        allowed = np.broadcast_to(mask[row].numpy(), (5, 5))
        np.testing.assert_allclose(found[row], case.expected(x, allowed)[row], atol=1e-12)


def test_what_is_masked_has_no_influence(case):
    x = tokens()
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[..., 3:] = False
    changed = x.clone()
    changed[:, 3:] = 1e3
    before, after = (case.attention(y, rope=table(), mask=mask)[:, :3] for y in (x, changed))
    assert torch.equal(before, after)


def test_no_later_token_changes_an_earlier_one(case):
    x = tokens()
    changed = x.clone()
    changed[:, 3] += 5
    before, after = (case.attention(y, rope=table(), causal=True) for y in (x, changed))
    torch.testing.assert_close(before[:, :3], after[:, :3], atol=1e-13, rtol=0)
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_cross_attention_turns_only_what_it_is_told_to(case):
    """Queries carry positions when memory is read; keys do when it is written."""
    x, slots = tokens(), tokens(length=3)
    attention, w = case.attention, case.reference.w
    counts = case.reference.config.attention
    found = attention.attend(x, attention.project_kv(slots), rope=table())
    shared = counts.num_query_heads // counts.num_kv_heads
    for row in range(2):
        q = reference.heads(x[row].numpy() @ w["a.q_proj.weight"].T, counts.num_query_heads)
        k, v = (
            reference.heads(slots[row].numpy() @ w[f"a.{name}_proj.weight"].T, counts.num_kv_heads)
            for name in "kv"
        )
        every = np.ones((5, 3), bool)
        parts = [
            reference.attend(reference.rotate(q_n, 1e4), k[n // shared], v[n // shared], every)
            for n, q_n in enumerate(q)
        ]
        expected = np.concatenate(parts, axis=1) @ w["a.out_proj.weight"].T
        np.testing.assert_allclose(found[row], expected, atol=1e-12)


def test_fewer_query_heads_make_fewer_weights():
    def size(q: int, kv: int) -> int:
        return sum(p.numel() for p in Attention(WIDTH, q, kv, HEAD).parameters())

    full = size(8, 8)
    assert size(4, 4) == full // 2
    assert size(2, 2) == full // 4
    assert size(8, 1) < size(8, 2) < full
