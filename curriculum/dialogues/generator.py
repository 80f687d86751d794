"""Draws whole dialogues: what is told, changed and asked when, and the probes."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from .facts import Fact, Turn
from .values import pick
from .world import World

FIRST_TELL_SHARE = 0.85
KNOWN_PROBE_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """The shares of the kinds of turns, and how dialogues are drawn."""

    tell: float = 0.35
    update: float = 0.12
    ask: float = 0.25
    unknown: float = 0.06
    chat: float = 0.22
    two_facts: float = 0.44
    """How often a tell has two facts, where more than one is still to come: a sixth of all."""
    max_facts: int = 16
    """The facts aimed at are drawn log-uniformly from one to this many."""
    confusable: float = 0.6
    """Share of dialogues whose facts share owners or attributes on purpose."""


DEFAULT_MIX = Mix()


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A dialogue and, for each requested turn, questions about the state after it."""

    turns: tuple[Turn, ...]
    probe_after: tuple[int, ...]
    """Indices of turns, from 0."""
    probes: tuple[tuple[Turn, ...], ...]
    """One tuple for each index of `probe_after`."""


def sample_dialogue(
    rng: Random,
    num_turns: int,
    mix: Mix = DEFAULT_MIX,
    *,
    probe_after: Sequence[int] = (),
    probes: int = 0,
    held_out: bool | None = False,
) -> Dialogue:
    """Draws a dialogue; after each turn in `probe_after`, that many questions beside it."""
    if any(not 0 <= index < num_turns for index in probe_after):
        raise ValueError("probe_after must hold indices of turns")
    world = World(rng, held_out=held_out)
    target = round(mix.max_facts ** rng.random())
    if rng.random() < mix.confusable:
        _focus(world, rng, target)
    wanted = set(probe_after)
    asked: dict[int, tuple[Turn, ...]] = {}
    turns: list[Turn] = []
    for index in range(num_turns):
        turns.append(_turn(world, rng, mix, target, num_turns - index))
        if index in wanted:
            asked[index] = tuple([probe(world, rng) for _ in range(probes)])
    return Dialogue(
        tuple(turns), tuple(probe_after), tuple([asked[index] for index in probe_after])
    )


def probe(world: World, rng: Random) -> Turn:
    """A question about the present state: mostly a told fact, else something never told."""
    facts = world.facts
    if not facts:
        return world.ask_unknown()
    if rng.random() < KNOWN_PROBE_SHARE:
        if rng.random() < 0.5:
            hard = _hard_facts(world)
            return world.ask(pick(rng, hard or facts))
        return world.ask(pick(rng, facts))
    return world.ask_unknown(pick(rng, facts) if rng.random() < 0.5 else None)


def _hard_facts(world: World) -> list[Fact]:
    """The facts that were updated, or whose attribute was told of several owners."""
    counts: dict[object, int] = {}
    for fact in world.facts:
        counts[fact.attribute] = counts.get(fact.attribute, 0) + 1
    stale = world.stale
    return [
        fact
        for fact in world.facts
        if counts[fact.attribute] > 1 or (fact.owner, fact.attribute) in stale
    ]


def _focus(world: World, rng: Random, target: int) -> None:
    """Few attributes of many owners, many attributes of one owner, or a grid."""
    mode = rng.random()
    if mode < 0.4:
        world.focus(attributes=rng.randint(1, 3))
    elif mode < 0.65:
        world.focus(owners=1)
    else:
        owners = rng.randint(2, 4)
        world.focus(owners=owners, attributes=max(2, -(-target // owners)))


def _turn(world: World, rng: Random, mix: Mix, target: int, turns_left: int) -> Turn:
    """The next turn: tells as many as the target needs, the rest by the mix."""
    missing = target - len(world.facts)
    tell = 0.0
    if missing > 0:
        tell = max(mix.tell, min(missing / turns_left, 0.75))
        if turns_left and not world.facts and rng.random() < FIRST_TELL_SHARE:
            tell = 1.0
    if rng.random() < tell:
        return _tell(world, rng, mix, missing)
    known = bool(world.facts)
    update, ask = (mix.update, mix.ask) if known else (0.0, 0.0)
    draw = rng.random() * (update + ask + mix.unknown + mix.chat)
    if draw < update:
        return world.update(pick(rng, world.facts))
    if draw < update + ask:
        return world.ask(_remembered(world, rng))
    if draw < update + ask + mix.unknown:
        return world.ask_unknown(pick(rng, world.facts) if known and rng.random() < 0.5 else None)
    return world.chat()


def _tell(world: World, rng: Random, mix: Mix, missing: int) -> Turn:
    first = world.invent()
    if missing > 1 and rng.random() < mix.two_facts:
        second = _second(world, rng, first)
        same = (first.owner, first.attribute) == (second.owner, second.attribute)
        if not same and world.fits(first, second):
            return world.tell(first, second)
    return world.tell(first)


def _second(world: World, rng: Random, first: Fact) -> Fact:
    """A fact to tell with another one: mostly of the same owner or about the same thing."""
    draw = rng.random()
    try:
        if draw < 0.45:
            return world.invent(owner=first.owner)
        if draw < 0.65:
            return world.invent(attribute=first.attribute)
    except LookupError:
        pass
    return world.invent()


def _remembered(world: World, rng: Random) -> Fact:
    """Any told fact, the latest ones and the oldest ones a little more often."""
    facts = world.facts
    draw = rng.random()
    if draw < 0.2:
        return facts[-1]
    if draw < 0.5:
        return facts[int(rng.random() * (len(facts) + 1) / 2)]
    return pick(rng, facts)
