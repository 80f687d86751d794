"""Loading of models by name or folder, ready for a runtime."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from rxtmodel.checkpoint import load_model as read_model
from rxtmodel.checkpoint import weights_fingerprint
from rxtmodel.errors import CheckpointError
from rxtmodel.files import check_dtype
from rxtmodel.layout import arrange, quantise

from .rxt_adapter import RxtAdapter
from .tokenizer import FILE_NAME, Tokenizer

__all__ = ["DEFAULT_MODEL", "MODELS", "ModelError", "RxtAdapter", "load_model"]

MODELS = Path(__file__).parent / "models"
DEFAULT_MODEL = "recall"


class ModelError(Exception):
    """A model that cannot be loaded. The message says what is wrong and what to do."""


def load_model(
    name_or_folder: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    max_batch: int = 16,
    int8: bool = False,
) -> RxtAdapter:
    """A bundled model by name, or a model folder (config.json, model.safetensors, tokenizer.json).

    Args:
        dtype: of the weights; memories are float32 whatever it is, and fit every other.
        int8: decode by weights of eight bits, on a CPU; see ``rxtmodel.layout.quantise``.

    Raises:
        ModelError: no such model, a file of it is missing or damaged, there is no such device, or
            ``max_batch`` is not a number of answers.
    """
    name_or_folder = os.fspath(name_or_folder)
    if not isinstance(max_batch, int) or max_batch < 1:
        raise ModelError(f"max_batch must be a whole number >= 1, got {max_batch!r}")
    folder = MODELS / name_or_folder
    if not (folder.is_dir() and "/" not in name_or_folder):
        folder = Path(name_or_folder)
    if not folder.is_dir():
        bundled = sorted(p.name for p in MODELS.iterdir() if p.is_dir()) if MODELS.exists() else []
        raise ModelError(
            f"no model {name_or_folder!r}: neither a folder nor a bundled model "
            f"({', '.join(bundled) or 'none'})"
        )
    if not (folder / FILE_NAME).is_file():
        raise ModelError(
            f"{folder} holds no {FILE_NAME}; put the one there that the model was trained with"
        )
    _check_device(device)
    try:
        check_dtype(dtype)
        model = read_model(folder, device=device)
        fingerprint = weights_fingerprint(model)
        model = arrange(model.to(dtype))
        if int8:
            quantise(model)
        size = model.config.vocab_size
        tokenizer = Tokenizer.load(folder, model.config.tokens, size=size)
    except (CheckpointError, OSError, ValueError) as error:
        raise ModelError(str(error)) from error
    if tokenizer.largest_id >= size:
        raise ModelError(
            f"{folder / FILE_NAME} has ids up to {tokenizer.largest_id}, the model's vocabulary "
            f"has {size}: they are not of one model"
        )
    return RxtAdapter(model, tokenizer, max_batch=max_batch, fingerprint=fingerprint)


def _check_device(device: str) -> None:
    """Before anything is read: what PyTorch lacks it says by errors of many kinds."""
    try:
        torch.zeros(1, device=device).item()
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = str(error).partition(". ")[0].partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"device {device!r} cannot be used: {reason}; device='cpu' is always there"
        ) from error
