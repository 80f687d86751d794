"""What a training step is fed: dialogues as token ids, with questions about their memory."""

# Shape suffixes: B dialogues, T turns, W tokens of a turn (padded), R states that are probed,
# P probes of each state.

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(slots=True)
class DialogueBatch:
    """A batch of dialogues and of questions asked at some of their memory states.

    A turn is a whole interaction in the model's template, padded with ``PAD_ID`` on the right. A
    probe is a turn that is decoded from a state, but not written to memory.
    """

    turns_BTW: Tensor
    """int32/int64 token ids of the turns, in order."""
    states_R: Tensor
    """int64: state t is the memory after t turns."""
    probes_BRPW: Tensor
    """Token ids of the probes at each of these states."""
    targets_BRPW: Tensor
    """bool: True where the token is scored (the answer and its end)."""

    def to(self, device: torch.device | str) -> DialogueBatch:
        """The same batch on another device."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return DialogueBatch(**moved)


PAD_ID = 0
