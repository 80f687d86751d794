"""A memory as bytes: an exact round trip, and no way in for anything else."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from rxtmodel import CheckpointError
from rxtmodel.checkpoint import dump_memory, load_memory

from .tiny import tiny_config

CONFIG = tiny_config()
SHAPE = CONFIG.memory_shape


def memory() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(4))


def raw(dtype: str, num_bytes: int) -> bytes:
    """A file whose header claims a dtype."""
    entry = {"dtype": dtype, "shape": list(SHAPE), "data_offsets": [0, num_bytes]}
    header = json.dumps({"stm": entry}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + bytes(num_bytes)


def test_the_file_is_the_one_that_the_library_writes():
    for value in (memory(), memory().half(), memory()[:, :0]):
        assert dump_memory(value) == save({"stm": value.float()})


def test_a_memory_comes_back_to_the_last_bit():
    extreme = memory()
    extreme[0, 0, :4] = torch.tensor([0.0, -0.0, 1e-45, 3e38])
    loaded = load_memory(dump_memory(extreme), CONFIG)
    assert torch.equal(loaded.view(torch.int32), extreme.view(torch.int32))


def test_the_same_memory_gives_the_same_bytes():
    assert dump_memory(memory()) == dump_memory(memory())


def test_a_view_with_a_gradient_can_be_dumped():
    big = torch.randn(SHAPE[0], 2, *SHAPE[1:]).requires_grad_()
    assert torch.equal(load_memory(dump_memory(big[:, 1]), CONFIG), big[:, 1])


def test_a_loaded_memory_can_be_written_to_without_reaching_the_bytes():
    data = dump_memory(memory())
    load_memory(data, CONFIG).zero_()
    assert torch.equal(load_memory(data, CONFIG), memory())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype):
    loaded = load_memory(save({"stm": memory().to(dtype)}), CONFIG)
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, memory().to(dtype).float())


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_refused(value):
    bad = memory()
    bad[1, 2, 3] = value
    with pytest.raises(CheckpointError, match="not finite"):
        load_memory(dump_memory(bad), CONFIG)


def test_what_is_not_finite_in_float32_is_refused():
    with pytest.raises(CheckpointError, match="not finite"):
        load_memory(save({"stm": memory().double() * 1e300}), CONFIG)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 7), (3, 4, 8), (4, 3, 8, 1), (0,), ()], ids=str)
def test_another_shape_is_refused_with_both_named(shape):
    with pytest.raises(CheckpointError) as error:
        load_memory(save({"stm": torch.zeros(shape)}), CONFIG)
    assert str(shape) in str(error.value)
    assert str(SHAPE) in str(error.value)


@pytest.mark.parametrize("names", [(), ("other",), ("stm", "more")], ids=str)
def test_other_tensors_are_refused_and_named(names):
    data = save({name: memory() for name in names})
    with pytest.raises(CheckpointError, match="one tensor 'stm', found") as error:
        load_memory(data, CONFIG)
    assert all(name in str(error.value) for name in names)


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("I64", 64), ("BOOL", 8), ("U16", 16), ("C64", 64), ("F8_E8M0", 8), ("F4", 4), ("F99", 32)],
)
def test_other_kinds_of_numbers_are_refused(dtype, bits):
    with pytest.raises(CheckpointError):
        load_memory(raw(dtype, SHAPE[0] * SHAPE[1] * SHAPE[2] * bits // 8), CONFIG)


@pytest.mark.parametrize("data", [b"", b"x", bytes(8), b"\xff" * 64, b"\x80\x04K\x01."])
def test_garbage_is_refused(data):
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_memory(data, CONFIG)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_still_a_memory(data):
    """Whatever happens to the bytes: a typed error or finite numbers of the right shape."""
    good = dump_memory(memory())
    damaged = bytearray(good[: data.draw(st.integers(0, len(good)) | st.just(len(good)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            place = data.draw(st.integers(0, min(len(damaged), 100) - 1))
            damaged[place] = data.draw(st.integers(0, 255))
    try:
        loaded = load_memory(bytes(damaged), CONFIG)
    except CheckpointError:
        return
    assert loaded.shape == SHAPE
    assert loaded.isfinite().all()
