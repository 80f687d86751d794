"""The facts of one dialogue, and the messages that tell, change and ask for them."""

from random import Random

from . import phrasing
from .attributes import Attribute
from .catalogue import ATTRIBUTES, OPEN_SHARE, draw_attribute
from .decor import chatter
from .facts import Fact, Kind, Turn, is_held_out, not_known, stated, statement
from .names import made_up_word
from .owners import OUR, PRONOUNS, SELF, SELF_SHARE, THE, Owner, Wording, draw_owner
from .phrasing import finish
from .smalltalk import small_talk
from .subject import Subject
from .values import pick

MAX_ANSWER_WORDS, MAX_ANSWER_LENGTH = 16, 72
CHATTER_SHARE = 0.65
_TRIES = 400
_POOL_TRIES = 12
_LOWERED = 0.12
_SHARED = [attribute for attribute in ATTRIBUTES if not attribute.self_only]

Pair = tuple[Owner, Attribute]


class World:
    """The facts of one dialogue: draws new ones, tells, updates and asks for them.

    `held_out` False: only training pairs of owner and attribute; True: only held-out
    ones; None: all of them.
    """

    def __init__(self, rng: Random, *, held_out: bool | None = False) -> None:
        self.facts: list[Fact] = []
        """The current value of each told fact, in the order told."""
        self.stale: dict[Pair, list[str]] = {}
        """The earlier values of updated facts."""
        self._rng = rng
        self._held_out = held_out
        self._position: dict[Pair, int] = {}
        self._used: dict[Attribute, set[str]] = {}
        self._known: dict[str, Owner] = {}
        self._introduced: set[Owner] = set()
        self._owners: list[Owner] = []
        self._focus_owners = False
        self._focus_attributes: list[Attribute] = []

    def focus(self, *, owners: int = 0, attributes: int = 0) -> None:
        """Restricts the facts to come to that many owners or attributes; 0: no restriction."""
        if owners:
            self._focus_owners = True
            while len(self._owners) < owners:
                self._register(self._new_owner(0.7 if owners == 1 else SELF_SHARE))
        if attributes:
            opened = (draw_attribute(self._rng, 1.0) for _ in range(attributes))
            both = zip(opened, self._rng.sample(_SHARED, attributes), strict=True)
            mixed = [new if self._rng.random() < OPEN_SHARE else old for new, old in both]
            self._focus_attributes = list(dict.fromkeys(mixed))

    def invent(self, *, owner: Owner | None = None, attribute: Attribute | None = None) -> Fact:
        """A fresh fact about a pair not yet told, with a value not used for that attribute."""
        for attempt in range(_TRIES):
            who = owner or self._draw_owner(attempt)
            what = attribute or self._draw_attribute(attempt)
            if self._is_free(who, what):
                self._register(who)
                return Fact(who, what, self._new_value(what))
        raise LookupError("no fact of this kind is left to invent")

    def tell(self, *facts: Fact) -> Turn:
        """Tells one fact, or two in one message."""
        if not 1 <= len(facts) <= 2:
            raise ValueError("one or two facts can be told at once")
        lowered = self._rng.random() < _LOWERED
        subjects = [self._subject(fact, lowered, introduce=True) for fact in facts]
        for fact, subject in zip(facts, subjects, strict=True):
            self._record(Fact(fact.owner, fact.attribute, subject.value))
        word = phrasing.tell if len(subjects) == 1 else phrasing.tell_two
        text, fixed = word(self._rng, *subjects)
        return self._confirm("tell", subjects, text, lowered, fixed)

    def fits(self, *facts: Fact) -> bool:
        """Whether the answer to telling these facts at once stays short enough."""
        text = " ".join([statement(f.owner.wordings[0], f.attribute, f.value) for f in facts])
        words = text.count(" ") + len(facts) + 1
        return words <= MAX_ANSWER_WORDS and len(text) <= MAX_ANSWER_LENGTH

    def update(self, fact: Fact, value: str | None = None) -> Turn:
        """Changes a told fact to the value, or to a new one."""
        position = self._find(fact)
        old = self.facts[position]
        new = Fact(fact.owner, fact.attribute, value or self._new_value(fact.attribute))
        lowered = self._rng.random() < _LOWERED
        subject = self._subject(new, lowered, introduce=False, old=old.value)
        self.stale.setdefault((fact.owner, fact.attribute), []).append(old.value)
        self.facts[position] = Fact(fact.owner, fact.attribute, subject.value)
        self._used.setdefault(fact.attribute, set()).add(subject.value.lower())
        text, fixed = phrasing.update(self._rng, subject)
        return self._confirm("update", [subject], text, lowered, fixed)

    def ask(self, fact: Fact) -> Turn:
        """Asks for the current value of a told fact; changes nothing."""
        value = self.facts[self._find(fact)].value
        query, wording = self._question(fact.owner, fact.attribute)
        return Turn("ask", query, stated(wording, fact.attribute, value), value)

    def ask_unknown(self, like: Fact | None = None) -> Turn:
        """Asks for something never told; changes nothing.

        Given a told fact: the same attribute of another owner, or another attribute of the
        same owner, preferably ones that occur in this dialogue.
        """
        owner, attribute = self._unknown_like(like) if like else self._unknown()
        query, wording = self._question(owner, attribute)
        return Turn("unknown", query, not_known(wording, attribute))

    def chat(self) -> Turn:
        """Small talk."""
        rng = self._rng
        query, answer = (chatter(rng) if rng.random() < CHATTER_SHARE else None) or small_talk(rng)
        lowered = rng.random() < _LOWERED
        return Turn("chat", finish(rng, phrasing.chat(rng, query), lowered=lowered), answer)

    def _record(self, fact: Fact) -> None:
        pair = (fact.owner, fact.attribute)
        if pair in self._position:
            raise ValueError(f"already told: {fact.owner.name}, {fact.attribute.name}")
        self._position[pair] = len(self.facts)
        self.facts.append(fact)
        self._used.setdefault(fact.attribute, set()).add(fact.value.lower())
        self._register(fact.owner)
        self._introduced.add(fact.owner)

    def _find(self, fact: Fact) -> int:
        position = self._position.get((fact.owner, fact.attribute))
        if position is None:
            raise ValueError(f"never told: {fact.owner.name}, {fact.attribute.name}")
        return position

    def _confirm(
        self, kind: Kind, subjects: list[Subject], text: str, lowered: bool, fixed: bool
    ) -> Turn:
        said = " and ".join([statement(s.wording, s.attribute, s.value) for s in subjects])
        query = finish(self._rng, text, lowered=lowered, fixed_start=fixed)
        return Turn(kind, query, f"Okay, {said}.", subjects[-1].value)

    def _question(self, owner: Owner, attribute: Attribute) -> tuple[str, Wording]:
        lowered = self._rng.random() < _LOWERED
        subject = self._subject(Fact(owner, attribute, ""), lowered, introduce=False)
        text, _ = phrasing.ask(self._rng, subject)
        return finish(self._rng, text, lowered=lowered), subject.wording

    def _subject(self, fact: Fact, lowered: bool, *, introduce: bool, old: str = "") -> Subject:
        wording = self._wording(fact.owner, introduce)
        if wording.bare and self._rng.random() < 0.4:
            wording = wording.barely(self._rng.random() < 0.4)
        elif fact.attribute.shared and fact.owner is SELF and self._rng.random() < 0.25:
            wording = THE if self._rng.random() < 0.7 else OUR
        if wording.pronoun == "their":
            wording = wording.gendered(pick(self._rng, PRONOUNS))
        value = fact.value
        if lowered:
            wording, value = wording.lower(), value.lower()
        return Subject(fact.attribute, wording, fact.owner.first_person, value, old)

    def _wording(self, owner: Owner, introduce: bool) -> Wording:
        """The usual wording of an owner or, once introduced, another one."""
        usual, *others = owner.wordings
        if not others or (introduce and owner not in self._introduced):
            return usual
        draw = self._rng.random()
        if len(owner.keys) > 1:
            return owner.wordings[2 if draw < 0.5 else 1 if draw < 0.75 else 0]
        return pick(self._rng, others) if draw < 0.1 else usual

    def _is_free(self, owner: Owner, attribute: Attribute) -> bool:
        """Whether the pair was never told, is no other owner's name, and is on our side."""
        if (owner, attribute) in self._position or (attribute.self_only and owner is not SELF):
            return False
        if owner is SELF and attribute.relation:
            relative = self._known.get(attribute.relation)
            if relative is not None and len(relative.keys) > 1:
                return False
        return self._held_out is None or is_held_out(owner, attribute) == self._held_out

    def _register(self, owner: Owner) -> None:
        if owner not in self._owners:
            self._owners.append(owner)
            for key in owner.keys:
                self._known[key.lower()] = owner

    def _draw_owner(self, attempt: int) -> Owner:
        if self._owners and attempt < _POOL_TRIES:
            if self._focus_owners or self._rng.random() < 0.4:
                return pick(self._rng, self._owners)
        return self._new_owner()

    def _draw_attribute(self, attempt: int) -> Attribute:
        pool = self._focus_attributes if attempt < _TRIES // 2 else None
        return pick(self._rng, pool) if pool else draw_attribute(self._rng)

    def _new_owner(self, self_share: float = SELF_SHARE) -> Owner:
        """An owner whose names nobody else here has; it may be one already here."""
        if self._held_out:
            self_share = 0.0  # no pair of the user's is held out
        while True:
            owner = draw_owner(self._rng, self_share)
            known = [self._known[key.lower()] for key in owner.keys if key.lower() in self._known]
            if not known:
                if len(owner.keys) == 1 or not self._is_named_by_user(owner.keys[0]):
                    return owner
            elif known[0] == owner:
                return known[0]

    def _is_named_by_user(self, relation: str) -> bool:
        """Whether a name for this relation of the user was told as a fact."""
        return any(f.attribute.relation == relation and f.owner is SELF for f in self.facts)

    def _new_value(self, attribute: Attribute) -> str:
        used = self._used.setdefault(attribute, set())
        for _ in range(30):
            value = attribute.sample(self._rng)
            if value.lower() not in used:
                break
        while value.lower() in used:
            value = made_up_word(self._rng)
        used.add(value.lower())
        return value

    def _unknown(self) -> Pair:
        while True:
            owner = self._draw_owner(_POOL_TRIES if self._rng.random() < 0.5 else 0)
            if self._is_free(*(pair := (owner, draw_attribute(self._rng)))):
                return pair

    def _unknown_like(self, fact: Fact) -> Pair:
        rng = self._rng
        pairs = [(owner, fact.attribute) for owner in self._owners]
        pairs += [(fact.owner, told.attribute) for told in self.facts]
        free = [pair for pair in pairs if self._is_free(*pair)]
        if free and rng.random() < 0.7:
            return pick(rng, free)
        for _ in range(_TRIES):
            pair = (self._new_owner(), fact.attribute)
            if rng.random() < 0.5:
                pair = (fact.owner, draw_attribute(rng))
            if self._is_free(*pair):
                return pair
        return self._unknown()
