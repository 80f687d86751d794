"""Episodes of the recall benchmark: told once, asked at a distance, never seen in training."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest

from curriculum.dialogues import SELF, Fact, Turn, World, is_held_out
from curriculum.evals import episodes
from curriculum.evals.episodes import (
    Episode,
    confusable_episode,
    distance_episode,
    self_episode,
    unknown_episode,
    update_episode,
)
from curriculum.evals.recall import UNKNOWN_PREFIX, control_episode

SEEDS = range(150)


class Witness(World):
    """Remembers which fact was told or changed in which turn, and which was asked for."""

    latest: Witness

    def __init__(self, *args, **settings) -> None:
        super().__init__(*args, **settings)
        self.told: list[tuple[Turn, Fact]] = []
        self.changed: list[tuple[Turn, Fact]] = []
        self.asked: Fact | None = None
        Witness.latest = self

    def tell(self, *facts: Fact) -> Turn:
        turn = super().tell(*facts)
        self.told += [(turn, fact) for fact in facts]
        return turn

    def update(self, fact: Fact, *args) -> Turn:
        turn = super().update(fact, *args)
        self.changed.append((turn, fact))
        return turn

    def ask(self, fact: Fact) -> Turn:
        self.asked = fact
        return super().ask(fact)


@dataclass
class Seen:
    """An episode and what its witness saw of the fact that is asked for."""

    episode: Episode
    world: Witness

    def __post_init__(self) -> None:
        asked = self.world.asked
        self.tellings = [self.place(turn) for turn, fact in self.world.told if same(fact, asked)]
        self.changes = [self.place(turn) for turn, fact in self.world.changed if same(fact, asked)]

    def place(self, turn: Turn) -> int:
        """How many turns before the question: 1 is the last one."""
        (index,) = [i for i, other in enumerate(self.episode.turns) if other is turn]
        return len(self.episode.turns) - index


def same(fact: Fact, other: Fact | None) -> bool:
    return other is not None and (fact.owner, fact.attribute) == (other.owner, other.attribute)


@pytest.fixture
def draw(monkeypatch):
    monkeypatch.setattr(episodes, "World", Witness)

    def draw(function, seed: int, **settings) -> Seen:
        return Seen(function(Random(seed), **settings), Witness.latest)

    return draw


def right_answer_is_what_was_told(seen: Seen) -> None:
    question = seen.episode.question
    last = min(seen.tellings + seen.changes)
    turn = seen.episode.turns[len(seen.episode.turns) - last]
    assert question.kind == "ask"
    assert question.value == turn.value
    assert question.answer.endswith(f" {turn.value}.")


@pytest.mark.parametrize("distance", [1, 2, 8, 32])
def test_the_fact_is_told_once_at_the_distance(draw, distance):
    for seed in SEEDS:
        seen = draw(distance_episode, seed, distance=distance, max_facts=8)
        assert seen.tellings == [distance]
        assert len(seen.world.told) <= 8
        assert not seen.world.changed
        right_answer_is_what_was_told(seen)


def test_other_facts_stand_before_and_between(draw):
    before, between = set(), set()
    for seed in SEEDS:
        seen = draw(distance_episode, seed, distance=8, max_facts=8)
        places = [seen.place(turn) for turn, _ in seen.world.told]
        before.add(sum(place > 8 for place in places))
        between.add(sum(place < 8 for place in places))
    assert len(before) > 4
    assert len(between) > 4


@pytest.mark.parametrize("confusers", [1, 2, 3])
def test_confusers_share_the_attribute_and_nothing_else(draw, confusers):
    asked_first = 0
    for seed in SEEDS:
        seen = draw(confusable_episode, seed, confusers=confusers)
        attribute = seen.world.asked.attribute
        facts = [f for f in seen.world.facts if f.attribute == attribute]
        assert len(facts) >= confusers + 1
        assert len({f.owner for f in facts}) == len(facts)
        assert len({f.value.lower() for f in facts}) == len(facts)
        assert len(seen.tellings) == 1
        right_answer_is_what_was_told(seen)
        asked_first += same(seen.world.told[0][1], seen.world.asked)
    assert 0 < asked_first < len(SEEDS), "any of them may be asked for"


@pytest.mark.parametrize("distance", [1, 4, 16])
def test_the_last_change_stands_at_the_distance(draw, distance):
    numbers = set()
    for seed in SEEDS:
        seen = draw(update_episode, seed, distance=distance)
        assert min(seen.changes) == distance
        assert len(seen.tellings) == 1
        assert seen.tellings[0] > max(seen.changes)
        right_answer_is_what_was_told(seen)
        numbers.add(len(seen.changes))
    assert numbers == {1, 2}


def test_stale_values_are_those_that_were_said_and_hold_no_longer(draw):
    for seed in range(400):
        seen = draw(update_episode, seed, distance=4)
        said = [
            seen.episode.turns[len(seen.episode.turns) - place].value
            for place in sorted(seen.tellings + seen.changes, reverse=True)
        ]
        assert list(seen.episode.stale) == said[:-1]
        assert said[-1] == seen.episode.question.value
        assert seen.episode.question.value not in seen.episode.stale


def test_what_was_never_told_has_no_answer(draw):
    lengths = set()
    for seed in SEEDS:
        seen = draw(unknown_episode, seed)
        assert seen.episode.question.kind == "unknown"
        assert seen.episode.question.answer.startswith(UNKNOWN_PREFIX)
        assert 1 <= len(seen.world.told) <= 4
        assert seen.world.asked is None
        lengths.add(len(seen.episode.turns))
    assert len(lengths) > 3


@pytest.mark.parametrize("distance", [1, 4, 16])
def test_facts_about_oneself_are_told_once_at_the_distance(draw, distance):
    for seed in SEEDS:
        seen = draw(self_episode, seed, distance=distance)
        assert seen.tellings == [distance]
        assert {fact.owner for _, fact in seen.world.told} == {SELF}
        right_answer_is_what_was_told(seen)


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        (distance_episode, {"distance": 8, "max_facts": 8}),
        (confusable_episode, {"confusers": 2}),
        (update_episode, {"distance": 4}),
        (unknown_episode, {}),
        (control_episode, {}),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_only_pairs_that_training_never_shows_are_told(draw, function, settings):
    for seed in SEEDS:
        seen = draw(function, seed, **settings)
        assert seen.world.told
        assert all(is_held_out(f.owner, f.attribute) for _, f in seen.world.told)


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        (distance_episode, {"distance": 8, "max_facts": 8}),
        (confusable_episode, {"confusers": 2}),
        (update_episode, {"distance": 4}),
        (unknown_episode, {}),
        (self_episode, {"distance": 4}),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_the_same_seed_draws_the_same_episode(function, settings):
    assert function(Random(5), **settings) == function(Random(5), **settings)
    assert function(Random(5), **settings) != function(Random(6), **settings)
