"""What models check of their inputs: shapes and types, so that nothing waits for a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def require_ids(ids_BT: Tensor, longest: int) -> None:
    """Ids are a batch of sequences that a model with ``max_seq_len=longest`` takes; ValueError."""
    if ids_BT.dim() != 2:
        raise ValueError(f"ids are [B, T], got {list(ids_BT.shape)}; one sequence is ids[None]")
    require_length(ids_BT.shape[1], longest)


def require_length(length: int, longest: int) -> None:
    """A sequence has at least one token and at most ``longest``; ValueError."""
    if length < 1:
        raise ValueError("a sequence has at least one token, got none")
    if length > longest:
        raise ValueError(
            f"a sequence of {length} tokens is longer than max_seq_len={longest}; shorten it, or "
            "make the model with a larger max_seq_len"
        )


def look_up(embedding: nn.Embedding, ids_BT: Tensor) -> Tensor:
    """Embeddings [B, T, D]; on a CPU, IndexError names the ids. A GPU looks at them too late."""
    try:
        return embedding(ids_BT)
    except IndexError as error:
        low, high = int(ids_BT.min()), int(ids_BT.max())
        raise IndexError(
            f"ids from {low} to {high} are not all in the vocabulary, which has 0 to "
            f"{embedding.num_embeddings - 1}"
        ) from error


def require_shape(name: str, found: Tensor, expected: tuple[int, ...]) -> None:
    """``found`` has the shape ``expected``; ValueError."""
    if found.shape != expected:
        raise ValueError(f"{name} must have shape {list(expected)}, got {list(found.shape)}")


def require_memory(shape: tuple[int, int, int], memory_LBSD: Tensor) -> None:
    """Memories are those of a model whose memory has ``shape``, [L, S, D]; ValueError."""
    layers, slots, width = shape
    require_shape("a memory", memory_LBSD, (layers, *memory_LBSD.shape[1:2], slots, width))


def require_update(
    shape: tuple[int, int, int], memory_LBSD: Tensor, encoded_LBTD: Tensor, longest: int
) -> None:
    """Memories as in ``require_memory``, and as many interactions that fit them; ValueError."""
    layers, slots, width = shape
    found, heard = memory_LBSD.shape, encoded_LBTD.shape
    # Every update comes by here, so what is as it should be is seen at once.
    if not (len(heard) == 4 and heard[0] == layers and heard[3] == width):
        require_shape("what was encoded", encoded_LBTD, (layers, *heard[1:3], width))
    if found != (layers, heard[1], slots, width):
        require_memory(shape, memory_LBSD)
        raise ValueError(f"{found[1]} memories cannot take {heard[1]} interactions")
    require_length(heard[2], longest)


def as_mask(mask: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """``mask`` as truth values; whole numbers are those of tokenizers, 0 where there is no token.

    A floating mask could as well be what is added to scores, so it is refused.

    Raises:
        TypeError: a mask of floating numbers.
        ValueError: a mask of another shape than ``shape``.
    """
    if mask.dtype is not torch.bool:
        if mask.is_floating_point() or mask.is_complex():
            raise TypeError(
                f"a mask is True (or 1) where there is a token, got {mask.dtype}; use mask.bool()"
            )
        mask = mask != 0
    if shape is not None:
        require_shape("the mask", mask, shape)
    return mask


def readers(batch: int, memories: int) -> int:
    """How many of ``batch`` rows read each of ``memories``: as many of each; ValueError."""
    if batch == memories:
        return 1
    if not memories or not batch or batch % memories:
        raise ValueError(
            f"{batch} rows cannot read {memories} memories: row b reads memory b // (B / memories),"
            " so B must be a multiple of them"
        )
    return batch // memories
