"""Loading models from folders and hubs, and writing them there."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from .config import RxtConfig
from .errors import CheckpointError, ConfigError
from .files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    WithoutWeights,
    check_dtype,
    check_finite,
    check_weights,
    read_json,
    read_weights,
    write_folder,
)
from .formats import native
from .formats.published import (
    DEFAULT_PROFILE,
    is_published,
    join_components,
    read_published,
    write_published,
)
from .hub import find_hub, local_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .backends import Backend
    from .config import LmConfig
    from .config.parts import Rounding
    from .formats.published.read import StoredMemory

FileFormat = Literal["native", "published"]


class Pretrained(nn.Module):
    """``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` of every model."""

    config_type: ClassVar[type[LmConfig]]
    config: LmConfig

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: Path | str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        backend: Backend = "sdpa",
        revision: str | None = None,
        profile: str = DEFAULT_PROFILE,
        memory: StoredMemory = "restore",
        rope_rounding: Rounding | None = None,
    ) -> Self:
        """A model for use: frozen, in evaluation mode, in ``dtype``.

        Args:
            revision: of a hub id.
            profile: version of the reference implementation that wrote published files.
            memory: "restore" or "fresh": how conversations start with published files.
            rope_rounding: "bfloat16" or "float16" for a published checkpoint that was trained in
                that type, and so with positions rounded to it: files of that format do not say it.
                "none": exact. None: as the file says, and exact where it says nothing.

        Raises:
            CheckpointError: no such folder, a file is missing or damaged, or a weight is missing,
                unexpected, of another shape or not finite. The message names it. A ``dtype``
                other than float32, bfloat16 and float16.
            ConfigError: there is no such ``rope_rounding``.
        """
        check_dtype(dtype)
        folder = local_folder(folder_or_hub_id, revision)
        data, path = read_json(folder), folder / WEIGHTS_FILE
        weights = read_weights(path)
        try:
            if is_published(data) and issubclass(cls.config_type, RxtConfig):
                config, weights = read_published(
                    str(path), data, weights, cls._shapes_of, profile=profile, memory=memory
                )
            else:
                config = native.from_json(data, cls.config_type, cls.__name__)
        except ConfigError as error:
            raise CheckpointError(
                f"{folder / CONFIG_FILE} is not a model configuration: {error}"
            ) from error
        config = _rounded(config, rope_rounding)
        return cls._assemble(
            str(path), config, weights, device=device, dtype=dtype, backend=backend
        )

    def save_pretrained(
        self,
        folder: Path | str,
        *,
        format: FileFormat = "native",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``folder``.

        "native" spells out every default and holds every option. "published" is what the reference
        implementation reads, with the ids of those special tokens only that the model was trained
        for; CheckpointError names what it cannot hold, and a ``dtype`` that is not float32,
        bfloat16 or float16. A file that was there is replaced whole or not at all.
        """
        check_dtype(dtype)
        weights = {n: _stored(n, w, dtype) for n, w in self.state_dict().items()}
        data: dict[str, Any]
        if format == "published":
            data, weights = write_published(self.config, weights)
            metadata = {"format": "pt"}
        elif format == "native":
            data = native.to_json(self.config, type(self).__name__)
            metadata = {"format": "rxtmodel", "format_version": "1"}
        else:
            raise CheckpointError(f"format must be 'native' or 'published', got {format!r}")
        write_folder(Path(folder), data, weights, metadata)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        format: FileFormat = "native",
        dtype: torch.dtype = torch.float32,
    ) -> str:
        """Publish the model under ``repo_id``; returns where it can be seen."""
        check_dtype(dtype)
        hub = find_hub()
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, format=format, dtype=dtype)
            return hub.upload(Path(folder), repo_id, private=private)

    @classmethod
    def _shapes_of(cls, config: LmConfig) -> Mapping[str, Sequence[int]]:
        with WithoutWeights():
            model = cls(config)
        return {name: value.shape for name, value in model.state_dict().items()}

    @classmethod
    def _assemble(
        cls,
        where: str,
        config: LmConfig,
        weights: dict[str, Tensor],
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        backend: Backend,
    ) -> Self:
        with WithoutWeights():
            model = cls(config, backend=backend)
        expected = {name: value.shape for name, value in model.state_dict().items()}
        check_weights(where, weights, expected)
        # Copies, since what was read may be a map of the file, and the file may be overwritten.
        weights = {n: w.to(device, dtype, copy=True) for n, w in weights.items()}
        check_finite(where, weights)  # in the type they are used in, which may be too short for one
        model.load_state_dict(weights, assign=True)
        return model.to(device).eval().requires_grad_(False)


def _rounded(config: LmConfig, rounding: Rounding | None) -> LmConfig:
    """The config with the positions of all its parts rounded so; None: as they are."""
    if rounding is None:
        return config
    changed: dict[str, Any] = {"rope_rounding": rounding}
    if isinstance(config, RxtConfig) and config.encoder is not None:
        changed["encoder"] = dataclasses.replace(config.encoder, rope_rounding=rounding)
    return dataclasses.replace(config, **changed)


def _stored(name: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    stored = weight.detach().to(dtype).cpu().contiguous()
    if dtype == torch.float16 and not stored.isfinite().all() and weight.isfinite().all():
        raise CheckpointError(f"{name} holds values beyond {dtype}; save it as torch.bfloat16")
    return stored


class PublishedParts(Pretrained):
    """Models that are published in parts, too."""

    @classmethod
    def from_components(
        cls,
        *,
        decoder: Path | str,
        encoder: Path | str,
        memory_attention: Path | str,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        backend: Backend = "sdpa",
        profile: str = DEFAULT_PROFILE,
        memory: StoredMemory = "restore",
        rope_rounding: Rounding | None = None,
    ) -> Self:
        """A model from three published repositories of single components; as ``from_pretrained``.

        Where the embeddings of decoder and encoder differ, both are kept: ``share_embedding`` makes
        them one.
        """
        check_dtype(dtype)
        folders = {"decoder": decoder, "encoder": encoder, "memory_attention": memory_attention}
        parts = {}
        for part, place in folders.items():
            folder = local_folder(place)
            parts[part] = read_json(folder), read_weights(folder / WEIGHTS_FILE)
        data, weights = join_components(parts)
        where = ", ".join(map(str, folders.values()))
        try:
            config, weights = read_published(
                where, data, weights, cls._shapes_of, profile=profile, memory=memory
            )
        except ConfigError as error:
            raise CheckpointError(f"{where}: not a model configuration: {error}") from error
        config = _rounded(config, rope_rounding)
        return cls._assemble(where, config, weights, device=device, dtype=dtype, backend=backend)
