"""Reads the phrase files and compiles their lines into ready-to-format templates.

A phrase file has sections `[group part]` with one phrase a line. In a phrase
`{P} {S} {O} {q}` stand for the owner (possessive, subject, object, possessive
pronoun), `{s} {o} {h}` for he, him and his (alone), `{v}` and `{old}` for
values, `{a}` for the article before the value, `{live|lives}` for a choice by person,
`<n>` and the like for words of the attribute. A leading `1:` or `3:` restricts a
phrase to one person, a leading `!` marks a phrase that is no plain statement
(tells) or no question (asks).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

AMERICAN = (("favourite", "favorite"), ("colour", "color"), ("neighbour", "neighbor"))
VOWELS = frozenset("aeiouAEIOU")


class Template(NamedTuple):
    """One phrase for one person, ready for `str.format`."""

    text: str
    plain: bool
    """A statement that can follow "remember that", or a question."""
    fixed_start: bool
    """Starts with the value, so its first letter must stay as it is."""


Templates = tuple[Template, ...]


@dataclass(frozen=True, slots=True)
class Forms:
    """The templates of one speech act: for the user, and for anyone else."""

    first: Templates
    other: Templates

    def __len__(self) -> int:
        return len(self.first) + len(self.other)


@cache
def sections(name: str) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """The sections of a phrase file: (group, part) -> lines."""
    path = files(__package__).joinpath("phrases", f"{name}.txt")
    found: dict[tuple[str, str], list[str]] = {}
    lines: list[str] = []
    if not path.is_file():
        return {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            group, _, part = line.strip("[]").rpartition(" ")
            lines = found.setdefault((group, part), [])
        elif line:
            lines.append(line)
    return {key: tuple(value) for key, value in found.items()}


def phrases(name: str, part: str, groups: Iterable[str]) -> list[str]:
    """The lines of one part over several groups of a phrase file."""
    table = sections(name)
    return [line for group in groups for line in table.get((group, part), ())]


def article(word: str) -> str:
    """The indefinite article that fits `word`."""
    return "an" if word[:1] in VOWELS else "a"


def compile_forms(lines: Iterable[str], nouns: Iterable[Mapping[str, str]]) -> Forms:
    """Compiles phrases for every set of attribute words and for both persons."""
    first: list[Template] = []
    other: list[Template] = []
    for words in nouns:
        for line in lines:
            for spelled in _spellings(_fill(line, words)):
                person, body = (spelled[0], spelled[2:]) if spelled[1:2] == ":" else ("", spelled)
                if person != "3":
                    first.append(_template(body, 0))
                if person != "1":
                    other.append(_template(body, 1))
    return Forms(tuple(first), tuple(other))


def _fill(line: str, words: Mapping[str, str]) -> str:
    for mark, word in words.items():
        line = line.replace(mark, word)
    return line


def _spellings(line: str) -> tuple[str, ...]:
    """The line itself and, where it differs, its American spelling."""
    american = line
    for british, spelled in AMERICAN:
        american = american.replace(british, spelled)
    return (line,) if american == line else (line, american)


def _template(body: str, person: int) -> Template:
    plain = not body.startswith("!")
    text = body.removeprefix("!")
    parts = text.split("{")
    for index, part in enumerate(parts[1:], start=1):
        slot, _, rest = part.partition("}")
        parts[index] = slot.split("|")[person] + rest if "|" in slot else "{" + slot + "}" + rest
    text = "".join(parts)
    return Template(text, plain, text.startswith(("{v}", "{old}")))
