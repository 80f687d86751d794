"""What of a config the published format has no field for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...config import AttentionConfig, RxtConfig
from ...errors import CheckpointError
from .tokens import says_unsaid

if TYPE_CHECKING:
    from ...config import LmConfig, StackConfig


def require_published_form(config: LmConfig) -> RxtConfig:
    """The config, which the published format can hold whole.

    Raises CheckpointError naming every setting that would not be read again as it is.
    """
    if not isinstance(config, RxtConfig):
        raise _cannot_hold("a language model without memory")
    every = {**_of_model(config), **_of_stacks(config), **_of_memory(config)}
    if found := [what for what, here in every.items() if here]:
        raise _cannot_hold(*found)
    return config


def _cannot_hold(*what: str) -> CheckpointError:
    return CheckpointError(
        f"the published format cannot hold {', '.join(what)}; save it in the native format, which "
        "holds every setting"
    )


def _of_model(config: RxtConfig) -> dict[str, bool]:
    return {
        "a head that shares the embedding": config.tie_head,
        "a head without bias": not config.tie_head and not config.head_bias,
        "several tokens that end an answer": bool(config.tokens.ends),
        f"other ids of [UNK] and [MASK] than usual (tokens.unk={config.tokens.unk}, "
        f"tokens.mask={config.tokens.mask})": not says_unsaid(config),
    }


def _of_stacks(config: RxtConfig) -> dict[str, bool]:
    """Of the decoder, and of an encoder that has settings of its own."""
    found = _of_stack("", config, config.embed_dim)
    if config.encoder is not None:
        found |= _of_stack("encoder ", config.encoder, config.embed_dim)
    return found


def _of_stack(of: str, stack: StackConfig, dim: int) -> dict[str, bool]:
    return {
        f"{of}norms with an eps of their own (norm_eps={stack.norm_eps})":
            stack.norm_eps is not None,
        f"{of}feed-forwards without biases": not stack.ff_bias,
        f"{of}QK-norm": stack.attention.qk_norm,
        f"{of}rope_rounding={stack.rope_rounding!r}": stack.rope_rounding != "none",
        f"{of}rope_base={stack.rope_base}, which is not whole": not _whole(stack.rope_base),
        **_of_heads(of, dim, stack.head_dim, stack.attention),
    }  # fmt: skip


def _of_memory(config: RxtConfig) -> dict[str, bool]:
    m, own, dim = config.memory, config.attention, config.embed_dim
    if m.variant == "delta":
        return {"memory variant 'delta'": True}
    every = AttentionConfig(num_query_heads=m.num_heads, num_kv_heads=m.num_heads)
    read, write = m.read or every, m.write or every
    mix = write if m.variant == "simple" else m.mix or write
    gates = {read.output_gate, own.output_gate} - {"none"}
    return {
        "the 'channel' gate": m.gate == "channel",
        f"gate='replace' of memory variant {m.variant!r}, only of 'simple'":
            m.gate == "replace" and m.variant != "simple",
        "memory variant 'interlayer' with gate='none', which is read as 'self-interlayer'":
            m.gate == "none" and m.variant == "interlayer",
        "slot identities": m.slot_ids,
        "a null key": m.null_key,
        "QK-norm of the memory": any(a.qk_norm for a in (read, write, mix)),
        "memory attention without output bias": not (write.output_bias and mix.output_bias),
        "memory attention with an output gate": {write.output_gate, mix.output_gate} != {"none"},
        "other output biases of the memory read than of self-attention":
            read.output_bias != own.output_bias,
        "two activations of output gates": len(gates) > 1,
        f"memory rope_base={m.rope_base}, which is not whole":
            m.rope_base is not None and not _whole(m.rope_base),
        **_of_heads("memory read ", dim, config.head_dim, read),
        **_of_heads("memory write ", dim, config.memory_head_dim, write),
        **_of_heads("memory mix ", dim, config.memory_head_dim, mix),
    }  # fmt: skip


def _of_heads(of: str, dim: int, width: int, attention: AttentionConfig) -> dict[str, bool]:
    """The format knows the width of heads only as a part of the model's."""
    heads, kv = dim // width, attention.num_kv_heads
    return {
        f"{of}head_dim={width}, which does not divide embed_dim={dim}": dim % width > 0,
        f"{of}num_kv_heads={kv}, which does not divide the {heads} heads of embed_dim={dim}":
            dim % width == 0 and heads % kv > 0,
    }  # fmt: skip


def _whole(base: float) -> bool:
    """The format has whole numbers there."""
    return float(base).is_integer()
