"""Whose fact it is: the user, somebody with a name, or a relation of the user."""

from dataclasses import dataclass
from random import Random

from .lexicon import words
from .names import made_up_name
from .values import pick

RELATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("her", ("sister", "sis")), ("his", ("brother", "bro")), ("her", ("mother", "mum", "mom")),
    ("his", ("father", "dad")), ("her", ("grandmother", "grandma", "granny", "gran", "nan")),
    ("his", ("grandfather", "grandpa", "grandad")), ("her", ("aunt", "auntie")),
    ("his", ("uncle",)), ("their", ("cousin",)), ("his", ("son",)), ("her", ("daughter",)),
    ("his", ("husband",)), ("her", ("wife",)), ("their", ("partner",)), ("her", ("girlfriend",)),
    ("his", ("boyfriend",)), ("their", ("friend", "mate", "buddy")),
    ("their", ("best friend", "bestie")),
    ("their", ("boss",)), ("their", ("neighbour", "neighbor")), ("their", ("teacher",)),
    ("their", ("doctor",)), ("their", ("dentist",)), ("their", ("colleague", "coworker")),
    ("their", ("flatmate", "roommate")), ("their", ("landlord",)), ("his", ("nephew",)),
    ("her", ("niece",)), ("his", ("grandson",)), ("her", ("granddaughter",)),
    ("his", ("father-in-law",)), ("her", ("mother-in-law",)), ("her", ("sister-in-law",)),
    ("his", ("brother-in-law",)), ("his", ("stepfather", "stepdad")), ("her", ("godmother",)),
    ("their", ("coach",)), ("their", ("classmate",)), ("their", ("manager",)),
    ("his", ("twin brother",)), ("her", ("twin sister",)), ("their", ("nurse",)),
    ("their", ("hairdresser",)), ("their", ("old friend",)), ("his", ("stepson",)),
    ("their", ("lawyer",)), ("her", ("little sister",)), ("his", ("big brother",)),
    ("her", ("stepmother", "stepmum")), ("their", ("mechanic",)), ("their", ("trainer",)),
    ("their", ("housemate",)), ("her", ("ex-wife",)), ("their", ("supervisor",)),
    ("their", ("conductor",)), ("her", ("stepsister",)),
)  # fmt: skip
BARE = frozenset((
    "mum", "mom", "dad", "grandma", "grandpa", "granny", "nan", "grandad", "gran", "sis", "auntie",
))  # fmt: skip
PRONOUNS = ("his", "his", "her", "her", "their")
SELF_SHARE = 0.45
NAMED_SHARE = 0.35
MADE_UP_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Wording:
    """One way of typing an owner, and what answers make of it."""

    possessive: str
    subject: str
    object: str
    pronoun: str
    said: str
    """The possessive in answers: "your", "Ann's", "your sister's"."""
    apposed: tuple[str, ...] = ()
    """The subject as name and relation apart: "Ann, my sister,"."""
    bare: str = ""
    """A family word that can stand without "my": "mum"."""

    def barely(self, capital: bool) -> "Wording":
        """The same without "my", as in "mum's car"."""
        word = self.bare.capitalize() if capital else self.bare
        return Wording(f"{word}'s", word, word, self.pronoun, self.said)

    def gendered(self, pronoun: str) -> "Wording":
        """The same, with this pronoun."""
        return Wording(
            self.possessive, self.subject, self.object, pronoun, self.said, self.apposed, self.bare
        )

    def lower(self) -> "Wording":
        """The same, all in lower case."""
        return Wording(
            self.possessive.lower(), self.subject.lower(), self.object.lower(),
            self.pronoun, self.said.lower(), tuple(map(str.lower, self.apposed)), self.bare,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Owner:
    """Somebody who has things; equal to another owner of the same name."""

    name: str
    """The canonical name: "you", "Ann", "your sister", "your sister Ann"."""
    wordings: tuple[Wording, ...]
    """The usual wording first, then others that mean the same owner."""
    keys: tuple[str, ...]
    """What may name this owner: no two owners of a dialogue share one."""
    first_person: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Owner) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


THE = Wording("the", "I", "me", "the", "your")
"""The user, of a thing that needs no "my": "the car keys"."""
OUR = Wording("our", "we", "us", "our", "your")
SELF = Owner("you", (Wording("my", "I", "me", "my", "your"),), ("you",), first_person=True)


def named(name: str) -> Owner:
    """The owner known by a first name."""
    return Owner(name, (_by_name(name),), (name,))


def related(relation: str, name: str = "") -> Owner:
    """The user's relation, such as "sister", with a name if one is given."""
    pronoun, synonyms = next(entry for entry in RELATIONS if relation in entry[1])
    group = f"your {synonyms[0]}"
    if name:
        whole = f"my {relation}"
        full = Wording(
            f"{whole} {name}'s", f"{whole} {name}", f"{whole} {name}", pronoun,
            f"your {relation} {name}'s", (f"{name}, {whole},", f"{whole}, {name},"),
        )  # fmt: skip
        shorter = (_by_relation(relation, pronoun), _by_name(name, pronoun))
        return Owner(f"your {relation} {name}", (full, *shorter), (group, name))
    others = [word for word in synonyms if word != relation]
    wordings = tuple(_by_relation(word, pronoun) for word in (relation, *others))
    return Owner(group, wordings, (group,))


def draw_owner(rng: Random, self_share: float = SELF_SHARE) -> Owner:
    """The user, a name or a relation at random."""
    draw = rng.random()
    if draw < self_share:
        return SELF
    if draw < self_share + (1 - self_share) * 0.55:
        return named(_draw_name(rng))
    _, synonyms = RELATIONS[int(rng.random() * len(RELATIONS))]
    relation = pick(rng, synonyms)
    return related(relation, _draw_name(rng) if rng.random() < NAMED_SHARE else "")


def _draw_name(rng: Random) -> str:
    return made_up_name(rng) if rng.random() < MADE_UP_SHARE else pick(rng, words("first_names"))


def _by_name(name: str, pronoun: str = "their") -> Wording:
    return Wording(f"{name}'s", name, name, pronoun, f"{name}'s")


def _by_relation(relation: str, pronoun: str) -> Wording:
    whole = f"my {relation}"
    bare = relation if relation in BARE else ""
    return Wording(f"{whole}'s", whole, whole, pronoun, f"your {relation}'s", (), bare)
