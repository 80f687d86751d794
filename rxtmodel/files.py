"""Reading and writing the files of a model folder; nothing is pickled."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch.overrides import TorchFunctionMode

from .errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What weights are kept and used in."""
GENERATION_FILE = "generation_config.json"


def read_json(folder: Path) -> Any:
    """The content of ``config.json``. Raises CheckpointError."""
    if not folder.is_dir():
        raise CheckpointError(f"model folder {folder} does not exist")
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(f"model folder {folder} has no {path.name}; is it one?")
    return _parsed(path)


def read_generation(folder: Path) -> dict[str, Any]:
    """The content of ``generation_config.json``, if there is one. Raises CheckpointError."""
    path = folder / GENERATION_FILE
    data = _parsed(path) if path.is_file() else {}
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds no object, but {type(data).__name__}")
    return data


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a model configuration: {error}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"model folder {path.parent} has no {path.name}; copy it there")
    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError) as error:  # KeyError: a dtype unknown to torch
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error


def read_shards(folder: Path) -> dict[str, Tensor]:
    """The tensors of ``model.safetensors``, or of the files that an index beside it names."""
    index = folder / f"{WEIGHTS_FILE}.index.json"
    if not index.is_file():
        return read_weights(folder / WEIGHTS_FILE)
    try:
        places = dict(json.loads(index.read_text())["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index} is not an index of weights: {error!r}") from error
    found: dict[str, Tensor] = {}
    for file in sorted(set(places.values())):
        if file != os.path.basename(file):
            raise CheckpointError(f"{index} names {file!r}, which is not a file beside it")
        found |= read_weights(folder / file)
    if missing := sorted(set(places) - set(found)):
        raise CheckpointError(f"{folder} lacks weights that its index has: {', '.join(missing)}")
    return found


def write_folder(
    folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], metadata: dict[str, str]
) -> None:
    """Write both files; a file that was there is replaced whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    # Copies with memory of their own: ``layout.arrange`` may have moved weights, and two names of
    # one tensor are written twice.
    data = save({name: w.contiguous().clone() for name, w in weights.items()}, metadata=metadata)
    text = json.dumps(config, indent=2, sort_keys=True)
    _replace(folder / WEIGHTS_FILE, data)
    _replace(folder / CONFIG_FILE, (text + "\n").encode())


def check_weights(where: str, found: Mapping[str, Tensor], expected: Mapping[str, Any]) -> None:
    """Refuse weights that are missing, unexpected, of another shape or no numbers with a fraction,
    naming them.

    ``expected`` holds a shape for each name.
    """
    if missing := sorted(set(expected) - set(found)):
        raise CheckpointError(f"{where} lacks weights that its config needs: {', '.join(missing)}")
    if unexpected := sorted(set(found) - set(expected)):
        raise CheckpointError(f"{where} has weights that its config lacks: {', '.join(unexpected)}")
    for name, value in found.items():
        if tuple(value.shape) != tuple(expected[name]):
            raise CheckpointError(
                f"{where}: {name} has shape {tuple(value.shape)}, "
                f"the config needs {tuple(expected[name])}"
            )
        if not value.is_floating_point():
            raise CheckpointError(
                f"{where}: {name} holds {value.dtype}, not floating-point numbers; quantised "
                "weights must be turned back first"
            )


def check_dtype(dtype: object) -> None:
    """Raise CheckpointError unless models can be kept and used in ``dtype``."""
    if dtype not in DTYPES:
        *most, last = map(str, DTYPES)
        raise CheckpointError(f"dtype must be {', '.join(most)} or {last}, got {dtype!r}")


def check_finite(where: str, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights with which every answer would be noise, naming the first one."""
    for name, value in weights.items():
        if not value.isfinite().all():
            raise CheckpointError(f"{where}: {name} holds values that are not finite {value.dtype}")


_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full)
_DRAWN = (torch.randn, torch.rand)


class WithoutWeights(TorchFunctionMode):
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
        if func in _DRAWN:
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
