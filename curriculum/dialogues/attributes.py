"""What can be told of an owner: about 140 attributes, built family by family."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .templates import Forms, article, compile_forms, phrases
from .values import Sampler, codes, listed, numbers, place, titled, with_article

PLURALS = frozenset(("keys", "glasses", "headphones", "gloves", "tickets", "shoes"))


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


def _build(
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
        forms("ask"), forms("clause"), relation, self_only,
    )  # fmt: skip


def _slots(noun: str, plural: str) -> dict[str, str]:
    many = noun in PLURALS
    return {
        "<n>": noun,
        "<ns>": plural or f"{noun}s",
        "<a n>": f"{article(noun)} {noun}",
        "<t>": noun.removesuffix(" code").removesuffix(" password"),
        "<is>": "are" if many else "is",
        "<was>": "were" if many else "was",
        "<has>": "have" if many else "has",
        "<it is>": "they are" if many else "it is",
        "<it>": "they" if many else "it",
    }


def _name_of(noun: str, sample: Sampler, *groups: str, others: tuple[str, ...] = ()) -> Attribute:
    return _build(
        f"name of the {noun}", "named", ("any", *groups), (noun, *others),
        f"{{p}} {noun} is called", f"I do not know what {{p}} {noun} is called.", sample,
        relation=f"your {noun}" if "human" in groups else "",
    )  # fmt: skip


def _favourite(
    noun: str, sample: Sampler, *, plural: str = "", others: tuple[str, ...] = ()
) -> Attribute:
    return _build(
        f"favourite {noun}", "favourite", ("any",), (noun, *others),
        f"{{p}} favourite {noun} is", f"I do not know {{p}} favourite {noun}.", sample,
        plural=plural,
    )  # fmt: skip


def _place_of(noun: str, *others: str) -> Attribute:
    verb = "are" if noun in PLURALS else "is"
    groups = ("any",) if noun in PLURALS else ("any", "single")
    return _build(
        f"place of the {noun}", "place", groups, (noun, *others),
        f"{{p}} {noun} {verb}", f"I do not know where {{p}} {noun} {verb}.", place,
    )  # fmt: skip


def _colour_of(noun: str, *groups: str) -> Attribute:
    return _build(
        f"colour of the {noun}", "colour", ("any", *groups), (noun,),
        f"the colour of {{p}} {noun} is", f"I do not know the colour of {{p}} {noun}.",
        listed("colours"),
    )  # fmt: skip


def _plain(noun: str, sample: Sampler, *groups: str, extra: str = "") -> Attribute:
    return _build(
        noun, "plain", ("any", *groups), (noun,), f"{{p}} {noun} is",
        f"I do not know {{p}} {noun}.", sample, extra=extra or noun,
    )  # fmt: skip


def _all() -> tuple[Attribute, ...]:
    return (*_names(), *_favourites(), *_belongings(), *_life(), *_numbers())


def _names() -> Iterator[Attribute]:
    pets = (
        "dog", "cat", "horse", "parrot", "hamster", "goldfish", "rabbit", "tortoise", "pony",
        "puppy", "kitten", "duck", "snake", "goat", "guinea pig", "mouse",
    )  # fmt: skip
    people = (
        "teacher", "boss", "neighbour", "best friend", "brother", "sister", "doctor", "dentist",
        "cousin", "son", "daughter", "landlord", "coach", "aunt", "uncle", "flatmate", "mother",
        "father", "wife", "husband", "partner", "colleague", "hairdresser", "grandmother",
    )  # fmt: skip
    for noun in pets:
        yield _name_of(noun, titled("pet_names"), "thing", "pet")
    for noun in ("boat", "teddy bear", "doll", "robot", "band"):
        yield _name_of(noun, titled("pet_names"), "thing")
    for noun in people:
        yield _name_of(noun, titled("first_names"), "human")


def _favourites() -> Iterator[Attribute]:
    listed_ones = (
        ("colour", "colours"), ("drink", "drinks"), ("animal", "animals"), ("sport", "sports"),
        ("season", "seasons"), ("flower", "flowers"), ("month", "months"), ("toy", "toys"),
        ("word", "nouns"), ("fruit", "fruits"), ("vegetable", "vegetables"), ("game", "games"),
        ("dessert", "desserts"), ("tree", "trees"), ("bird", "birds"), ("shop", "shops"),
        ("instrument", "instruments"), ("snack", "foods"),
        ("meal", "foods"), ("pastime", "hobbies"), ("place", "spots"),
    )  # fmt: skip
    titled_ones = (
        ("book", "titles"), ("song", "titles"), ("singer", "first_names"), ("poem", "titles"),
        ("writer", "surnames"), ("actor", "surnames"), ("language", "languages"),
        ("show", "titles"), ("restaurant", "titles"), ("painter", "surnames"),
        ("day", "weekdays"), ("board game", "titles"), ("player", "surnames"),
    )  # fmt: skip
    for noun, values in listed_ones:
        yield _favourite(noun, listed(values))
    for noun, values in titled_ones:
        yield _favourite(noun, titled(values))
    yield _favourite("city", titled("towns"), plural="cities")
    yield _favourite("country", titled("countries"), plural="countries")
    yield _favourite("number", numbers(0, 100))
    yield _favourite("food", listed("foods"), others=("dish",), plural="dishes")
    yield _favourite("film", titled("titles"), others=("movie",))
    yield _favourite("ice cream flavour", listed("flavours"), others=("ice cream",))
    yield _favourite("school subject", listed("subjects"), others=("subject",))
    yield _favourite("kind of music", listed("music"), plural="kinds of music", others=("music",))


def _belongings() -> Iterator[Attribute]:
    places = (
        ("keys",), ("wallet",), ("phone", "mobile"), ("umbrella",), ("passport",), ("glasses",),
        ("bike", "bicycle"), ("suitcase",), ("laptop",), ("camera",), ("notebook",),
        ("backpack",), ("headphones",), ("watch",), ("ring",), ("scarf",), ("gloves",),
        ("tickets",), ("torch",), ("guitar",), ("lunch",), ("medicine",), ("shoes",),
    )  # fmt: skip
    for nouns in places:
        yield _place_of(*nouns)
    for noun in ("car", "house", "bike", "door", "boat", "kitchen", "fence"):
        yield _colour_of(noun, "item", "painted")
    for noun in ("coat", "hat", "bag", "sofa", "dress", "umbrella", "toothbrush"):
        yield _colour_of(noun, "item")
    yield _colour_of("hair", "hair")


def _life() -> Iterator[Attribute]:
    first_names = titled("first_names")
    yield _build(
        "name", "life", (), ("name",), "{p} name is", "I do not know {p} name.", first_names,
        extra="name", self_only=True,
    )  # fmt: skip
    yield _plain("surname", titled("surnames"))
    yield _plain("nickname", titled("pet_names"), "item")
    yield _plain("middle name", first_names)
    yield _plain("home town", titled("towns"))
    yield _plain("home country", titled("countries"), extra="country")
    yield _plain("job", with_article("jobs"), "item")
    yield _plain("age", numbers(4, 99))
    yield _plain("star sign", titled("signs"))
    yield _plain("school", titled("schools"))
    yield _plain("native language", titled("languages"), extra="language")
    yield _plain("hobby", listed("hobbies"), "item")
    yield _plain("dream job", with_article("jobs"), "item")
    yield _plain("biggest wish", with_article("objects"), extra="wish")
    yield _plain("allergy", listed("foods"))
    yield _plain("team", titled("towns"), "item")
    yield _build(
        "birthday", "life", (), ("birthday",), "{p} birthday is in",
        "I do not know when {p} birthday is.", listed("months"), extra="birthday",
    )  # fmt: skip
    yield _build(
        "instrument", "life", (), ("instrument",), "{p} instrument is the",
        "I do not know {p} instrument.", listed("instruments"), extra="instrument",
    )  # fmt: skip
    yield _build(
        "make of the car", "life", (), ("car",), "{p} car is",
        "I do not know the make of {p} car.", with_article("cars"), extra="car",
    )  # fmt: skip


def _numbers() -> Iterator[Attribute]:
    yield _plain("shoe size", numbers(20, 50))
    for noun, high in (
        ("lucky number", 100), ("room number", 600), ("house number", 300), ("bus line", 120),
        ("locker number", 400), ("seat number", 90), ("flat number", 80), ("ticket number", 9999),
    ):  # fmt: skip
        yield _plain(noun, numbers(1, high), "item")
    for noun in ("phone code", "door code", "bike lock code", "wifi password", "alarm code"):
        yield _plain(noun, codes(4), "item", extra="code")


ATTRIBUTES = _all()
"""Every attribute, in a fixed order."""
