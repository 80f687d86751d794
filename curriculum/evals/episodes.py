"""Episodes of the recall benchmark: a dialogue, one question at its end, and what counts as right.

Every fact in an episode is mentioned exactly once before the question (updated facts: once for each
value), so the distance is the number of turns since the memory last saw it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..dialogues import SELF, Fact, Turn, World

if TYPE_CHECKING:
    import random


@dataclass(frozen=True, slots=True)
class Episode:
    """``turns`` are lived through in order, then ``question`` is asked."""

    turns: tuple[Turn, ...]
    question: Turn
    stale: tuple[str, ...] = ()
    """Earlier values of the fact that is asked for."""


def distance_episode(rng: random.Random, *, distance: int, max_facts: int) -> Episode:
    """One of 1..max_facts facts, asked ``distance`` turns after it was told (1: the next turn).

    Other facts stand before it or between, small talk fills the rest.
    """
    world = World(rng, held_out=True)
    others = rng.randint(0, max_facts - 1)
    gap = distance - 1
    between = min(rng.randint(0, others), gap)
    lead = [world.tell(world.invent()) for _ in range(others - between)]
    lead += [world.chat() for _ in range(rng.randint(0, 2))]
    rng.shuffle(lead)
    fact = world.invent()
    told = world.tell(fact)
    rest = [world.tell(world.invent()) for _ in range(between)]
    rest += [world.chat() for _ in range(gap - between)]
    rng.shuffle(rest)
    return Episode((*lead, told, *rest), world.ask(fact))


def confusable_episode(rng: random.Random, *, confusers: int) -> Episode:
    """A fact among ``confusers`` facts of the same attribute about others, and 0..2 more facts."""
    world = World(rng, held_out=True)
    fact = world.invent()
    turns = [world.tell(fact)]
    facts = [fact]
    for _ in range(confusers):
        facts.append(world.invent(attribute=fact.attribute))
        turns.append(world.tell(facts[-1]))
    turns += [world.tell(world.invent()) for _ in range(rng.randint(0, 2))]
    turns += [world.chat() for _ in range(rng.randint(0, 4))]
    rng.shuffle(turns)
    return Episode(tuple(turns), world.ask(rng.choice(facts)))


def update_episode(rng: random.Random, *, distance: int, max_facts: int = 4) -> Episode:
    """A fact whose value changed once or twice, asked ``distance`` turns after the last change."""
    world = World(rng, held_out=True)
    others = [world.tell(world.invent()) for _ in range(rng.randint(0, max_facts - 1))]
    fact = world.invent()
    turns = [world.tell(fact)]
    fact = current(world, fact)  # as it was told, perhaps in lower case
    stale = []
    for _ in range(rng.randint(1, 2)):
        stale.append(fact.value)
        turns += [world.chat() for _ in range(rng.randint(0, 2))]
        turns.append(world.update(fact))
        fact = current(world, fact)
    between = min(len(others), distance - 1, rng.randint(0, 3))
    rest = others[:between] + [world.chat() for _ in range(distance - 1 - between)]
    rng.shuffle(rest)
    stale = [value for value in stale if value != fact.value]
    return Episode((*others[between:], *turns, *rest), world.ask(fact), tuple(stale))


def unknown_episode(rng: random.Random, *, max_facts: int = 4) -> Episode:
    """A question about something that was never told, half of them close to what was."""
    world = World(rng, held_out=True)
    facts = [world.invent() for _ in range(1)]
    turns = [world.tell(facts[0])]
    for _ in range(rng.randint(0, max_facts - 1)):
        facts.append(world.invent())
        turns.append(world.tell(facts[-1]))
    turns += [world.chat() for _ in range(rng.randint(0, 3))]
    rng.shuffle(turns)
    close = rng.choice(facts) if rng.random() < 0.5 else None
    return Episode(tuple(turns), world.ask_unknown(like=close))


def self_episode(rng: random.Random, *, distance: int, max_facts: int = 4) -> Episode:
    """Facts the user tells of themself; these pairs are in training, their values are not."""
    world = World(rng, held_out=None)
    others = rng.randint(0, max_facts - 1)
    between = min(rng.randint(0, others), distance - 1)
    lead = [world.tell(world.invent(owner=SELF)) for _ in range(others - between)]
    fact = world.invent(owner=SELF)
    told = world.tell(fact)
    rest = [world.tell(world.invent(owner=SELF)) for _ in range(between)]
    rest += [world.chat() for _ in range(distance - 1 - between)]
    rng.shuffle(rest)
    return Episode((*lead, told, *rest), world.ask(fact))


def current(world: World, fact: Fact) -> Fact:
    """The fact as it stands now."""
    return next(f for f in world.facts if f.owner == fact.owner and f.attribute == fact.attribute)
