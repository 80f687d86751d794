"""A fact worded in one way, and how it fills a template: pronouns, slips and shouting."""

from dataclasses import dataclass
from random import Random

from .attributes import Attribute
from .decor import MAX_TURN_LENGTH
from .owners import Wording
from .templates import Forms, Template, Templates, article
from .values import pick

SLIPS = 0.06
SHOUTS = 0.03
_SLANG = (
    ("please", "pls"), ("what is", "whats"), ("you", "u"), ("don't", "dont"), ("I'm", "im"),
    ("I am", "im"), ("where is", "wheres"), ("what's", "whats"), ("are", "r"),
    ("is called", "called"), ("favourite", "fav"), ("favourite", "fave"), ("that's", "thats"),
    ("it's", "its"), ("where's", "wheres"), ("who's", "whos"), ("favorite", "fav"),
    ("isn't", "isnt"), ("because", "cause"), ("really", "rly"), ("I've", "ive"), ("and", "n"),
    ("I", "i"),
)  # fmt: skip
_PRONOUNS = {
    "his": ("he", "him", "his"), "her": ("she", "her", "hers"), "their": ("they", "them", "theirs"),
    "my": ("I", "me", "mine"), "our": ("we", "us", "ours"), "the": ("I", "me", "mine"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Subject:
    """What a query is about: an attribute of somebody, worded in one way."""

    attribute: Attribute
    wording: Wording
    first_person: bool
    value: str = ""
    old: str = ""

    def choose(self, rng: Random, forms: Forms) -> Template:
        """One of the templates for this person."""
        return pick(rng, self.templates(forms))

    def templates(self, forms: Forms) -> Templates:
        """The templates for this person."""
        return forms.first if self.first_person else forms.other

    def as_pronoun(self, rng: Random) -> "Subject":
        """The same, speaking of him or her."""
        pronoun = self.wording.pronoun
        if pronoun == "their":
            pronoun = "his" if rng.random() < 0.5 else "her"
        he, him, _ = _PRONOUNS[pronoun]
        wording = Wording(pronoun, he, him, pronoun, self.wording.said)
        return Subject(self.attribute, wording, False, self.value, self.old)

    @property
    def room(self) -> int:
        """How many characters the query may have beside its answer."""
        said = len(self.attribute.statement) + len(self.wording.said) + len(self.value)
        return MAX_TURN_LENGTH - said - 6

    def fill(self, rng: Random, text: str) -> str:
        """The text of a template with everything filled in, now and then with a slip in it."""
        wording = self.wording
        slip = rng.random()
        if slip < SLIPS:
            text = _slip(rng, text)
        elif slip < SLIPS + SHOUTS:
            text = _shout(rng, text)
        owner, pronoun = wording.subject, wording.pronoun
        if wording.apposed and text.startswith("{S} ") and rng.random() < 0.4:
            owner = pick(rng, wording.apposed)
        if pronoun == "their" and "{s}" in text:
            pronoun = "his" if rng.random() < 0.5 else "her"
        he, him, his = _PRONOUNS[pronoun]
        possessive = wording.possessive
        if SLIPS <= slip < SLIPS + SHOUTS and possessive == "my" and slip < SLIPS + SHOUTS / 2:
            possessive = "MY"
        return text.format(
            P=possessive, S=owner, O=wording.object, q=pronoun, s=he, o=him, h=his,
            v=typed(self.value), old=typed(self.old), a=article(self.value),
        )  # fmt: skip


def typed(value: str) -> str:
    """The value as the user says it: "under my desk" for "under your desk"."""
    return value.replace(" your ", " my ")


def _slip(rng: Random, text: str) -> str:
    """A template with a typing mistake in one of its words, or with some slang."""
    tokens = text.split(" ")
    spots = [index for index, token in enumerate(tokens) if len(token) > 3 and token.isalpha()]
    if not spots or rng.random() < 0.3:
        full, short = pick(rng, _SLANG)
        return f" {text} ".replace(f" {full} ", f" {short} ").strip()
    word = tokens[spot := pick(rng, spots)]
    at = 1 + int(rng.random() * (len(word) - 2))
    draw = rng.random()
    if draw < 0.4:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif draw < 0.7:
        word = word[:at] + word[at + 1 :]
    else:
        word = word[:at] + word[at] + word[at:]
    tokens[spot] = word
    return " ".join(tokens)


def _shout(rng: Random, text: str) -> str:
    """A template with one of its words in capitals."""
    tokens = text.split(" ")
    spots = [index for index, token in enumerate(tokens) if token.isalpha()]
    if spots:
        spot = pick(rng, spots)
        tokens[spot] = tokens[spot].upper()
    return " ".join(tokens)
