"""Every published form, written to a published file, against loops over that file's weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from rxtmodel import ReactiveTransformer
from rxtmodel.cache import KVCache
from rxtmodel.formats.published import write_published
from rxtmodel.presets import RxTBeta

from .published_reference import PublishedReference
from .published_samples import BETA, FORMS, tiny

BACKENDS = ("eager", "sdpa")


def exact(config):
    """Routers compute in the model's type, so that double precision shows."""
    if config.experts is None:
        return config
    experts = dataclasses.replace(config.experts, router_dtype="model")
    return dataclasses.replace(config, experts=experts)


@pytest.fixture(params=FORMS.items(), ids=FORMS.keys())
def model(request) -> ReactiveTransformer:
    return tiny(exact(request.param[1])).double()


def loops_of(model: ReactiveTransformer) -> PublishedReference:
    config, weights = write_published(model.config, model.state_dict())
    return PublishedReference(config, {n: w.double().numpy() for n, w in weights.items()})


def turns(count: int = 2, length: int = 5) -> torch.Tensor:
    return torch.randint(11, 24, (count, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_turns_follow_the_published_formulas(double, model, backend):
    model.use_backend(backend)
    loops, memory = loops_of(model), model.initial_memory()
    expected = memory[:, 0].numpy()
    for turn in turns():
        logits = loops.logits(turn.numpy(), expected)
        np.testing.assert_allclose(model(turn[None], memory)[0], logits, atol=1e-8, rtol=1e-8)
        encoded = model.encode(turn[None])
        tokens = loops.encode(turn.numpy())
        np.testing.assert_allclose(encoded[:, 0], tokens, atol=1e-8, rtol=1e-8)
        memory = model.attend(memory, encoded)
        expected = loops.attend(expected, tokens)
        np.testing.assert_allclose(memory[:, 0], expected, atol=1e-8, rtol=1e-8)


def test_a_replaced_memory_is_what_was_attended_to(double):
    model = tiny(FORMS["replaced"]).double()
    kept = tiny(dataclasses.replace(model.config, memory=dataclasses.replace(
        model.config.memory, gate="none"))).double()  # fmt: skip
    memory = torch.randn(4, 1, 3, 16, dtype=torch.float64)
    encoded = torch.randn(4, 1, 5, 16, dtype=torch.float64)
    torch.testing.assert_close(model.attend(memory, encoded), kept.attend(memory, encoded) - memory)


@pytest.mark.parametrize("backend", BACKENDS)
def test_decoding_with_a_cache_equals_the_whole_sequence(model, backend):
    """Prefill in two pieces, then token by token; the layers without memory have caches, too."""
    model = model.float()
    model.use_backend(backend)
    ids, memory = turns(2, 9), torch.randn(4, 2, 3, 16)
    expected = model(ids, memory)
    cache = KVCache(model.config, 2, 9)
    cache.lengths = [0, 0]
    state, at = model.project_memory(memory), 0
    for size in (3, 2, 1, 1, 1, 1):
        cache.begin(0, 2, size)
        logits = model.decode_step(ids[:, at : at + size], state, cache)
        cache.advance(size)
        at += size
        torch.testing.assert_close(logits, expected[:, at - 1], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("backend", "dtype", "bound"),
    [
        ("eager", torch.float64, 1e-6),  # its softmax is in float32
        ("sdpa", torch.float64, 1e-12),
        ("eager", torch.float32, 1e-5),
        ("sdpa", torch.float32, 1e-5),
    ],
)
def test_ragged_conversations_in_one_batch_equal_each_alone(model, backend, dtype, bound):
    model = model.to(dtype)
    model.use_backend(backend)
    ids, memory = turns(3, 8), torch.randn(4, 3, 3, 16, dtype=dtype)
    lengths = [8, 3, 5]
    mask = torch.arange(8) < torch.tensor(lengths)[:, None]
    encoded = model.encode(ids * mask, mask)
    new, logits = model.attend(memory, encoded, mask), model(ids * mask, memory)
    for row, length in enumerate(lengths):
        one = ids[row : row + 1, :length]
        alone = memory[:, row : row + 1]
        expected = model(one, alone)[0]
        assert_near(logits[row, :length], expected, bound)
        expected = model.attend(alone, model.encode(one))[:, 0]
        assert_near(new[:, row], expected, bound)


def assert_near(found, expected, bound):
    """Relative to the largest number: a sum rounds by its terms, also where it is nearly zero."""
    largest = expected.abs().max().item()
    torch.testing.assert_close(found, expected, atol=bound * largest, rtol=0)


def test_both_backends_agree(model):
    model = model.float()
    ids, memory = turns(), torch.randn(4, 2, 3, 16)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    found = []
    for backend in BACKENDS:
        model.use_backend(backend)
        found.append((model(ids, memory), model.attend(memory, model.encode(ids, mask), mask)))
    torch.testing.assert_close(found[0], found[1], atol=2e-5, rtol=1e-4)


def test_every_weight_has_a_part_in_the_answer(double, model):
    model.requires_grad_(True)
    memory = model.initial_memory()
    for turn in turns():
        memory = model.attend(memory, model.encode(turn[None]))
    model(turns(1, 20), memory).square().sum().backward()
    every = {n: p.grad is None or not p.grad.abs().sum() > 0 for n, p in model.named_parameters()}
    chosen = [n for n, idle in every.items() if idle and ".ff.routed." not in n]
    assert chosen == []


def test_the_published_size_has_the_published_numbers_of_parameters():
    with torch.device("meta"):
        model = ReactiveTransformer(RxTBeta())

    def count(*modules: torch.nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    stateless = model.stateless_before, model.stateless_after
    decoder = model.embedding, *stateless, model.decoder, model.head, model.final_norm
    assert count(*decoder) == 2_841_937_920
    assert count(model.embedding, model.encoder) == 96_958_976
    assert count(model.memory_write) == 22_332_416


def test_running_means_of_memory_norms_move_in_training_only():
    for norm in ("adaptive", "positional"):
        model = tiny(FORMS[f"{norm} memory norm"])
        before = model.memory_write.memory_norm.ema.clone()
        memory, encoded = 3 * torch.randn(4, 2, 3, 16), torch.randn(4, 2, 5, 16)
        model.attend(memory, encoded)
        assert torch.equal(model.memory_write.memory_norm.ema, before)
        model.train().attend(memory, encoded)
        assert not torch.equal(model.memory_write.memory_norm.ema, before)


def test_a_running_mean_decays_as_configured():
    config = dataclasses.replace(BETA.memory, norm="adaptive", norm_decay=0.75)
    model = tiny(dataclasses.replace(BETA, memory=config)).train()
    norm = model.memory_write.memory_norm
    norm.ema.fill_(2.0)
    norm(torch.full((4, 2, 3, 16), 3.0))
    torch.testing.assert_close(norm.ema, torch.full((4, 1), 0.75 * 2 + 0.25 * 3))
