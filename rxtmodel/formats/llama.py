"""Llama-style decoders as they are shared: config.json and model*.safetensors of ``transformers``.

Read only, and only forms that our decoder computes exactly; what it would compute otherwise is
refused with its field and value. Rotary pairs are (j, j + H/2) there and neighbours here: the rows
of query and key projections are put in our order, which no product sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..config import AttentionConfig
from ..errors import CheckpointError
from ..files import check_weights
from ..template import TokenIds

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

FAMILIES = ("llama", "mistral", "qwen3")
_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu", "relu": "relu"}
_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings",
)  # fmt: skip


def fields_of(data: Any) -> dict[str, Any]:
    """Fields of ``LmConfig`` for a Llama-style config. Raises CheckpointError."""
    if not isinstance(data, dict) or data.get("model_type") not in FAMILIES:
        found = data.get("model_type") if isinstance(data, dict) else data
        raise CheckpointError(f"model_type must be one of {', '.join(FAMILIES)}, found {found!r}")
    for name in _SIZES:
        if not isinstance(data.get(name), int):
            raise CheckpointError(f"{name} must be a whole number, found {data.get(name)!r}")
    refuse_unsupported(data)
    heads, theta = data["num_attention_heads"], _rope(data).get("rope_theta")
    return {
        "vocab_size": data["vocab_size"],
        "embed_dim": data["hidden_size"],
        "num_layers": data["num_hidden_layers"],
        "head_dim": data.get("head_dim") or data["hidden_size"] // heads,
        "attention": AttentionConfig(
            num_query_heads=heads,
            num_kv_heads=data.get("num_key_value_heads") or heads,
            qk_norm=data["model_type"] == "qwen3",
        ),
        "ff_dim": data["intermediate_size"],
        "ff_bias": data.get("mlp_bias", False),
        "activation": _ACTIVATIONS[data.get("hidden_act", "silu")],
        "norm_eps": data.get("rms_norm_eps", 1e-6),
        "rope_base": float(theta or data.get("rope_theta", 10_000.0)),
        "max_seq_len": data["max_position_embeddings"],
        "tie_head": data.get("tie_word_embeddings", False),
        "head_bias": False,
        "attention_dropout": data.get("attention_dropout", 0.0),
    }


def refuse_unsupported(data: Mapping[str, Any]) -> None:
    """Raise CheckpointError naming the fields that ask for what our decoder does not compute."""
    window, longest = data.get("sliding_window"), data["max_position_embeddings"]
    sliding = data.get("use_sliding_window", data["model_type"] == "mistral")
    kinds = set(data.get("layer_types") or ()) - {"full_attention"}
    rope = _rope(data)
    wrong = {
        "attention_bias": data.get("attention_bias", False),
        "rope_scaling": rope if rope.get("rope_type", rope.get("type", "default")) != "default"
        else None,
        "partial_rotary_factor": _unless(1.0, rope.get("partial_rotary_factor",
                                                       data.get("partial_rotary_factor", 1.0))),
        "hidden_act": None if data.get("hidden_act", "silu") in _ACTIVATIONS
        else data["hidden_act"],
        "sliding_window": window if sliding and window and window < longest else None,
        "layer_types": sorted(kinds),
        "quantization_config": data.get("quantization_config"),
    }  # fmt: skip
    if found := [f"{name}={value!r}" for name, value in wrong.items() if value]:
        raise CheckpointError(f"a decoder with {', '.join(found)} cannot be converted exactly")


def token_ids(
    data: Mapping[str, Any],
    size: int,
    generation: Mapping[str, Any],
    special: Collection[int] | None = None,
) -> tuple[TokenIds, int]:
    """The template's ids: its own tokens where it has them, else new ones from ``size`` on.

    Several tokens may end an answer; ``generation``, what the checkpoint says of drawing, may name
    more. Of these only those count that are ``special`` to the tokenizer, if that is known. Returns
    also how many are new.
    """
    found: dict[str, int | None] = {"unk": None, "mask": None}
    for name in ("bos", "eos", "pad"):
        for token in _listed(data.get(f"{name}_token_id"))[:1]:
            if 0 <= token < size and token not in found.values():
                found[name] = token
    given = [*_listed(data.get("eos_token_id")), *_listed(generation.get("eos_token_id"))]
    # One that also begins or pads text ends answers all the same.
    ends = [i for i in dict.fromkeys(given) if 0 <= i < size and i != found.get("eos")]
    if special is not None:
        ends = [token for token in ends if token in special]
    new = [name for name in TokenIds().to_dict() if name not in found]
    placed = {name: size + i for i, name in enumerate(new)}
    return TokenIds(**found, **placed, ends=tuple(ends)), len(new)


def _listed(given: Any) -> list[int]:
    several = given if isinstance(given, list) else [given]
    return [token for token in several if isinstance(token, int)]


def decoder_weights(
    where: str, fields: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights by our names: ``embedding``, ``head``, ``final_norm``, ``decoder.{i}.*``.

    Raises CheckpointError naming a weight that is missing, unexpected or of another shape.
    """
    found = {n: w for n, w in weights.items() if not n.endswith("rotary_emb.inv_freq")}
    table = found.get("model.embed_tokens.weight")
    if fields["tie_head"] and table is not None and "lm_head.weight" in found:
        if not torch.equal(found.pop("lm_head.weight"), table):
            raise CheckpointError(f"{where}: lm_head.weight differs though the head is tied")
    check_weights(where, found, _shapes(fields))
    out = {"embedding.weight": found["model.embed_tokens.weight"],
           "final_norm.weight": found["model.norm.weight"]}  # fmt: skip
    if not fields["tie_head"]:
        out["head.weight"] = found["lm_head.weight"]
    for i in range(fields["num_layers"]):
        out |= _layer(f"model.layers.{i}.", f"decoder.{i}.", fields, found)
    return out


def _layer(
    theirs: str, ours: str, fields: Mapping[str, Any], found: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    width = fields["head_dim"]
    out = {}
    for name in ("q_proj", "k_proj", "q_norm", "k_norm"):
        if (weight := found.get(f"{theirs}self_attn.{name}.weight")) is not None:
            out[f"{ours}attention.{name}.weight"] = _neighbours(weight, width)
    for name, place in (("v_proj", "v_proj"), ("o_proj", "out_proj")):
        out[f"{ours}attention.{place}.weight"] = found[f"{theirs}self_attn.{name}.weight"]
    out[f"{ours}attention_norm.weight"] = found[f"{theirs}input_layernorm.weight"]
    out[f"{ours}ff_norm.weight"] = found[f"{theirs}post_attention_layernorm.weight"]
    for leaf in ("weight", "bias") if fields["ff_bias"] else ("weight",):
        gate, up = (found[f"{theirs}mlp.{name}_proj.{leaf}"] for name in ("gate", "up"))
        out[f"{ours}ff.gate_up.{leaf}"] = torch.cat((gate, up))
        out[f"{ours}ff.down.{leaf}"] = found[f"{theirs}mlp.down_proj.{leaf}"]
    return out


def _neighbours(weight: Tensor, width: int) -> Tensor:
    """Rows of heads in the order (0, H/2, 1, H/2 + 1, ...)."""
    heads = weight.view(-1, 2, width // 2, *weight.shape[1:])
    return heads.transpose(1, 2).reshape(weight.shape)


def _shapes(fields: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    dim, wide, width = fields["embed_dim"], fields["ff_dim"], fields["head_dim"]
    heads = fields["attention"]
    q, kv = heads.num_query_heads * width, heads.num_kv_heads * width
    out: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (fields["vocab_size"], dim),
                                       "model.norm.weight": (dim,)}  # fmt: skip
    if not fields["tie_head"]:
        out["lm_head.weight"] = (fields["vocab_size"], dim)
    layer = {
        "self_attn.q_proj.weight": (q, dim), "self_attn.k_proj.weight": (kv, dim),
        "self_attn.v_proj.weight": (kv, dim), "self_attn.o_proj.weight": (dim, q),
        "mlp.gate_proj.weight": (wide, dim), "mlp.up_proj.weight": (wide, dim),
        "mlp.down_proj.weight": (dim, wide), "input_layernorm.weight": (dim,),
        "post_attention_layernorm.weight": (dim,),
    }  # fmt: skip
    if heads.qk_norm:
        layer |= {"self_attn.q_norm.weight": (width,), "self_attn.k_norm.weight": (width,)}
    if fields["ff_bias"]:
        layer |= {"mlp.gate_proj.bias": (wide,), "mlp.up_proj.bias": (wide,),
                  "mlp.down_proj.bias": (dim,)}  # fmt: skip
    for i in range(fields["num_layers"]):
        out |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    return out


def _rope(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config says of positions; where depends on the version that wrote it."""
    return data.get("rope_parameters") or data.get("rope_scaling") or {}


def _unless(neutral: float, value: Any) -> Any:
    return None if value == neutral else value
