"""The recall benchmark: is what was told still known, whose is it, and is not knowing admitted?

Answers are greedy and must equal the expected sentence to the letter. In mode "own" the model lives
through the dialogue with the answers it gives itself, as in use; "gold" feeds it the right answers.
"""

# Shape suffixes: L layers, B episodes, S slots, D width.

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from rxtmodel.generate import generate, pad
from rxtmodel.template import PAD, interaction_ids, query_ids

from ..dialogue_data import Encode, WordEncoder
from .episodes import (
    Episode,
    confusable_episode,
    distance_episode,
    self_episode,
    unknown_episode,
    update_episode,
)

if TYPE_CHECKING:
    from rxtmodel import ReactiveTransformer

Mode = Literal["own", "gold"]
Control = Literal["zeroed", "swapped", "frozen"]
Decode = Callable[[Sequence[int]], str]

UNKNOWN_PREFIX = "I do not know"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the table: how its episodes are drawn."""

    suite: str
    name: str
    draw: Callable[[random.Random], Episode]
    control: Control | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """What was counted over the questions of a cell."""

    questions: int
    right: int
    stale: int = 0
    """Answers that give an earlier value of the fact."""


def cells(*, max_distance: int = 64) -> Iterator[Cell]:
    """All cells, in the order of the table."""
    for facts in (4, 8, 16):
        for d in (1, 2, 4, 8, 16, 32, 64):
            if d <= max_distance:
                yield Cell(
                    f"distance, up to {facts} facts",
                    str(d),
                    lambda rng, d=d, facts=facts: distance_episode(
                        rng, distance=d, max_facts=facts
                    ),
                )
    for k in (1, 2, 3):
        yield Cell(
            "others of the same attribute",
            str(k),
            lambda rng, k=k: confusable_episode(rng, confusers=k),
        )
    for d in (1, 4, 16):
        yield Cell("updated", str(d), lambda rng, d=d: update_episode(rng, distance=d))
    for d in (1, 4, 16):
        yield Cell("about oneself", str(d), lambda rng, d=d: self_episode(rng, distance=d))
    yield Cell("never told", "recognised", unknown_episode_default)
    for control in ("zeroed", "swapped", "frozen"):
        yield Cell("control", control, control_episode, control)


def unknown_episode_default(rng: random.Random) -> Episode:
    return unknown_episode(rng)


def control_episode(rng: random.Random) -> Episode:
    """The same kinds of questions as the main suites ask."""
    if rng.random() < 0.5:
        return distance_episode(rng, distance=rng.choice((1, 2, 4, 8)), max_facts=4)
    return confusable_episode(rng, confusers=rng.randint(1, 3))


class RecallEvaluation:
    """Runs cells on a model.

    Args:
        batch: episodes lived through at once.
    """

    def __init__(
        self,
        model: ReactiveTransformer,
        encode: Encode,
        decode: Decode,
        *,
        mode: Mode = "own",
        batch: int = 256,
        max_tokens: int = 48,
    ) -> None:
        self._model, self._encode, self._decode = model, WordEncoder(encode), decode
        self._mode, self._batch, self._max_tokens = mode, batch, max_tokens
        self._device = model.embedding.weight.device

    def score(self, cell: Cell, *, questions: int, seed: int) -> Score:
        """Ask ``questions`` questions of a cell."""
        rng = random.Random(f"recall/{cell.suite}/{cell.name}/{seed}")
        episodes = [cell.draw(rng) for _ in range(questions)]
        # Episodes of similar length together: the shorter ones of a batch wait for the longest.
        episodes.sort(key=lambda episode: len(episode.turns))
        right = stale = 0
        for first in range(0, questions, self._batch):
            part = episodes[first : first + self._batch]
            for episode, answer in zip(part, self.answers(part, cell.control), strict=True):
                right += is_right(episode.question, answer)
                stale += any(answer.endswith(f" {value}.") for value in episode.stale)
        return Score(questions, right, stale)

    @torch.inference_mode()
    def answers(self, episodes: Sequence[Episode], control: Control | None = None) -> list[str]:
        """Live through the episodes' turns and answer their questions."""
        memory = self._model.initial_memory(len(episodes)).to(self._device)
        if control != "frozen":
            for t in range(max(len(episode.turns) for episode in episodes)):
                rows = [i for i, episode in enumerate(episodes) if t < len(episode.turns)]
                memory = self._live(memory, rows, [episodes[i].turns[t] for i in rows])
        if control == "zeroed":
            memory = torch.zeros_like(memory)
        elif control == "swapped":
            memory = memory.roll(1, dims=1)
        questions = [query_ids(self._encode(episode.question.query)) for episode in episodes]
        found = generate(self._model, questions, memory, max_tokens=self._max_tokens)
        return [self._decode(ids) for ids in found]

    def _live(self, memory: Tensor, rows: list[int], turns: list) -> Tensor:
        everyone = len(rows) == memory.shape[1]
        part = memory if everyone else memory[:, rows]
        queries = [self._encode(turn.query) for turn in turns]
        if self._mode == "own":
            prompts = [query_ids(query) for query in queries]
            answers = generate(self._model, prompts, part, max_tokens=self._max_tokens)
        else:
            answers = [self._encode(turn.answer) for turn in turns]
        whole = [interaction_ids(q, a) for q, a in zip(queries, answers, strict=True)]
        ids = pad(whole, device=self._device)
        mask = ids != PAD
        part = self._model.attend(part, self._model.encode(ids, mask), mask)
        if everyone:
            return part
        memory = memory.clone()
        memory[:, rows] = part
        return memory


def is_right(question: object, answer: str) -> bool:
    """Exact match for what was told; for what was not, that the model says so."""
    if question.kind == "unknown":
        return answer.startswith(UNKNOWN_PREFIX)
    return answer == question.answer
