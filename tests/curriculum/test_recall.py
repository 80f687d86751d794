"""The recall benchmark, run on stand-ins that know everything, nothing, or what used to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from types import SimpleNamespace

import pytest
import torch

from curriculum.evals import recall
from curriculum.evals.episodes import Episode, distance_episode, unknown_episode, update_episode
from curriculum.evals.recall import Cell, RecallEvaluation, Score, cells, control_episode, is_right
from rxtmodel.template import interaction_ids, query_ids

from .tiny import FIRST, pieces

History = tuple[tuple[int, ...], ...]


class Codec:
    """A token for each word, and back."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def encode(self, text: str) -> list[int]:
        for piece in pieces(text):
            if piece not in self.words:
                self.words.append(piece)
        return [FIRST + self.words.index(piece) for piece in pieces(text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.words[i - FIRST] for i in ids)


class StandIn:
    """Its memory is the number of a history: all that it has lived through, word for word."""

    def __init__(self) -> None:
        self.embedding = SimpleNamespace(weight=torch.zeros(1))
        self.histories: list[History] = [()]

    def initial_memory(self, batch: int) -> torch.Tensor:
        return torch.zeros(1, batch, 1, 1)

    def encode(self, ids: torch.Tensor, mask: torch.Tensor) -> list[tuple[int, ...]]:
        return [tuple(row[keep].tolist()) for row, keep in zip(ids, mask, strict=True)]

    def attend(self, memory: torch.Tensor, encoded: list, mask: torch.Tensor) -> torch.Tensor:
        new = memory.clone()
        for row, interaction in enumerate(encoded):
            self.histories.append((*self.history(memory, row), interaction))
            new[0, row] = len(self.histories) - 1
        return new

    def history(self, memory: torch.Tensor, row: int) -> History:
        return self.histories[int(memory[0, row, 0, 0])]


class Bench:
    """An evaluation of a stand-in whose answers a function gives: (history, query) -> text."""

    def __init__(self, monkeypatch, answer: Callable[[History, str], str], **settings) -> None:
        self.codec, self.model, self.answer = Codec(), StandIn(), answer
        self.episodes: list[Episode] = []
        self.asked: list[tuple[History, str]] = []
        monkeypatch.setattr(recall, "generate", self.generate)
        options = {"batch": 16, **settings}
        self.run = RecallEvaluation(self.model, self.codec.encode, self.codec.decode, **options)

    def generate(self, model, prompts, memory, *, max_tokens: int) -> list[list[int]]:
        found = []
        for row, prompt in enumerate(prompts):
            assert query_ids(prompt[2:-1]) == list(prompt)
            query = self.codec.decode(prompt[2:-1])
            self.asked.append((model.history(memory, row), query))
            found.append(self.codec.encode(self.answer(*self.asked[-1])))
        return found

    def score(self, draw: Callable[[Random], Episode], control=None, questions: int = 40) -> Score:
        def keep(rng: Random) -> Episode:
            self.episodes.append(draw(rng))
            return self.episodes[-1]

        return self.run.score(Cell("suite", "cell", keep, control), questions=questions, seed=0)

    def gold(self, episode: Episode, turns: int | None = None) -> History:
        """The first turns with their right answers."""
        encode = self.codec.encode
        lived = episode.turns if turns is None else episode.turns[:turns]
        return tuple(tuple(interaction_ids(encode(t.query), encode(t.answer))) for t in lived)

    def know_all(self, history: History, query: str) -> str:
        """The right answer of whoever remembers exactly this dialogue."""
        for episode in self.episodes:
            following = (*episode.turns, episode.question)[len(history) :][:1]
            if history == self.gold(episode, len(history)):
                for turn in following:
                    if turn.query == query:
                        return turn.answer
        return "who knows?"


def perfect(monkeypatch, **settings) -> Bench:
    bench = Bench(monkeypatch, lambda *_: "", **settings)
    bench.answer = bench.know_all
    return bench


def far(rng: Random) -> Episode:
    return distance_episode(rng, distance=rng.choice((1, 3, 5)), max_facts=4)


def changed(rng: Random) -> Episode:
    return update_episode(rng, distance=3)


@pytest.mark.parametrize("mode", ["own", "gold"])
@pytest.mark.parametrize("draw", [far, changed, unknown_episode], ids=lambda f: f.__name__)
def test_who_remembers_every_turn_has_all_right(monkeypatch, mode, draw):
    bench = perfect(monkeypatch, mode=mode)
    assert bench.score(draw) == Score(40, 40, 0)


def test_every_episode_lives_through_its_own_turns_in_order(monkeypatch):
    """Also in a batch of episodes of different lengths, where short ones wait for the longest."""
    bench = Bench(monkeypatch, lambda *_: "hm", mode="gold")
    bench.score(far)
    expected = {(bench.gold(e), e.question.query) for e in bench.episodes}
    assert len({len(e.turns) for e in bench.episodes}) > 3
    assert set(bench.asked) == expected
    assert len(bench.asked) == 40, "a fed answer is not generated"


def test_in_own_mode_the_model_lives_with_what_it_said_itself(monkeypatch):
    bench = Bench(monkeypatch, lambda *_: "hm, well", mode="own")
    bench.score(far)
    said = tuple(interaction_ids([], bench.codec.encode("hm, well"))[2:])
    assert len(bench.asked) == 40 + sum(len(e.turns) for e in bench.episodes)
    assert all(turn[-len(said) :] == said for history, _ in bench.asked for turn in history)


@pytest.mark.parametrize("control", ["zeroed", "frozen"])
def test_without_memory_nothing_is_known(monkeypatch, control):
    bench = perfect(monkeypatch, mode="gold")
    assert bench.score(control_episode, control) == Score(40, 0, 0)
    questions = bench.asked[-40:]
    assert all(history == () for history, _ in questions)


def test_frozen_lives_through_nothing_and_zeroed_forgets_all(monkeypatch):
    for control, lived in (("frozen", False), ("zeroed", True)):
        bench = perfect(monkeypatch, mode="gold")
        bench.score(control_episode, control)
        assert (len(bench.model.histories) > 1) == lived


def test_swapped_asks_about_the_memory_of_another(monkeypatch):
    bench = perfect(monkeypatch, mode="gold", batch=40)
    score = bench.score(far, "swapped")
    assert score.right == 0
    own = {(bench.gold(e), e.question.query) for e in bench.episodes}
    assert not own & set(bench.asked)
    assert {history for history, _ in bench.asked} == {bench.gold(e) for e in bench.episodes}


def test_who_always_says_he_does_not_know_is_right_about_the_unknown_only(monkeypatch):
    blank = Bench(monkeypatch, lambda *_: "I do not know that.")
    assert blank.score(unknown_episode) == Score(40, 40, 0)
    assert blank.score(far) == Score(40, 0, 0)


def test_who_answers_with_what_used_to_be_is_stale(monkeypatch):
    bench = Bench(monkeypatch, lambda *_: "", mode="gold")

    def used_to_be(history: History, query: str) -> str:
        episode = next(e for e in bench.episodes if bench.gold(e) == history)
        return episode.question.answer.replace(episode.question.value, episode.stale[0])

    bench.answer = used_to_be
    assert bench.score(changed) == Score(40, 0, 40)


@pytest.mark.parametrize("wrong", ["{}.", "{} .", " {}", "the {}", ""])
def test_an_answer_is_right_to_the_letter_or_wrong(wrong):
    question = distance_episode(Random(1), distance=1, max_facts=1).question
    assert is_right(question, question.answer)
    assert not is_right(question, wrong.format(question.answer))


def test_the_same_seed_asks_the_same_questions(monkeypatch):
    asked = []
    for batch in (7, 16):
        bench = Bench(monkeypatch, lambda *_: "hm", mode="gold", batch=batch)
        bench.score(far)
        asked.append([(len(history), query) for history, query in bench.asked])
    assert asked[0] == asked[1], "whatever the batch is"


def test_no_questions_give_no_score(monkeypatch):
    assert perfect(monkeypatch).score(far, questions=0) == Score(0, 0, 0)


def test_the_table_has_every_suite_once_and_stops_at_the_longest_distance():
    names = [(cell.suite, cell.name) for cell in cells()]
    assert len(set(names)) == len(names)
    assert {c.control for c in cells()} == {None, "zeroed", "swapped", "frozen"}
    short = [(c.suite, c.name) for c in cells(max_distance=4)]
    assert {name for suite, name in short if suite.startswith("distance")} == {"1", "2", "4"}
    for cell in cells():
        assert isinstance(cell.draw(Random(0)), Episode)
