"""Models without a memory, and heads for training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rxtmodel import (
    AttentionConfig,
    CheckpointError,
    ConfigError,
    Critic,
    MlmHead,
    ReactiveTransformer,
    SqaLM,
)
from rxtmodel.cache import KVCache
from rxtmodel.config import LmConfig
from rxtmodel.heads import ValueHead

from .reference import Reference as Loops
from .reference import causal, rms_norm, sigmoid, silu
from .tiny import tiny_config

KINDS = {"SQA": (2, 1), "xSQA": (1, 1), "MHA": (4, 4)}


def config(kind=(2, 1), **fields) -> LmConfig:
    heads = AttentionConfig(num_query_heads=kind[0], num_kv_heads=kind[1])
    defaults = {"vocab_size": 24, "embed_dim": 16, "head_dim": 4, "num_layers": 3, "ff_dim": 10,
                "max_seq_len": 32}  # fmt: skip
    return LmConfig(attention=heads, **{**defaults, **fields})


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_language_model_follows_the_formulas(double, kind, tied):
    model = SqaLM(config(kind, tie_head=tied)).double().requires_grad_(False)
    loops, ids = Loops(model), torch.randint(0, 24, (6,))
    x = loops.w["embedding.weight"][ids.numpy()]
    for i in range(3):
        normed = loops.norm(f"layers.{i}.attention_norm", x)
        x = x + loops.self_attention(f"layers.{i}.attention", normed, causal(6))
        x = x + loops.feed_forward(f"layers.{i}.ff", loops.norm(f"layers.{i}.ff_norm", x))
    x = loops.norm("final_norm", x)
    w = loops.w
    head = w["embedding.weight"] if tied else w["head.weight"]
    expected = x @ head.T + (0 if tied else w["head.bias"])
    np.testing.assert_allclose(model(ids[None])[0], expected, atol=1e-10)


def test_decoding_equals_the_whole_sequence():
    model = SqaLM(config()).requires_grad_(False)
    ids = torch.randint(0, 24, (2, 7))
    cache = KVCache(model.config, 2, 7)
    cache.lengths = [0, 0]
    cache.begin(0, 2, 4)
    model.prefill(ids[:, :4], cache)
    cache.advance(4)
    for at in range(4, 7):
        cache.begin(0, 2, 1)
        logits = model.decode_step(ids[:, at : at + 1], cache)
        cache.advance(1)
        torch.testing.assert_close(logits, model(ids)[:, at], atol=1e-5, rtol=1e-4)


def test_a_language_model_comes_back_to_the_last_bit(tmp_path):
    model = SqaLM(config(tie_head=False, head_bias=False, ff_bias=True))
    model.save_pretrained(tmp_path)
    loaded = SqaLM.from_pretrained(tmp_path)
    assert loaded.config == model.config
    state = model.state_dict()
    assert all(torch.equal(w, state[n]) for n, w in loaded.state_dict().items())
    with pytest.raises(CheckpointError, match="holds a SqaLM, not a ReactiveTransformer"):
        ReactiveTransformer.from_pretrained(tmp_path)


def test_fewer_query_heads_cost_fewer_products():
    def size(kind) -> int:
        return sum(p.numel() for p in SqaLM(config(kind)).layers[0].attention.parameters())

    assert size((1, 1)) * 4 == size((2, 2)) * 2 == size((4, 4))


def test_masked_tokens_are_predicted_by_the_published_head():
    head = MlmHead(6, 9).double().requires_grad_(False)
    x = torch.randn(4, 6, dtype=torch.float64)
    w = {n: p.numpy() for n, p in head.state_dict().items()}
    inner = x.numpy() @ w["dense.weight"].T + w["dense.bias"]
    inner = inner * 0.5 * (1 + torch.erf(torch.tensor(inner) / 2**0.5).numpy())
    centred = inner - inner.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    normed = normed * w["layer_norm.weight"] + w["layer_norm.bias"]
    np.testing.assert_allclose(head(x), normed @ w["decoder.weight"].T + w["decoder.bias"])


@pytest.mark.parametrize("squash", ["sigmoid", "tanh", "identity"])
def test_a_value_is_one_number_of_the_tokens_that_exist(squash):
    head = ValueHead(6, squash).double().requires_grad_(False)
    head.shift.fill_(0.5)
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    w = {n: p.numpy() for n, p in head.state_dict().items()}
    for row, length in enumerate((5, 2)):
        pooled = x[row, :length].numpy().mean(0)
        linear, gate = np.split(pooled @ w["glu.weight"].T + w["glu.bias"], 2)
        inner = linear * silu(gate)
        inner = rms_norm((inner - inner.mean())[None], 1.0, 1e-5)[0]
        inner = inner * w["norm.weight"] + w["norm.bias"]
        value = float((inner @ w["out.weight"].T + w["out.bias"])[0])
        squashed = {"sigmoid": sigmoid, "tanh": np.tanh, "identity": float}[squash](value)
        assert float(head(x, mask)[row]) == pytest.approx(10 * squashed + 0.5)
        assert float(head(x[row : row + 1, :length])) == pytest.approx(10 * squashed + 0.5)


def test_a_critic_judges_by_what_an_encoder_makes_of_the_tokens():
    critic = Critic(tiny_config()).eval()
    ids = torch.randint(11, 24, (2, 6))
    mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    values = critic(ids, mask)
    assert values.shape == (2,)
    torch.testing.assert_close(values[1:], critic(ids[1:, :3]))
    values.sum().backward()
    assert all(p.grad is not None for p in critic.parameters())


@pytest.mark.parametrize("squash", ["foo", None])
def test_a_critic_is_asked_for_a_squash_that_exists(squash):
    with pytest.raises(ConfigError, match=f"sigmoid, tanh, identity, got {squash!r}"):
        Critic(tiny_config(), squash)
