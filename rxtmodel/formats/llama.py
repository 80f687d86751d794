"""Llama-style decoders as they are shared: config.json and model*.safetensors of ``transformers``.

Read only, and only forms that our decoder computes exactly; what it would compute otherwise is
refused with its field and value (``llama_config``). Rotary pairs are (j, j + H/2) there and
neighbours here: the rows of query and key projections are put in our order, which no product sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..errors import CheckpointError
from ..files import check_finite, check_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def decoder_weights(
    where: str, fields: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights by our names: ``embedding``, ``head``, ``final_norm``, ``decoder.{i}.*``.

    Raises CheckpointError naming a weight that is missing, unexpected, of another shape or not
    finite.
    """
    found = {n: w for n, w in weights.items() if not n.endswith("rotary_emb.inv_freq")}
    table = found.get("model.embed_tokens.weight")
    if fields["tie_head"] and table is not None and "lm_head.weight" in found:
        if not torch.equal(found.pop("lm_head.weight"), table):
            raise CheckpointError(f"{where}: lm_head.weight differs though the head is tied")
    if (layers := fields["num_layers"]) > len(found):
        raise CheckpointError(f"{where} has {len(found)} weights, too few for {layers} layers")
    check_weights(where, found, _shapes(fields))
    check_finite(where, found)
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
