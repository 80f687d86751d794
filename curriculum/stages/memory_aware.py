"""Memory-aware supervised stage: back-propagation through a whole dialogue's memory.

The encoder does not read the memory and the decoder reads only the state before its turn. So with
teacher forcing all turns are encoded in one batch, the memory is folded turn by turn, and all
probes of all states are decoded in one batch; the gradient crosses every memory update.
"""

# Shape suffixes: B dialogues, T turns, W tokens of a turn, R probed states, P probes of a state,
# L layers, S slots, D width.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rxtmodel.memory import DeltaWrite

from ..batch import PAD_ID, DialogueBatch

if TYPE_CHECKING:
    from rxtmodel.model import ReactiveTransformer


@dataclass(slots=True)
class StageOutput:
    """Loss and the figures of one step, all on the device, none of them synchronised."""

    loss: Tensor
    token_accuracy: Tensor
    """Share of scored tokens that the model would have chosen."""


class MemoryAwareStage(nn.Module):
    """Loss of a batch of dialogues. ``model`` is trained in place.

    Shapes: see ``DialogueBatch``; W is the same for turns and probes.
    """

    def __init__(self, model: ReactiveTransformer, *, max_answer: int = 40) -> None:
        super().__init__()
        self.model = model
        self.max_answer = max_answer

    def forward(self, batch: DialogueBatch) -> StageOutput:
        states_RLBSD = self.memory_states(batch.turns_BTW)[batch.states_R]
        return self.decode(states_RLBSD, batch)

    def memory_states(self, turns_BTW: Tensor) -> Tensor:
        """Every memory of a dialogue, before the first turn and after each, [T + 1, L, B, S, D]."""
        batch, turns, width = turns_BTW.shape
        model, write = self.model, self.model.memory_write
        # Turn-major, so that a turn's rows are contiguous in the loop below.
        ids = turns_BTW.transpose(0, 1).reshape(turns * batch, width).long()
        mask = ids != PAD_ID
        encoded = model.encode(ids, mask)
        memory = model.initial_memory(batch)
        states = [memory]
        if isinstance(write, DeltaWrite):
            erase, new = write.prepare(encoded, mask)
            erase, new = (x.unflatten(1, (turns, batch)).unbind(1) for x in (erase, new))
            for prepared in zip(erase, new, strict=True):
                states.append(write.fold(states[-1], prepared))
        else:
            per_turn = encoded.unflatten(1, (turns, batch)).unbind(1)
            for part, part_mask in zip(per_turn, mask.view(turns, batch, width), strict=True):
                states.append(model.attend(states[-1], part, part_mask).float())
        return torch.stack(states)

    def decode(self, states_RLBSD: Tensor, batch: DialogueBatch) -> StageOutput:
        """Cross-entropy of the probes' answers, mean over scored tokens."""
        width = batch.probes_BRPW.shape[-1]
        # [B, R, P, W] -> [R * B * P, W]; probes of one state share a memory row.
        ids = batch.probes_BRPW.transpose(0, 1).reshape(-1, width).long()
        scored = batch.targets_BRPW.transpose(0, 1).reshape(-1, width)[:, 1:]
        memory = states_RLBSD.transpose(0, 1).flatten(1, 2)
        hidden = self.model.hidden(ids, memory)[:, :-1]
        # Only the answer's positions go through the head: it is the largest product of the step.
        start = scored.int().argmax(-1, keepdim=True)
        index = (start + self._offsets(ids.device)).clamp(max=width - 2)
        hidden = hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[-1]))
        scored = scored.gather(1, index) & (index - start == self._offsets(ids.device))
        target = ids[:, 1:].gather(1, index)
        logits = self.model.logits(hidden).float()
        losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
        count = scored.sum().clamp(min=1)
        loss = (losses * scored.flatten()).sum() / count
        right = (logits.argmax(-1) == target) & scored
        return StageOutput(loss, right.sum() / count)

    def _offsets(self, device: torch.device) -> Tensor:
        return torch.arange(self.max_answer, device=device)
