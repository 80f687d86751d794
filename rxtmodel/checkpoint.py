"""Models and memories as files: config.json beside model.safetensors, nothing pickled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from .config import RxtConfig
from .errors import CheckpointError, ConfigError
from .model import ReactiveTransformer

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def save_model(
    model: ReactiveTransformer, folder: Path | str, *, dtype: torch.dtype = torch.float32
) -> None:
    """Write ``config.json`` (every default explicit) and ``model.safetensors`` into ``folder``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(model.config.to_dict(), indent=2, sort_keys=True)
    (folder / CONFIG_FILE).write_text(text + "\n")
    weights = {name: p.detach().to(dtype).cpu() for name, p in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "rxtmodel", "format_version": "1"})


def load_model(folder: Path | str, *, device: torch.device | str = "cpu") -> ReactiveTransformer:
    """Read a model folder; weights become float32.

    Raises:
        CheckpointError: no such folder, a file is missing or damaged, or a weight is missing,
            unexpected or of another shape. The message names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"model folder {folder} does not exist")
    config = _read_config(folder / CONFIG_FILE)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise CheckpointError(f"model folder {folder} has no {WEIGHTS_FILE}; copy the weights into it")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError, KeyError) as error:  # KeyError: a dtype unknown to torch
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
    with torch.device("meta"):
        model = ReactiveTransformer(config)
    expected = model.state_dict()
    if missing := sorted(set(expected) - set(weights)):
        raise CheckpointError(f"{path} lacks weights that its config needs: {', '.join(missing)}")
    if unexpected := sorted(set(weights) - set(expected)):
        raise CheckpointError(f"{path} has weights that its config lacks: {', '.join(unexpected)}")
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(value.shape)}, "
                f"the config needs {tuple(expected[name].shape)}"
            )
    model = ReactiveTransformer(config)
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model.to(device).eval().requires_grad_(False)


def _read_config(path: Path) -> RxtConfig:
    if not path.is_file():
        raise CheckpointError(f"model folder {path.parent} has no {path.name}; is it a model folder?")
    try:
        return RxtConfig.from_dict(json.loads(path.read_text()))
    except (ValueError, ConfigError) as error:
        raise CheckpointError(f"{path} is not a model configuration: {error}") from error


def weights_fingerprint(model: ReactiveTransformer) -> str:
    """SHA-256 over the configuration and every weight, as hex."""
    digest = hashlib.sha256(model.config.fingerprint().encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def dump_memory(memory_LSD: Tensor) -> bytes:
    """One memory as the bytes of a safetensors file with the tensor ``stm`` [L, S, D]."""
    return save({"stm": memory_LSD.detach().float().cpu().contiguous()})


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
    if not memory.isfinite().all():
        raise CheckpointError("memory holds values that are not finite float32 numbers")
    return memory
