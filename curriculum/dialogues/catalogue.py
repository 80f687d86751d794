"""All attributes: about 190 with phrases of their own, and open ones about any thing."""

from collections.abc import Iterator
from functools import cache
from random import Random

from .attributes import (
    Attribute,
    build,
    colour_of,
    favourite,
    is_plural,
    name_of,
    place_of,
    plain,
)
from .lexicon import words
from .values import codes, listed, numbers, pick, titled, with_article

OPEN_SHARE = 0.15


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
        "mechanic", "conductor", "vet", "trainer", "gardener", "girlfriend", "boyfriend", "tutor",
    )  # fmt: skip
    for noun in pets:
        yield name_of(noun, titled("pet_names"), "thing", "pet")
    for noun in ("boat", "teddy bear", "doll", "robot", "band"):
        yield name_of(noun, titled("pet_names"), "thing")
    for noun in people:
        yield name_of(noun, titled("first_names"), "human")


def _favourites() -> Iterator[Attribute]:
    listed_ones = (
        ("colour", "colours"), ("drink", "drinks"), ("animal", "animals"), ("sport", "sports"),
        ("season", "seasons"), ("flower", "flowers"), ("month", "months"), ("toy", "toys"),
        ("word", "nouns"), ("fruit", "fruits"), ("vegetable", "vegetables"), ("game", "games"),
        ("dessert", "desserts"), ("tree", "trees"), ("bird", "birds"), ("shop", "shops"),
        ("instrument", "instruments"), ("snack", "foods"), ("cake", "desserts"),
        ("meal", "foods"), ("pastime", "hobbies"), ("place", "spots"),
    )  # fmt: skip
    titled_ones = (
        ("book", "titles"), ("song", "titles"), ("singer", "first_names"), ("poem", "titles"),
        ("writer", "surnames"), ("actor", "surnames"), ("language", "languages"),
        ("show", "titles"), ("restaurant", "titles"), ("painter", "surnames"),
        ("day", "weekdays"), ("band", "titles"), ("composer", "surnames"), ("author", "surnames"),
        ("novel", "titles"), ("car", "cars"), ("tv show", "titles"),
        ("board game", "titles"), ("player", "surnames"),
    )  # fmt: skip
    for noun, values in listed_ones:
        yield favourite(noun, listed(values))
    for noun, values in titled_ones:
        yield favourite(noun, titled(values))
    yield favourite("city", titled("towns"), plural="cities")
    yield favourite("country", titled("countries"), plural="countries")
    yield favourite("number", numbers(0, 100))
    yield favourite("food", listed("foods"), others=("dish",), plural="dishes")
    yield favourite("film", titled("titles"), others=("movie",))
    yield favourite("ice cream flavour", listed("flavours"), others=("ice cream",))
    yield favourite("school subject", listed("subjects"), others=("subject",))
    yield favourite("kind of music", listed("music"), plural="kinds of music", others=("music",))


def _belongings() -> Iterator[Attribute]:
    places = (
        ("keys",), ("wallet",), ("phone", "mobile"), ("umbrella",), ("passport",), ("glasses",),
        ("bike", "bicycle"), ("suitcase",), ("laptop",), ("camera",), ("notebook",),
        ("backpack",), ("headphones",), ("watch",), ("ring",), ("scarf",), ("gloves",),
        ("tickets",), ("torch",), ("guitar",), ("lunch",), ("medicine",), ("shoes",),
    )  # fmt: skip
    for nouns in places:
        yield place_of(*nouns)
    for noun in ("car", "house", "bike", "door", "boat", "kitchen", "fence"):
        yield colour_of(noun, "item", "painted")
    for noun in ("coat", "hat", "bag", "sofa", "dress", "umbrella", "toothbrush"):
        yield colour_of(noun, "item")
    yield colour_of("hair", "hair")


def _life() -> Iterator[Attribute]:
    first_names = titled("first_names")
    yield build(
        "name", "life", (), ("name",), "{p} name is", "I do not know {p} name.", first_names,
        extra="name", self_only=True,
    )  # fmt: skip
    yield plain("surname", titled("surnames"))
    yield plain("nickname", titled("pet_names"), "item")
    yield plain("middle name", first_names)
    yield plain("home town", titled("towns"))
    yield plain("home country", titled("countries"), extra="country")
    yield plain("job", with_article("jobs"), "item")
    yield plain("age", numbers(4, 99))
    yield plain("star sign", titled("signs"))
    yield plain("school", titled("schools"))
    yield plain("native language", titled("languages"), extra="language")
    yield plain("hobby", listed("hobbies"), "item")
    yield plain("dream job", with_article("jobs"), "item")
    yield plain("biggest wish", with_article("objects"), extra="wish")
    yield plain("field of study", listed("subjects"))
    yield plain("sport", listed("sports"))
    yield plain("allergy", listed("foods"))
    yield plain("team", titled("towns"), "item")
    yield build(
        "birthday", "life", (), ("birthday",), "{p} birthday is in",
        "I do not know when {p} birthday is.", listed("months"), extra="birthday",
    )  # fmt: skip
    yield build(
        "instrument", "life", (), ("instrument",), "{p} instrument is the",
        "I do not know {p} instrument.", listed("instruments"), extra="instrument",
    )  # fmt: skip
    yield build(
        "make of the car", "life", (), ("car",), "{p} car is",
        "I do not know the make of {p} car.", with_article("cars"), extra="car",
    )  # fmt: skip


def _numbers() -> Iterator[Attribute]:
    yield plain("shoe size", numbers(20, 50))
    for noun, high in (
        ("lucky number", 100), ("room number", 600), ("house number", 300), ("bus line", 120),
        ("locker number", 400), ("seat number", 90), ("flat number", 80), ("ticket number", 9999),
        ("shirt number", 40),
    ):  # fmt: skip
        yield plain(noun, numbers(1, high), "item")
    for noun in ("phone code", "door code", "bike lock code", "wifi password", "alarm code"):
        yield plain(noun, codes(4), "item", extra=noun.split()[-1], shared=noun != "phone code")


ATTRIBUTES = _all()
"""Every attribute with a name of its own, in a fixed order."""
_KNOWN = {attribute.name: attribute for attribute in ATTRIBUTES}
_OPEN = {
    "place": (*words("belongings"), *words("objects")), "code": words("locked"),
    "number": words("numbered"),
    "password": words("secret"), "listed number": words("listed"),
    "colour": tuple(noun for noun in words("objects") if not is_plural(noun)),
}  # fmt: skip
_OPEN_KINDS = (
    *("place",) * 10, *("code",) * 4, "password", *("number",) * 2, "listed number",
    *("colour",) * 3,
)  # fmt: skip


def draw_attribute(rng: Random, open_share: float = OPEN_SHARE) -> Attribute:
    """Any attribute; now and then one of any object or locked or numbered thing."""
    if rng.random() >= open_share:
        return pick(rng, ATTRIBUTES)
    kind = pick(rng, _OPEN_KINDS)
    return _open(kind, pick(rng, _OPEN[kind]))


@cache
def _open(kind: str, noun: str) -> Attribute:
    """The attribute of this kind of a thing, always the same object."""
    if kind == "place":
        return _KNOWN.get(f"place of the {noun}") or place_of(noun)
    if kind == "colour":
        return _KNOWN.get(f"colour of the {noun}") or colour_of(noun, "item")
    name = f"{noun} {kind.removeprefix('listed ')}"
    sample = numbers(1, 900) if kind.endswith("number") else codes(4)
    extra = {"number": "open number", "listed number": "none"}.get(kind, kind)
    return _KNOWN.get(name) or plain(name, sample, "item", extra=extra, shared=True)
