"""Value samplers: mostly from an attribute's own list, else any word, code or number."""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from .lexicon import words
from .names import code, made_up_name, made_up_word, number
from .templates import article

Sampler = Callable[[Random], str]
Item = TypeVar("Item")

OWN_SHARE = 0.7
ADORNED = 0.06
"""Share of values with an adjective before them, roughly."""
TYPED = 0.07
"""Share of listed values in another case than usual."""
_USUAL = ("new", "big", "second hand")
_KINDS_OF = {
    "cars": ("beat up", "brand new", "second hand", "really old", "rusty old", "tiny", "white"),
    "jobs": ("part time", "junior", "senior", "trainee", "retired", "freelance", "self-employed"),
}


def pick(rng: Random, items: Sequence[Item]) -> Item:
    """A uniformly chosen item (faster than `Random.choice`)."""
    return items[int(rng.random() * len(items))]


def any_value(rng: Random) -> str:
    """A string that has nothing to do with the attribute."""
    draw = rng.random()
    if draw < 0.45:
        return made_up_word(rng)
    if draw < 0.7:
        return pick(rng, words("nouns"))
    if draw < 0.82:
        return f"{pick(rng, words('adjectives'))} {pick(rng, words('nouns'))}"
    if draw < 0.88:
        return f"{made_up_word(rng)} {pick(rng, words('nouns'))}"
    return code(rng) if draw < 0.95 else number(rng)


def _typed(rng: Random, value: str) -> str:
    """The value in lower case, or with capitals."""
    if value != value.lower():
        return value.lower()
    return value.title() if rng.random() < 0.6 else value.capitalize()


def listed(name: str) -> Sampler:
    """Mostly an item of the word list `name`."""

    def sample(rng: Random) -> str:
        draw = rng.random()
        if draw < OWN_SHARE:
            value = pick(rng, words(name))
            return value if draw > OWN_SHARE * TYPED else _typed(rng, value)
        if draw < OWN_SHARE + ADORNED:
            return f"{pick(rng, words('adjectives'))} {pick(rng, words(name))}"
        return any_value(rng)

    return sample


def titled(name: str) -> Sampler:
    """Mostly an item of the word list `name`, else a name, made-up or of common words."""

    def sample(rng: Random) -> str:
        draw = rng.random()
        if draw < OWN_SHARE:
            value = pick(rng, words(name))
            return value if draw > OWN_SHARE * TYPED else _typed(rng, value)
        if draw < 0.72:
            return f"{made_up_name(rng)} {made_up_name(rng)}"
        if draw < 0.88:
            return made_up_name(rng)
        if draw < 0.93:
            return pick(rng, words("nouns")).capitalize()
        noun = pick(rng, words("nouns")).capitalize()
        return f"{pick(rng, words('adjectives')).capitalize()} {noun}"

    return sample


def with_article(name: str) -> Sampler:
    """An item of the list, or any single word, with its indefinite article."""

    def sample(rng: Random) -> str:
        draw = rng.random()
        if draw < OWN_SHARE:
            word = pick(rng, words(name))
            if draw < OWN_SHARE * ADORNED:
                word = f"{pick(rng, _KINDS_OF.get(name, _USUAL))} {word}"
            elif draw < OWN_SHARE * 3 * ADORNED:
                word = f"{pick(rng, words('adjectives'))} {word}"
        elif draw < 0.85:
            word = made_up_word(rng)
        else:
            word = f"{pick(rng, words('adjectives'))} {pick(rng, words('nouns'))}"
        return f"{article(word)} {word}"

    return sample


def numbers(low: int, high: int) -> Sampler:
    """Mostly a number of the range, else one of any size."""

    def sample(rng: Random) -> str:
        return str(rng.randint(low, high)) if rng.random() < 0.85 else number(rng)

    return sample


def codes(digits: int) -> Sampler:
    """A number of that many digits, or a short code."""

    def sample(rng: Random) -> str:
        return number(rng, digits) if rng.random() < OWN_SHARE else code(rng)

    return sample


def place(rng: Random) -> str:
    """Where a thing is: a listed phrase or preposition and place, some of them made up."""
    draw = rng.random()
    if draw < 0.4:
        return pick(rng, words("places"))
    where = pick(rng, words("prepositions"))
    if draw < 0.68:
        return f"{where} {pick(rng, words('spots'))}"
    if draw < 0.75:
        return f"{where} {pick(rng, words('colours'))} {pick(rng, words('objects'))}"
    if draw < 0.8:
        return f"{pick(rng, ('in', 'on', 'under'))} your {pick(rng, words('objects'))}"
    if draw < 0.9:
        return f"{where} {pick(rng, words('nouns'))}"
    return f"{where} {made_up_word(rng)}"
