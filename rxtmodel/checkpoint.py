"""Models and memories as files: config.json beside model.safetensors, nothing pickled."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .config import RxtConfig
from .errors import CheckpointError, ConfigError
from .model import ReactiveTransformer

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def save_model(
    model: ReactiveTransformer, folder: Path | str, *, dtype: torch.dtype = torch.float32
) -> None:
    """Write ``config.json`` (every default explicit) and ``model.safetensors`` into ``folder``.

    A file that was there is replaced whole or not at all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Contiguous, since ``layout.arrange`` may have moved them.
    weights = {
        name: p.detach().to(dtype).cpu().contiguous() for name, p in model.state_dict().items()
    }
    data = save(weights, metadata={"format": "rxtmodel", "format_version": "1"})
    text = json.dumps(model.config.to_dict(), indent=2, sort_keys=True)
    _replace(folder / WEIGHTS_FILE, data)
    _replace(folder / CONFIG_FILE, (text + "\n").encode())


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
        raise CheckpointError(f"model folder {folder} has no {WEIGHTS_FILE}; copy it there")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError, KeyError) as error:  # KeyError: a dtype unknown to torch
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
    with _WithoutWeights():
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
    # Copies, since what was read may be a map of the file, and the file may be overwritten.
    weights = {name: value.to(device, torch.float32, copy=True) for name, value in weights.items()}
    model.load_state_dict(weights, assign=True)
    return model.to(device).eval().requires_grad_(False)


_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full)


class _WithoutWeights(TorchFunctionMode):
    """Parameters get no storage and no first values; tables that are computed are real.

    ``torch.device("meta")`` alone would run initialisation and tables through Python meta kernels,
    and these import torch._dynamo, which takes seconds.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn:
            kwargs.pop("generator", None)
            func = torch.empty
        if func in _MAKERS:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _replace(path: Path, data: bytes) -> None:
    """Write beside the file, then rename."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read_config(path: Path) -> RxtConfig:
    if not path.is_file():
        raise CheckpointError(f"model folder {path.parent} has no {path.name}; is it one?")
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
