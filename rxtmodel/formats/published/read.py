"""Reading published files: their config as ours, their weights as ours, nothing left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from ...errors import CheckpointError
from ...files import check_weights
from ...initial import initial_memory
from .config_in import to_ours
from .detect import detect
from .fields import PARTS, complete
from .keys import mapping
from .legacy import apart, is_legacy, joined, joined_shapes
from .profiles import profile_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from ...config import RxtConfig

StoredMemory = Literal["restore", "fresh"]
_DECODER, _ENCODER = (f"{part}.model.embedding.weight" for part in ("decoder", "encoder"))
_STMS = ("decoder.model.stm.memory", "memory_attention.model.stm.memory")


def is_published(config: Any) -> bool:
    """Whether the content of a ``config.json`` is of the published format."""
    return isinstance(config, dict) and "decoder_config" in config


def read_published(
    where: str,
    config: dict[str, Any],
    weights: Mapping[str, Tensor],
    shapes_of: Callable[[RxtConfig], Mapping[str, Sequence[int]]],
    *,
    profile: str,
    memory: StoredMemory = "restore",
) -> tuple[RxtConfig, dict[str, Tensor]]:
    """Our config and weights.

    Args:
        where: the file, for messages.
        shapes_of: the weights that a model of a config has, by name.
        profile: the version that wrote the files, see ``PROFILES``.
        memory: "restore" starts conversations from the memory in the file, if there is one, and
            that of the memory attention, if the decoder has another: sharing components takes it,
            too; "fresh" from one drawn as the profile says, the same for everyone.

    Raises:
        CheckpointError: a weight is missing, unexpected or of another shape.
        ConfigError: the config cannot be built.
    """
    chosen = profile_of(profile)
    if memory not in get_args(StoredMemory):
        raise CheckpointError(f"memory must be 'restore' or 'fresh', got {memory!r}")
    if missing := [f"{part}_config" for part in PARTS if not isinstance(
            config.get(f"{part}_config"), dict)]:  # fmt: skip
        raise CheckpointError(f"{where}: the configuration lacks {', '.join(missing)}")
    found = _own_names(where, weights)
    shapes = joined_shapes({name: tuple(value.shape) for name, value in found.items()})
    legacy = is_legacy(found)
    whole = detect(config, complete(config, chosen), shapes, chosen, legacy=legacy)
    stored = _take_memory(where, found, memory)
    whole["share_embedding"] = _share_embedding(where, found)
    _drop_inert(found, whole["encoder_config"])
    ours = to_ours(whole, chosen.initial)
    ours_shapes = dict(shapes_of(ours))
    if stored is None:
        del ours_shapes["memory_init"]
    else:
        found[_STMS[0]] = stored
    every, expected = mapping(ours_shapes, ours)
    check_weights(where, found, apart(expected, found) if legacy else expected)
    found = joined(found)
    out = {entry.ours: entry.read([found[k] for k in entry.published]) for entry in every}
    if stored is None:
        out["memory_init"] = initial_memory(ours) * chosen.initial_scale
    return ours, out


def _own_names(where: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what compilers add to names, and without positions, which are computed."""
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        own = name.replace("_orig_mod.", "")
        if own in found:
            raise CheckpointError(
                f"{where} has the weight {own} twice, once of a compiled module (_orig_mod); "
                "remove the one that is not to be used"
            )
        if ".rope." not in own:
            found[own] = value
    return found


def _take_memory(where: str, weights: dict[str, Tensor], memory: StoredMemory) -> Tensor | None:
    """The memory that a file holds, of which two parts have a copy."""
    weights.pop("encoder.model.stm.memory", None)
    stored = {name: weights.pop(name) for name in _STMS if name in weights}
    if not stored or memory == "fresh":
        return None
    for name, value in stored.items():
        if value.dim() != 4 or value.shape[1] != 1:
            raise CheckpointError(
                f"{where}: {name} has shape {tuple(value.shape)}, a memory to start from has "
                "(layers, 1, slots, width); read it with memory='fresh'"
            )
    if len({value.shape for value in stored.values()}) > 1:
        both = " and ".join(f"{name} {tuple(value.shape)}" for name, value in stored.items())
        raise CheckpointError(
            f"{where} has memories of two shapes, {both}; read it with memory='fresh'"
        )
    return stored.get(_STMS[1], stored.get(_STMS[0]))


def _share_embedding(where: str, weights: dict[str, Tensor]) -> bool:
    """Whether both parts have one embedding; a file may hold only one copy of it."""
    decoder, encoder = weights.get(_DECODER), weights.get(_ENCODER)
    if decoder is None and encoder is None:
        raise CheckpointError(f"{where} lacks weights that its config needs: {_DECODER}")
    if decoder is not None and encoder is not None and not _equal(decoder, encoder):
        return False
    weights[_DECODER] = encoder if decoder is None else decoder
    weights.pop(_ENCODER, None)
    return True


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def _drop_inert(weights: dict[str, Tensor], encoder: dict[str, Any]) -> None:
    """Old encoders have a memory read that nothing ever calls."""
    if encoder["skip_memory_cross_attention"]:
        return
    inert = (".memory_cross_attention.", ".norm2.", ".stm_norm.")
    for name in list(weights):
        if name.startswith("encoder.model.layers.") and any(part in name for part in inert):
            del weights[name]


def join_components(
    parts: Mapping[str, tuple[dict[str, Any], Mapping[str, Tensor]]],
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One config and one set of weights from repositories of single components.

    ``parts`` holds config and weights for "decoder", "encoder" and "memory_attention".
    """
    config: dict[str, Any] = {}
    weights: dict[str, Tensor] = {}
    for part in PARTS:
        own, tensors = parts[part]
        config[f"{part}_config"] = own
        weights |= {f"{part}.{name}": value for name, value in tensors.items()}
    return config, weights
