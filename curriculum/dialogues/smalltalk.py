"""Small talk: intents with many phrasings and one fixed answer each.

Some phrasings mention names, foods or things without telling a fact about an owner.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random

from .lexicon import words
from .names import made_up_name, made_up_word, number
from .values import pick

Part = str | Callable[[Random], str]


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing people say, in several wordings, and its answer."""

    answer: str
    phrasings: tuple[tuple[Part, ...], ...]
    """Each split into literal text and slots to fill."""


def _word(name: str) -> Callable[[Random], str]:
    return lambda rng: pick(rng, words(name))


def _name(rng: Random) -> str:
    return made_up_name(rng) if rng.random() < 0.3 else pick(rng, words("first_names"))


SLOTS: dict[str, Callable[[Random], str]] = {
    "food": _word("foods"), "drink": _word("drinks"), "colour": _word("colours"),
    "name": _name, "object": _word("objects"), "spot": _word("spots"), "town": _word("towns"),
    "country": _word("countries"), "animal": _word("animals"), "hobby": _word("hobbies"),
    "sport": _word("sports"), "title": _word("titles"), "instrument": _word("instruments"),
    "flower": _word("flowers"), "month": _word("months"), "language": _word("languages"),
    "digit": lambda rng: number(rng, 1 + int(rng.random() * 3)), "nonsense": made_up_word,
}  # fmt: skip


@cache
def intents() -> tuple[Intent, ...]:
    """All intents; an answer line of the file starts with "= "."""
    text = files(__package__).joinpath("phrases", "smalltalk.txt").read_text(encoding="utf-8")
    found: list[Intent] = []
    for block in text.split("= ")[1:]:
        answer, *lines = block.strip().splitlines()
        found.append(Intent(answer, tuple(_split(line) for line in lines)))
    return tuple(found)


def small_talk(rng: Random) -> tuple[str, str]:
    """A phrasing of a random intent and its answer."""
    intent = pick(rng, intents())
    parts = pick(rng, intent.phrasings)
    return "".join([part if isinstance(part, str) else part(rng) for part in parts]), intent.answer


def _split(line: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    for index, chunk in enumerate(line.split("{")):
        if index == 0:
            parts.append(chunk)
            continue
        slot, _, rest = chunk.partition("}")
        parts += (SLOTS[slot], rest)
    return tuple(part for part in parts if part != "")
