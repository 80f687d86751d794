"""Memory updates by compiled code: the same mathematics, and the same bits for the same input."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rxtmodel import AttentionConfig, StackConfig
from rxtmodel.engine import HostEngine, MemoryVersion
from rxtmodel.native import NativeDeltaWrite, NativeEncoder, NativeUnavailable

from .test_native import MAX_LEN, wide_model
from .tiny import random_ids, random_memory

ENCODERS: dict[str, dict[str, Any]] = {
    "the decoder's": {},
    "no positions": {"nope": True},
    "an embedding of its own": {"share_embedding": False},
    "a stack of its own": {
        "encoder": StackConfig(
            head_dim=48,
            attention=AttentionConfig(num_query_heads=4, num_kv_heads=2),
            ff_dim=64,
            rope_base=500.0,
            norm_eps=1e-4,
        )
    },
}
LENGTHS = (1, 2, 15, 16, 17, 33, MAX_LEN)


@pytest.mark.parametrize("form", ENCODERS)
def test_an_encoded_interaction_is_as_exact_as_that_of_pytorch(form: str) -> None:
    model, exact = wide_model(**ENCODERS[form]), wide_model(**ENCODERS[form]).double()
    encoder = NativeEncoder(model)
    for length in LENGTHS:
        ids = random_ids(1, length, seed=length)
        true = exact.encode(ids)
        error = (encoder.encode(ids[0].tolist()) - true).abs().max()
        theirs = (model.encode(ids) - true).abs().max()
        assert error < max(1e-6 * true.abs().max(), 4 * theirs) < 1e-4 * true.abs().max()


@pytest.mark.parametrize("heads", [1, 2, 20])
def test_a_memory_after_it_is_that_of_pytorch(heads: int) -> None:
    settings = {"embed_dim": 16 * max(2, heads), "memory": {"num_heads": heads, "num_slots": 48}}
    model = wide_model(**settings)
    write, memory = NativeDeltaWrite(model), random_memory(model, 1)
    for length in LENGTHS:
        encoded = torch.randn(4, 1, length, model.config.embed_dim)
        before = memory.clone()
        found = write.fold(memory[:, 0], encoded[:, 0])
        assert torch.equal(memory, before)
        expected = model.attend(memory, encoded)[:, 0]
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_many_updates_of_one_address_do_not_overshoot() -> None:
    # As many tokens as agree on one address: without the normalisation each would write in full.
    model = wide_model()
    write, memory = NativeDeltaWrite(model), random_memory(model, 1)
    token = torch.randn(4, 1, 1, model.config.embed_dim)
    once, often = (
        write.fold(memory[:, 0], token.expand(-1, -1, n, -1)[:, 0].contiguous()) for n in (1, 60)
    )
    bound = max(memory.abs().max(), once.abs().max())
    assert often.abs().max() < 3 * bound
    expected = model.attend(memory, token.expand(-1, -1, 60, -1))[:, 0]
    torch.testing.assert_close(often, expected, atol=1e-4, rtol=1e-4)


def test_an_update_has_the_same_bits_whatever_is_updated_beside_it() -> None:
    model = wide_model()
    engine = HostEngine(model, 1, MAX_LEN)
    memories = [MemoryVersion(part) for part in random_memory(model, 5).unbind(1)]
    interactions = [random_ids(1, 3 + 11 * n, seed=n)[0].tolist() for n in range(5)]
    together = engine.attend(memories, engine.encode(interactions))
    for memory, ids, expected in zip(memories, interactions, together, strict=True):
        (alone,) = engine.attend([memory], engine.encode([ids]))
        assert torch.equal(alone.tensor, expected.tensor)
    by_pytorch = HostEngine(model, 1, MAX_LEN, native=False)
    others = by_pytorch.attend(memories, by_pytorch.encode(interactions))
    for found, expected in zip(together, others, strict=True):
        assert not torch.equal(found.tensor, expected.tensor)  # it was not PyTorch's twice
        torch.testing.assert_close(found.tensor, expected.tensor, atol=1e-4, rtol=1e-3)


def test_a_memory_that_is_not_written_by_the_delta_rule_is_updated_by_pytorch() -> None:
    model = wide_model("interlayer")
    with pytest.raises(NativeUnavailable, match="delta rule"):
        NativeDeltaWrite(model)
    engine, other = HostEngine(model, 1, MAX_LEN), HostEngine(model, 1, MAX_LEN, native=False)
    memory, ids = MemoryVersion(random_memory(model, 1)[:, 0]), random_ids(1, 20)[0].tolist()
    (found,) = engine.attend([memory], engine.encode([ids]))
    (expected,) = other.attend([memory], other.encode([ids]))
    torch.testing.assert_close(found.tensor, expected.tensor, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("form", "reason"),
    [({"norm": "layer"}, "RMSNorm"), ({"embed_dim": 40, "memory": {"num_heads": 2}}, "40 wide")],
)
def test_other_encoders_are_refused_and_it_is_said_why(form: dict[str, Any], reason: str) -> None:
    with pytest.raises(NativeUnavailable, match=reason):
        NativeEncoder(wide_model(**form))


def test_ids_of_no_token_and_interactions_that_are_too_long_are_refused() -> None:
    encoder = NativeEncoder(wide_model())
    for ids in ([], [12] * (MAX_LEN + 1), [12, 24], [-1]):
        with pytest.raises(IndexError):
            encoder.encode(ids)
