"""``config.json`` of Llama-style decoders, read as ours; a field is checked before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config import AttentionConfig
from ..errors import CheckpointError
from ..files import GENERATION_FILE
from ..template import TokenIds

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FAMILIES = ("llama", "mistral", "qwen3")
LONGEST = 4096
"""Tokens of an interaction where nothing else is said. An interaction is a query and its answer; an
engine keeps room for it for every answer under way."""
_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu", "relu": "relu"}
_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings",
)  # fmt: skip
_LARGEST_BASE = 1e30


def fields_of(data: Any, max_seq_len: int | None = None) -> dict[str, Any]:
    """Fields of ``LmConfig`` for a Llama-style config. Raises CheckpointError.

    Args:
        max_seq_len: longest sequence; None: what the checkpoint was made for, at most ``LONGEST``.
    """
    if not isinstance(data, dict) or data.get("model_type") not in FAMILIES:
        found = data.get("model_type") if isinstance(data, dict) else data
        raise CheckpointError(f"model_type must be one of {', '.join(FAMILIES)}, found {found!r}")
    for name in _SIZES:
        _whole(data, name)
    length = max_seq_len or min(data["max_position_embeddings"], LONGEST)
    _refuse_unsupported(data, length)
    heads, rope = data["num_attention_heads"], _rope(data)
    theta = rope if rope.get("rope_theta") is not None else data
    return {
        "vocab_size": data["vocab_size"],
        "embed_dim": data["hidden_size"],
        "num_layers": data["num_hidden_layers"],
        "head_dim": _whole(data, "head_dim", data["hidden_size"] // heads),
        "attention": AttentionConfig(
            num_query_heads=heads,
            num_kv_heads=_whole(data, "num_key_value_heads", heads),
            qk_norm=data["model_type"] == "qwen3",
        ),
        "ff_dim": data["intermediate_size"],
        "ff_bias": _flag(data, "mlp_bias"),
        "activation": _ACTIVATIONS[data.get("hidden_act", "silu")],
        "norm_eps": _number(data, "rms_norm_eps", 1e-6, 0.0, 1.0),
        "rope_base": float(_number(theta, "rope_theta", 10_000.0, 1.0, _LARGEST_BASE)),
        "max_seq_len": length,
        "tie_head": _flag(data, "tie_word_embeddings"),
        "head_bias": False,
        "attention_dropout": _number(data, "attention_dropout", 0.0, 0.0, 1.0),
    }


def _refuse_unsupported(data: Mapping[str, Any], length: int) -> None:
    """Raise CheckpointError naming the fields that ask for what our decoder does not compute.

    A window that is as long as the longest sequence hides nothing.
    """
    activation = data.get("hidden_act", "silu")
    if not isinstance(activation, str):
        raise CheckpointError(f"hidden_act must be the name of one, found {activation!r}")
    kinds = data.get("layer_types") or []
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise CheckpointError(f"layer_types must be a list of names, found {kinds!r}")
    rope = _rope(data)
    wrong: dict[str, Any] = {}
    if data.get("attention_bias"):
        wrong["attention_bias"] = data["attention_bias"]
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        wrong["rope_scaling"] = rope
    by_kind = {name: value for name, value in rope.items() if isinstance(value, dict)}
    if by_kind:
        wrong["rope_parameters"] = by_kind
    if data.get("rope_interleaved"):
        wrong["rope_interleaved"] = data["rope_interleaved"]
    partial = rope.get("partial_rotary_factor", data.get("partial_rotary_factor"))
    if partial is not None and partial != 1.0:
        wrong["partial_rotary_factor"] = partial
    if activation not in _ACTIVATIONS:
        wrong["hidden_act"] = activation
    known, window = {"full_attention"}, None
    # Mistral has no switch for its window.
    switched_on = data["model_type"] == "mistral" or _flag(data, "use_sliding_window")
    if switched_on and data.get("sliding_window") is not None:
        window = _whole(data, "sliding_window")
        known.add("sliding_attention")
    if window is not None and window < length:
        wrong["sliding_window"] = window
    if other := sorted(set(kinds) - known):
        wrong["layer_types"] = other
    if data.get("quantization_config"):
        wrong["quantization_config"] = data["quantization_config"]
    if wrong:
        found = ", ".join(f"{name}={value!r}" for name, value in wrong.items())
        hint = ""
        if "sliding_window" in wrong:
            hint = f"; the window hides nothing where max_seq_len is at most {window}"
        raise CheckpointError(f"a decoder with {found} cannot be converted exactly{hint}")


def token_ids(
    data: Mapping[str, Any],
    size: int,
    generation: Mapping[str, Any],
    special: Collection[int] | None = None,
) -> tuple[TokenIds, int]:
    """The template's ids: its own tokens where it has them, else new ones from ``size`` on.

    Several tokens may end an answer; ``generation``, what the checkpoint says of drawing, may name
    more. Of these only those count that are ``special`` to the tokenizer, if that is known. Returns
    also how many are new. Raises CheckpointError for what cannot be an id.
    """
    found: dict[str, int | None] = {"unk": None, "mask": None}
    for name in ("bos", "eos", "pad"):
        for token in _listed(data, f"{name}_token_id")[:1]:
            if 0 <= token < size and token not in found.values():
                found[name] = token
    given = [
        *_listed(data, "eos_token_id"),
        *_listed(generation, "eos_token_id", f" of {GENERATION_FILE}"),
    ]
    # One that also begins or pads text ends answers all the same.
    ends = [i for i in dict.fromkeys(given) if 0 <= i < size and i != found.get("eos")]
    if special is not None:
        ends = [token for token in ends if token in special]
    new = [name for name in TokenIds().to_dict() if name not in found]
    placed = {name: size + i for i, name in enumerate(new)}
    return TokenIds(**found, **placed, ends=tuple(ends)), len(new)


def _listed(data: Mapping[str, Any], name: str, place: str = "") -> list[int]:
    given = data.get(name)
    several = given if isinstance(given, list) else [] if given is None else [given]
    if not all(map(_is_whole, several)):
        raise CheckpointError(
            f"{name}{place} must be an id, a list of ids or null, found {given!r}"
        )
    return several


def _rope(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config says of positions; where depends on the version that wrote it."""
    for name in ("rope_parameters", "rope_scaling"):
        if given := data.get(name):
            if not isinstance(given, dict):
                raise CheckpointError(f"{name} must be an object or null, found {given!r}")
            return given
    return {}


def _whole(data: Mapping[str, Any], name: str, absent: int | None = None) -> int:
    """A whole number of at least 1; ``absent`` stands for one that is missing or null."""
    value = data.get(name)
    if value is None and absent is not None:
        return absent
    if not (_is_whole(value) and value >= 1):
        raise CheckpointError(f"{name} must be a whole number >= 1, found {value!r}")
    return int(value)


def _number(data: Mapping[str, Any], name: str, absent: float, low: float, high: float) -> float:
    """A number in [low, high); ``absent`` stands for one that is missing."""
    value = data.get(name, absent)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and low <= value < high):
        raise CheckpointError(f"{name} must be a number in [{low:g}, {high:g}), found {value!r}")
    return value


def _flag(data: Mapping[str, Any], name: str) -> bool:
    """True or false; false where it is missing or null."""
    value = data.get(name)
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(f"{name} must be true or false, found {value!r}")
    return bool(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
