"""What can be told of an owner, and how an attribute is built from a family of phrases."""

from collections.abc import Iterable
from dataclasses import dataclass

from .templates import Forms, article, compile_forms, phrases
from .values import Sampler, listed, place

PLURALS = frozenset((
    "keys", "glasses", "headphones", "gloves", "tickets", "shoes", "scissors", "trousers", "socks",
    "boots", "sandals", "slippers", "earrings", "pliers", "dice", "cards", "binoculars",
))  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """One kind of fact: its values, its canonical sentences and its phrasings."""

    name: str
    statement: str
    """Canonical sentence up to the value, with `{p}` for the owner in the possessive."""
    unknown: str
    """The answer when it was never told, with the same slot."""
    sample: Sampler
    tells: Forms
    updates: Forms
    denials: Forms
    """Updates that mention the old value."""
    asks: Forms
    clauses: Forms
    """Indirect questions, to follow "do you remember"."""
    relation: str = ""
    """The relation whose name this is ("your sister"), if it is one."""
    self_only: bool = False
    """Told of the user only."""
    shared: bool = False
    """Of a thing that may be "the" or "our" one, meaning the user's."""


def build(
    name: str,
    family: str,
    groups: Iterable[str],
    nouns: Iterable[str],
    statement: str,
    unknown: str,
    sample: Sampler,
    *,
    extra: str = "",
    plural: str = "",
    relation: str = "",
    self_only: bool = False,
    shared: bool = False,
) -> Attribute:
    """An attribute from the groups of a family file and a group of the life file."""
    slots = [_slots(noun, plural) for noun in nouns]
    groups = tuple(groups)

    def forms(part: str) -> Forms:
        own = phrases("life", part, (extra,) if extra else ())
        weight = 2 if extra and own else 1
        return compile_forms(phrases(family, part, groups) + own * weight, slots)

    return Attribute(
        name, statement, unknown, sample, forms("tell"), forms("update"), forms("deny"),
        forms("ask"), forms("clause"), relation, self_only, shared,
    )  # fmt: skip


def _slots(noun: str, plural: str) -> dict[str, str]:
    many = is_plural(noun)
    return {
        "<n>": noun,
        "<ns>": plural or f"{noun}s",
        "<a n>": f"{article(noun)} {noun}",
        "<t>": noun.removesuffix(" code").removesuffix(" password").removesuffix(" number"),
        "<is>": "are" if many else "is",
        "<was>": "were" if many else "was",
        "<has>": "have" if many else "has",
        "<it is>": "they are" if many else "it is",
        "<it>": "they" if many else "it",
        "<them>": "them" if many else "it",
    }


def is_plural(noun: str) -> bool:
    return noun.rpartition(" ")[2] in PLURALS


def name_of(noun: str, sample: Sampler, *groups: str, others: tuple[str, ...] = ()) -> Attribute:
    return build(
        f"name of the {noun}", "named", ("any", *groups, noun), (noun, *others),
        f"{{p}} {noun} is called", f"I do not know what {{p}} {noun} is called.", sample,
        relation=f"your {noun}" if "human" in groups else "",
    )  # fmt: skip


def favourite(
    noun: str, sample: Sampler, *, plural: str = "", others: tuple[str, ...] = ()
) -> Attribute:
    return build(
        f"favourite {noun}", "favourite", ("any", noun), (noun, *others),
        f"{{p}} favourite {noun} is", f"I do not know {{p}} favourite {noun}.", sample,
        plural=plural,
    )  # fmt: skip


def place_of(noun: str, *others: str) -> Attribute:
    verb = "are" if is_plural(noun) else "is"
    groups = ("any",) if is_plural(noun) else ("any", "single")
    return build(
        f"place of the {noun}", "place", groups, (noun, *others),
        f"{{p}} {noun} {verb}", f"I do not know where {{p}} {noun} {verb}.", place,
        shared=True,
    )  # fmt: skip


def colour_of(noun: str, *groups: str) -> Attribute:
    return build(
        f"colour of the {noun}", "colour", ("any", *groups), (noun,),
        f"the colour of {{p}} {noun} is", f"I do not know the colour of {{p}} {noun}.",
        listed("colours"), shared="hair" not in groups,
    )  # fmt: skip


def plain(
    noun: str, sample: Sampler, *groups: str, extra: str = "", shared: bool = False
) -> Attribute:
    return build(
        noun, "plain", ("any", *groups), (noun,), f"{{p}} {noun} is",
        f"I do not know {{p}} {noun}.", sample, extra=extra or noun,
        shared=shared,
    )  # fmt: skip
