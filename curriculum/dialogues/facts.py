"""Facts, turns, canonical sentences, and the split into training and held-out pairs."""

import zlib
from dataclasses import dataclass
from typing import Literal

from .attributes import Attribute
from .owners import SELF, Owner, Wording

HELD_OUT_ONE_IN = 5

Kind = Literal["tell", "update", "ask", "unknown", "chat"]


@dataclass(frozen=True, slots=True)
class Fact:
    """A value of an owner's attribute."""

    owner: Owner
    attribute: Attribute
    value: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the user and the one right answer."""

    kind: Kind
    query: str
    answer: str
    value: str = ""
    """What the answer ends with (tell, update, ask); of two told facts the last value."""


def is_held_out(owner: Owner, attribute: Attribute) -> bool:
    """Whether training must never show this pair; stable, one pair in five.

    An owner with two names ("my sister Ann") is held out when either name is. What the user says of
    themself is never held out: there is one such owner, so a held-out pair would be a held-out way
    of speaking ("I live in ..."), not a new combination of things known.
    """
    return owner is not SELF and any(
        zlib.crc32(f"{key}|{attribute.name}".encode()) % HELD_OUT_ONE_IN == 0 for key in owner.keys
    )


def statement(wording: Wording, attribute: Attribute, value: str) -> str:
    """The canonical statement, without capital and full stop."""
    return f"{attribute.statement.replace('{p}', wording.said, 1)} {value}"


def stated(wording: Wording, attribute: Attribute, value: str) -> str:
    """The canonical answer to a question."""
    text = statement(wording, attribute, value)
    if text.startswith(("your ", "the ")):
        text = text[0].upper() + text[1:]
    return f"{text}."


def not_known(wording: Wording, attribute: Attribute) -> str:
    """The canonical answer to a question about something never told."""
    return attribute.unknown.replace("{p}", wording.said, 1)
