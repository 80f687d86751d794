"""However a model is cast or moved, its angles stay those of float32."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from rxtmodel import AttentionConfig, Critic, LmConfig, ReactiveTransformer, SqaLM, StackConfig
from rxtmodel.cache import KVCache
from rxtmodel.rope import Positioned

from .tiny import random_ids, tiny_config

LENGTH = 500
HEADS = AttentionConfig(num_query_heads=2, num_kv_heads=1)


def reactive() -> Positioned:
    """Decoder, encoder and memory attention each with positions of their own."""
    encoder = StackConfig(head_dim=4, attention=HEADS, ff_dim=10, rope_base=50.0)
    config = tiny_config(
        "interlayer", encoder=encoder, memory={"rope_base": 70.0}, max_seq_len=LENGTH
    )
    return ReactiveTransformer(config)


def language_model() -> Positioned:
    return SqaLM(
        LmConfig(vocab_size=24, embed_dim=8, num_layers=1, head_dim=4, attention=HEADS, ff_dim=8,
                 max_seq_len=LENGTH)
    )  # fmt: skip


def rounded() -> Positioned:
    """Angles as the published reference rounds them: the rounding is in the values already."""
    return ReactiveTransformer(tiny_config(max_seq_len=LENGTH, rope_rounding="bfloat16"))


def critic() -> Positioned:
    return Critic(tiny_config(max_seq_len=LENGTH))


def under_a_default(model: Positioned) -> Positioned:
    torch.set_default_dtype(torch.bfloat16)
    try:
        return type(model)(model.config) if hasattr(model, "config") else critic().bfloat16()
    finally:
        torch.set_default_dtype(torch.float32)


WAYS: dict[str, Callable[[Positioned], nn.Module]] = {
    "to": lambda m: m.to(torch.bfloat16),
    "to, of a tensor": lambda m: m.to(torch.zeros(1, dtype=torch.bfloat16)),
    "bfloat16": lambda m: m.bfloat16(),
    "half": lambda m: m.half(),
    "type": lambda m: m.type(torch.bfloat16),
    "inside another": lambda m: next(nn.Sequential(m).bfloat16().children()),
    "a copy": lambda m: copy.deepcopy(m.half()).bfloat16(),
    "there and back": lambda m: m.bfloat16().float(),
    "without storage, then with": lambda m: m.to("meta").to_empty(device="cpu"),
    "apply to every module": lambda m: m.apply(lambda part: part.bfloat16()),
    "the default type": under_a_default,
}


@pytest.mark.parametrize("build", [reactive, language_model, rounded, critic])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_cast_leaves_the_positions_alone(build, way):
    expected = {name: table.clone() for name, table in build().named_buffers() if "rope" in name}
    cast = way(build())
    found = {name: table for name, table in cast.named_buffers() if "rope" in name}
    assert found.keys() == expected.keys() and found
    for name, table in found.items():
        assert table.dtype == torch.float32
        assert torch.equal(table, expected[name]), name


def test_a_cast_casts_everything_else():
    model = reactive().to(torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_a_move_moves_the_positions():
    model = reactive().to("meta")
    assert {table.device.type for table in model.buffers()} == {"meta"}


def test_a_model_loaded_in_a_short_type_has_exact_positions(tmp_path: Path):
    model = reactive()
    model.save_pretrained(tmp_path)
    loaded = ReactiveTransformer.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.embedding.weight.dtype == torch.bfloat16
    assert torch.equal(loaded.rope, model.rope)


def test_a_cast_model_decodes_with_a_cache():
    """Complex numbers, by which a cache turns its keys, exist of no short type."""
    torch.manual_seed(1)
    model = ReactiveTransformer(tiny_config("interlayer")).bfloat16().eval()
    ids, memory = random_ids(1, 12), model.initial_memory()
    cache = KVCache(model.config, 1, 12, dtype=torch.bfloat16)
    cache.lengths = [0]
    with torch.no_grad():
        state = model.project_memory(memory)
        for part in ids.split((9, 1, 1, 1), dim=1):
            cache.begin(0, 1, part.shape[1])
            last = model.decode_step(part, state, cache)
            cache.advance(part.shape[1])
        whole = model(ids, memory)[:, -1]
    torch.testing.assert_close(last, whole, atol=0.02 * float(whole.abs().max()), rtol=0)
