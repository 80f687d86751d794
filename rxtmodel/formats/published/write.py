"""Writing a model in the published format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config_out import to_published
from .keys import entries
from .unheld import require_published_form

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ...config import LmConfig


def write_published(
    config: LmConfig, weights: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The content of ``config.json``, every default spelled out, and the tensors.

    What two parts share is written for both: the reference implementation leaves an embedding that
    it does not find at random values. Raises CheckpointError naming what the format cannot hold.
    """
    config = require_published_form(config)
    published = to_published(config)
    out = {
        key: part
        for entry in entries(list(weights), config)
        for key, part in zip(entry.published, entry.write(weights[entry.ours]), strict=True)
    }
    out["memory_attention.model.stm.memory"] = out["decoder.model.stm.memory"]
    if config.share_embedding:
        out["encoder.model.embedding.weight"] = out["decoder.model.embedding.weight"]
    return published, out
