"""Language models without a memory, made into Reactive Transformers that learn to have one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .config import AttentionConfig, MemoryConfig, RxtConfig
from .config.checks import require
from .errors import CheckpointError, ConfigError
from .files import CONFIG_FILE, check_weights, read_generation, read_json, read_shards
from .formats.llama import decoder_weights
from .formats.llama_config import fields_of, token_ids
from .model import ReactiveTransformer

if TYPE_CHECKING:
    from collections.abc import Collection

    from .config import MemoryVariant


def extend_llama(
    folder: Path | str,
    *,
    variant: MemoryVariant = "interlayer",
    num_slots: int = 64,
    max_seq_len: int | None = None,
    seed: int = 0,
    first_new_id: int | None = None,
    special_ids: Collection[int] | None = None,
) -> ReactiveTransformer:
    """A Llama-style decoder (``formats.llama``) with an encoder and a memory around it.

    The decoder's weights are the checkpoint's. Its layers' memory reads are new, and what they give
    is multiplied by zero: whatever the memory holds, the logits are those of the checkpoint until
    the reads are trained. The encoder starts as a copy of the decoder's layers; the memory
    attention is drawn by ``seed``. Tokens of the interaction template that the vocabulary lacks are
    put after it, each as the mean of all tokens.

    Args:
        max_seq_len: longest interaction; None: what the checkpoint was made for, at most 4096.
        first_new_id: where the vocabulary ends; None: with the checkpoint's embedding, which may
            have rows that no token uses. New tokens take such rows before there are more.
        special_ids: what the tokenizer takes for special tokens: of several ends of an answer only
            those are kept. None: all are.

    Raises:
        ConfigError: a variant or size of the memory that cannot be, or another argument.
        CheckpointError: not such a checkpoint, or one whose decoder we cannot compute exactly; the
            message names the field and its value, or the weight.
    """
    for name, value in (("max_seq_len", max_seq_len), ("first_new_id", first_new_id)):
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        require(value is None or whole, f"{name} must be a whole number >= 1, got {value!r}")
    require(isinstance(seed, int), f"seed must be a whole number, got {seed!r}")
    asked = MemoryConfig(variant=variant, num_slots=num_slots)
    folder = Path(folder)
    data = read_json(folder)
    try:
        fields = fields_of(data, max_seq_len)
        first = fields["vocab_size"] if first_new_id is None else first_new_id
        tokens, new = token_ids(data, first, read_generation(folder), special_ids)
        size = max(fields["vocab_size"], first + new)
        memory = _memory(asked, fields["embed_dim"], fields["head_dim"])
        config = RxtConfig(**{**fields, "vocab_size": size}, tokens=tokens, memory=memory)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {error}") from error
    weights = decoder_weights(str(folder), fields, read_shards(folder))
    for name in ("embedding.weight", "head.weight"):
        if name in weights:
            weights[name] = _with_new_rows(weights[name].float(), first, new)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = ReactiveTransformer(config)
    expected = {n: w.shape for n, w in model.state_dict().items() if not _is_new(n)}
    check_weights(str(folder), weights, expected)
    model.load_state_dict(weights, strict=False)
    for source, target in zip(model.decoder, model.encoder, strict=True):
        for part in ("attention_norm", "attention", "ff_norm", "ff"):
            getattr(target, part).load_state_dict(getattr(source, part).state_dict())
    for layer in model.decoder:
        nn.init.zeros_(layer.memory_read.out_proj.weight)
    return model.eval()


def _memory(asked: MemoryConfig, dim: int, width: int) -> MemoryConfig:
    """With as many heads of the decoder's width as there is room for."""
    heads = dim // width if dim % width == 0 else 1
    attention = AttentionConfig(num_query_heads=heads, num_kv_heads=heads)
    return dataclasses.replace(asked, num_heads=heads, read=attention, write=attention)


def _is_new(name: str) -> bool:
    """Whether a weight is of what the checkpoint does not have."""
    return name.startswith(("encoder.", "memory_")) or ".memory_" in name


def _with_new_rows(table_VD: Tensor, first: int, count: int) -> Tensor:
    """Rows ``first .. first + count`` as the mean of those before; the others as they are."""
    mean_D = table_VD[:first].mean(0)
    size = max(len(table_VD), first + count)
    out_VD = torch.cat((table_VD, mean_D.expand(size - len(table_VD), -1)))
    out_VD[first : first + count] = mean_D
    return out_VD
