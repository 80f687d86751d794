"""What kernels of the engine are launched with, and which models they say they can run."""

from __future__ import annotations

import pytest
import torch

from rxtmodel.engine.shapes import reading_of, shape_of
from rxtmodel.engine.support import why_not, why_not_encode, why_not_fold

from .tiny import random_memory, tiny_model

COUNTS = (1, 2, 16, 32, 64, 100, 256)


@pytest.mark.parametrize("count", COUNTS)
def test_whoever_writes_the_residual_stream_divides_it_alike(count):
    """Its sums of squares, one for each tile, are read by kernels that know one division only."""
    assert len({shape_of(count, 512, inner).N for inner in (64, 256, 512, 1_536)}) == 1


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("keys", [7, 80, 512, 4_096])
def test_what_is_asked_for_ahead_is_a_power_of_two(count, keys):
    reading = reading_of(count, keys)
    for number in (reading["BLOCK"], reading["AHEAD"]):
        assert number & (number - 1) == 0
    assert reading["BLOCK"] >= 16


@pytest.mark.parametrize("reason", [why_not, why_not_encode, why_not_fold])
def test_kernels_run_no_model_on_a_cpu(reason):
    assert reason(tiny_model("self-interlayer")) == "the model is not on a CUDA device"


@pytest.mark.parametrize("gate", ["none", "replace", "static", "elementwise", "linear"])
def test_gates_of_a_model_in_sixteen_bits_keep_memories_in_float32(gate):
    model = tiny_model("self", memory={"gate": gate}).to(torch.bfloat16)
    memory = random_memory(model, 2).float()
    encoded = torch.randn(*memory.shape[:2], 5, memory.shape[-1]).to(torch.bfloat16)
    with torch.inference_mode():
        assert model.attend(memory, encoded).dtype == torch.float32
