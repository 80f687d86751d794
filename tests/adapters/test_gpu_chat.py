"""The bundled model through the runtime on a GPU. Run with ``pytest -m gpu``."""

from __future__ import annotations

import pytest
import torch

from adapters.model import load_model
from rxstream import Runtime

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TOLD = ("my dog is called Biscuit", "my sister lives in Lisbon", "hello there")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_conversation_is_remembered_and_its_memory_fits_a_cpu(dtype):
    with Runtime(load_model(device="cuda", dtype=dtype)) as runtime:
        memory = runtime.memory("a")
        chat = memory.conversation()
        for line in TOLD:
            chat.ask(line).result(timeout=120)
        assert "Biscuit" in chat.ask("what is my dog called?").result(timeout=60).text
        others = [runtime.memory(f"other {i}").conversation() for i in range(6)]
        asked = [other.ask("what is my dog called?") for other in others]
        assert not any("Biscuit" in one.result(timeout=60).text for one in asked)
        memory.flush().result(timeout=60)
        snapshot = memory.snapshot()
    with Runtime(load_model()) as on_cpu:
        chat = on_cpu.memory("b", snapshot=snapshot).conversation()
        assert "Lisbon" in chat.ask("where does my sister live?").result(timeout=60).text
