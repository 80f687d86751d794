"""Models and memories as files: config.json beside model.safetensors, nothing pickled."""

from __future__ import annotations

import ctypes
import hashlib
import json
import struct
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from .errors import CheckpointError
from .files import CONFIG_FILE, WEIGHTS_FILE
from .model import ReactiveTransformer

if TYPE_CHECKING:
    from pathlib import Path

    from .config import RxtConfig
    from .language_model import LanguageModel

__all__ = [
    "CONFIG_FILE",
    "WEIGHTS_FILE",
    "dump_memory",
    "load_memory",
    "load_model",
    "save_model",
    "weights_fingerprint",
]


def save_model(
    model: LanguageModel, folder: Path | str, *, dtype: torch.dtype = torch.float32
) -> None:
    """``model.save_pretrained``, in our own format."""
    model.save_pretrained(folder, dtype=dtype)


def load_model(folder: Path | str, *, device: torch.device | str = "cpu") -> ReactiveTransformer:
    """``ReactiveTransformer.from_pretrained``; weights become float32. Raises CheckpointError."""
    return ReactiveTransformer.from_pretrained(folder, device=device)


def weights_fingerprint(model: LanguageModel) -> str:
    """SHA-256 over the configuration and every weight, as hex."""
    digest = hashlib.sha256(model.config.fingerprint().encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def dump_memory(memory_LSD: Tensor) -> bytes:
    """One memory as the bytes of a safetensors file with the tensor ``stm`` [L, S, D].

    Written where it stays, and the interpreter is left to others meanwhile: a copy of bytes by
    Python would hold up every answer under way.
    """
    size = 4 * memory_LSD.numel()
    what = {"dtype": "F32", "shape": list(memory_LSD.shape), "data_offsets": [0, size]}
    text = json.dumps({"stm": what}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = struct.pack("<Q", len(text)) + text
    file = BytesIO(_blank(None, len(head) + size))
    with file.getbuffer() as view:
        view[: len(head)] = head
        if size:
            values = torch.frombuffer(view, dtype=torch.float32, offset=len(head))
            _fill(values.view(memory_LSD.shape), memory_LSD.detach())
            del values  # which holds the view
    return file.getvalue()


def _fill(values_LSD: Tensor, memory_LSD: Tensor) -> None:
    """``values`` become the memory's, by one thread where that can be.

    PyTorch shares a copy of more than 32,768 numbers out between its threads, which wait for each
    other: milliseconds for microseconds, where a processor is busy with something else.
    """
    if memory_LSD.device.type == "cpu" and memory_LSD.dtype == torch.float32:
        np.copyto(values_LSD.numpy(), memory_LSD.numpy())
    else:
        values_LSD.copy_(memory_LSD)


_blank = ctypes.pythonapi.PyBytes_FromStringAndSize
"""Bytes that are still to be written. Zeros, as ``bytes(n)`` gives them, are written twice, once by
Python, which then lets nobody else work."""
_blank.argtypes, _blank.restype = (ctypes.c_void_p, ctypes.c_ssize_t), ctypes.py_object


def load_memory(data: bytes, config: RxtConfig) -> Tensor:
    """Inverse of ``dump_memory``.

    Raises:
        CheckpointError: not such a file, another shape than the model's, or values that are not
            finite.
    """
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"memory cannot be read as safetensors: {error}") from error
    if set(tensors) != {"stm"}:
        raise CheckpointError(f"a memory file holds one tensor 'stm', found {sorted(tensors)}")
    memory = tensors["stm"]
    if tuple(memory.shape) != config.memory_shape:
        raise CheckpointError(
            f"memory has shape {tuple(memory.shape)} (layers, slots, width), "
            f"the model needs {config.memory_shape}"
        )
    if not memory.dtype.is_floating_point:
        raise CheckpointError(f"memory holds {memory.dtype}, not floating-point numbers")
    memory = memory.float()
    if not np.isfinite(memory.numpy()).all():  # by one thread, as above
        raise CheckpointError("memory holds values that are not finite float32 numbers")
    return memory
