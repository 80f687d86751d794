"""Memories stored by compiled code are what their projection is."""

from __future__ import annotations

import pytest
import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.engine import DecodeBatch, MemoryVersion
from rxtmodel.layout import quantise

from .test_native import FORMS, MAX_LEN, wide_model
from .tiny import random_memory

DELTA = [name for name, form in FORMS.items() if form.get("variant", "delta") == "delta"]


def slabs(batch: DecodeBatch, row: int) -> list[torch.Tensor]:
    return [slab[row] for layer in batch._memory or () for slab in layer]


@pytest.mark.parametrize("shortened", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_row_reads_what_the_projection_of_its_memory_holds(form: str, shortened: bool) -> None:
    model = wide_model(**FORMS[form])
    if shortened:
        quantise(model)
    versions = [MemoryVersion(random_memory(model, 1, seed=n)[:, 0]) for n in range(3)]
    batch, plain = (DecodeBatch(model, 3, MAX_LEN, native=native) for native in (True, False))
    for seed, version in enumerate(versions):  # the first one makes the slabs
        for each in (batch, plain):
            each.add([12, 20], version, Sampler(SamplerConfig(), seed))
    for row in range(3):
        for found, expected in zip(slabs(batch, row), slabs(plain, row), strict=True):
            assert torch.equal(found, expected)
    (layers, _, dim), slots = versions[0].tensor.shape, model.config.memory.num_slots
    expected_shape = (layers, slots, dim) if form in DELTA else None
    assert batch._native is not None
    assert batch._native.delta_shape == expected_shape


def test_a_projection_and_a_version_are_read_alike() -> None:
    model = wide_model()
    version = MemoryVersion(random_memory(model, 1)[:, 0])
    batch = DecodeBatch(model, 2, MAX_LEN)
    rows = [
        batch.add([12, 20], memory, Sampler(SamplerConfig(), 1))
        for memory in (version.state(model), version)
    ]
    for _ in range(9):
        first, second = batch.step(rows)
        assert first == second
    assert torch.equal(batch._native.logits_BV[0], batch._native.logits_BV[1])


def test_a_memory_of_another_shape_is_refused_and_takes_no_row() -> None:
    model = wide_model()
    batch = DecodeBatch(model, 2, MAX_LEN)
    tensor = random_memory(model, 1)[:, 0]
    batch.add([12, 20], MemoryVersion(tensor), Sampler(SamplerConfig(), 1))
    with pytest.raises(ValueError, match="shape"):
        batch.add([12, 20], MemoryVersion(tensor[:, 1:]), Sampler(SamplerConfig(), 1))
    assert len(batch.rows) == 1
    assert len(batch.cache.lengths) == 1
