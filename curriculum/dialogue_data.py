"""Batches of generated dialogues: batch i is a pure function of (seed, i), so a run can resume."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from rxtmodel.template import ANSWER, interaction_ids

from .batch import DialogueBatch
from .dialogues import Dialogue, Mix, Turn, sample_dialogue

Encode = Callable[[str], Sequence[int]]
"""Text to token ids; must give the same ids for a text and for its words joined."""

_CACHE_LIMIT = 300_000
_MOST_DRAWS = 1000


class WordEncoder:
    """``encode`` by words, each looked up once. Words keep their leading space."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._known: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        first, *rest = text.split(" ")
        known, ids = self._known, []
        for piece in (first, *(" " + word for word in rest)):
            found = known.get(piece)
            if found is None:
                if len(known) > _CACHE_LIMIT:
                    known.clear()
                found = known[piece] = list(self._encode(piece))
            ids += found
        return ids


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """Sizes of a batch. Every phase of a run has its own, fixed for the whole phase."""

    dialogues: int
    turns: int
    states: int
    """How many memory states of a dialogue are probed; the last one always is."""
    probes: int
    """Decodes for each state; the first is the dialogue's own next turn, where it has one."""
    width: int = 64
    """Longest turn, in tokens; dialogues with a longer one are drawn again."""


def encode_turn(encode: Encode, turn: Turn) -> list[int]:
    return interaction_ids(encode(turn.query), encode(turn.answer))


def make_batch(encode: Encode, rng: random.Random, shape: BatchShape, mix: Mix) -> DialogueBatch:
    """Draw one batch."""
    size = (shape.dialogues, shape.states, shape.probes, shape.width)
    turns = np.zeros((shape.dialogues, shape.turns, shape.width), np.int32)
    probes = np.zeros(size, np.int32)
    earlier = rng.sample(range(1, shape.turns), shape.states - 1)
    states = sorted((*earlier, shape.turns))
    row = draws = 0
    while row < shape.dialogues:
        dialogue = sample_dialogue(
            rng, shape.turns, mix, probe_after=[s - 1 for s in states], probes=shape.probes
        )
        if _fill(encode, dialogue, states, turns[row], probes[row]):
            row, draws = row + 1, 0
            continue
        turns[row], probes[row] = 0, 0
        draws += 1
        if draws == _MOST_DRAWS:
            raise ValueError(
                f"{draws} dialogues in a row had a turn of more than {shape.width} tokens; "
                "use a larger width, or a tokenizer with more tokens"
            )
    # The answer and its end are scored; [A] itself is given.
    targets = (np.cumsum(probes == ANSWER, axis=-1) > 0) & (probes != ANSWER) & (probes != 0)
    arrays = turns, states, probes, targets
    return DialogueBatch(*(torch.from_numpy(np.asarray(x)) for x in arrays))


def _fill(
    encode: Encode, dialogue: Dialogue, states: list[int], turns: np.ndarray, probes: np.ndarray
) -> bool:
    """Write a dialogue into its rows; False when a turn is too long."""
    width, encoded = turns.shape[-1], []
    for t, turn in enumerate(dialogue.turns):
        ids = encode_turn(encode, turn)
        if len(ids) > width:
            return False
        turns[t, : len(ids)] = ids
        encoded.append(ids)
    for s, (state, asked) in enumerate(zip(states, dialogue.probes, strict=True)):
        rows = [encode_turn(encode, turn) for turn in asked]
        if state < len(encoded):
            rows[0] = encoded[state]
        for p, ids in enumerate(rows):
            if len(ids) > width:
                return False
            probes[s, p, : len(ids)] = ids
    return True


class DialogueBatches(Dataset):
    """Batch number i of a phase, drawn on demand, the same for the same seed."""

    def __init__(self, encode: Encode, shape: BatchShape, mix: Mix, seed: int) -> None:
        self._encode, self._shape, self._mix, self._seed = WordEncoder(encode), shape, mix, seed

    def __getitem__(self, index: int) -> DialogueBatch:
        rng = random.Random(f"{self._seed}/{index}")
        return make_batch(self._encode, rng, self._shape, self._mix)


def batches(
    data: DialogueBatches, indices: Sequence[int], *, workers: int
) -> Iterator[DialogueBatch]:
    """Batches in order, prepared by ``workers`` processes ahead of their use."""
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        persistent_workers=False,
        worker_init_fn=_one_thread,
    )
    return iter(loader)


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
