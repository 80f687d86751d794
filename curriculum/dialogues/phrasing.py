"""Puts facts, changes and questions into words: template, lead-in, tail, punctuation, case."""

from dataclasses import dataclass
from random import Random

from .attributes import Attribute
from .owners import Wording
from .templates import Forms, Template, Templates, article, sections
from .values import pick

MAX_WORDS = 24
SLIPS = 0.05
_SLANG = (
    ("please", "pls"), ("what is", "whats"), ("you", "u"), ("don't", "dont"), ("I'm", "im"),
    ("I am", "im"), ("where is", "wheres"), ("what's", "whats"), ("are", "r"),
    ("is called", "called"),
)  # fmt: skip
_WRAP = sections("wrap")


def _wrap(name: str) -> tuple[str, ...]:
    group, _, part = name.rpartition(" ")
    return _WRAP[group, part]


OPENERS, LEADS, THATS = _wrap("opener"), _wrap("lead"), _wrap("that")
INTERJECTIONS = OPENERS + _wrap("remark")
TELL_LEADS = LEADS + _wrap("news lead")
TELL_TAILS, JOINS = _wrap("tell suffix"), _wrap("join")
UPDATE_LEADS, UPDATE_TAILS, DENY_TAILS = (
    _wrap("update lead"), _wrap("update tail"), _wrap("deny tail"),
)  # fmt: skip
ASK_LEADS, ASK_TAILS = _wrap("ask lead"), _wrap("ask tail")
QUESTION_WRAPS, ORDER_WRAPS = _wrap("question wrap"), _wrap("order wrap")


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

    def fill(self, rng: Random, text: str) -> str:
        """The text of a template with everything filled in, now and then with a slip in it."""
        wording = self.wording
        if rng.random() < SLIPS:
            text = _slip(rng, text)
        return text.format(
            P=wording.possessive, S=wording.subject, O=wording.object, q=wording.pronoun,
            v=self.value, old=self.old, a=article(self.value),
        )  # fmt: skip


def tell(rng: Random, subject: Subject) -> tuple[str, bool]:
    """A message that tells a fact, and whether its first letter must stay."""
    template = subject.choose(rng, subject.attribute.tells)
    body, fixed = subject.fill(rng, template.text), template.fixed_start
    draw = rng.random()
    lead = ""
    if draw < 0.22:
        lead = pick(rng, INTERJECTIONS)
    elif draw < 0.28:
        lead = pick(rng, TELL_LEADS)
    elif draw < 0.42 and template.plain:
        lead = pick(rng, THATS)
    tail = pick(rng, TELL_TAILS) if rng.random() < 0.12 else ""
    end = _end(rng, "?" if lead.startswith("did ") and not tail else ".")
    return _assemble(lead, body, tail, end, fixed)


def tell_two(rng: Random, first: Subject, second: Subject) -> tuple[str, bool]:
    """A message that tells two facts."""
    one, two = (_plain(rng, subject, subject.attribute.tells) for subject in (first, second))
    join, rest = pick(rng, JOINS), second.fill(rng, two.text)
    if join == "." and not two.fixed_start and rng.random() < 0.5:
        rest = rest[0].upper() + rest[1:]
    joined = f"{first.fill(rng, one.text)}{join} {rest}"
    lead = pick(rng, INTERJECTIONS) if rng.random() < 0.15 else ""
    return _assemble(lead, joined, "", _end(rng, "."), one.fixed_start)


def update(rng: Random, subject: Subject) -> tuple[str, bool]:
    """A message that changes a fact, some of them naming the old value."""
    attribute = subject.attribute
    draw = rng.random()
    lead = tail = ""
    if draw < 0.42:
        template = subject.choose(rng, attribute.updates or attribute.tells)
    elif draw < 0.62:
        template = _plain(rng, subject, attribute.tells)
        lead = pick(rng, UPDATE_LEADS)
    elif draw < 0.72:
        template = _plain(rng, subject, attribute.tells)
        tail = pick(rng, UPDATE_TAILS)
    elif draw < 0.78:
        template = _plain(rng, subject, attribute.tells)
        tail = subject.fill(rng, pick(rng, DENY_TAILS))
    else:
        template = subject.choose(rng, attribute.denials)
    body = subject.fill(rng, template.text)
    if not lead and "actually" not in body and rng.random() < 0.3:
        lead = pick(rng, UPDATE_LEADS if template.plain else INTERJECTIONS)
    return _assemble(lead, body, tail, _end(rng, "."), template.fixed_start)


def ask(rng: Random, subject: Subject) -> tuple[str, bool]:
    """A question about a fact, direct or wrapped up."""
    attribute = subject.attribute
    lead = tail = ""
    draw = rng.random()
    if draw < 0.4:
        body = subject.fill(rng, subject.choose(rng, attribute.clauses).text)
        is_question = draw < 0.22
        body = f"{pick(rng, QUESTION_WRAPS if is_question else ORDER_WRAPS)} {body}"
        if rng.random() < 0.12:
            lead = pick(rng, OPENERS)
    else:
        template = subject.choose(rng, attribute.asks)
        body, is_question = subject.fill(rng, template.text), template.plain
        if draw < 0.52:
            lead = pick(rng, ASK_LEADS if is_question else OPENERS)
        elif draw < 0.55:
            lead = pick(rng, LEADS)
        if is_question and rng.random() < 0.12:
            tail = pick(rng, ASK_TAILS)
            tail = "" if tail.endswith("again") and "again" in body else tail
    return _assemble(lead, body, tail, _end(rng, "?" if is_question else "."), False)


def chat(rng: Random, text: str) -> str:
    """A remark with or without an opener and punctuation."""
    lead = f"{pick(rng, OPENERS)} " if rng.random() < 0.1 else ""
    if text.endswith("?"):
        return lead + (text if rng.random() < 0.75 else text[:-1])
    return lead + text if text.endswith("!") else lead + text + _end(rng, ".")


def finish(rng: Random, text: str, *, lowered: bool, fixed_start: bool = False) -> str:
    """Sets the case of a whole message; now and then without apostrophes."""
    if lowered:
        text = text.lower()
    elif not fixed_start and rng.random() < 0.75:
        text = text[0].upper() + text[1:]
    return text.replace("'", "") if rng.random() < 0.03 else text


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


def _plain(rng: Random, subject: Subject, forms: Forms) -> Template:
    """A template that is a plain statement."""
    templates = subject.templates(forms)
    while not (template := pick(rng, templates)).plain:
        pass
    return template


def _end(rng: Random, usual: str) -> str:
    draw = rng.random()
    if draw < 0.6:
        return usual
    if draw < 0.92:
        return ""
    return "!" if usual == "." else "??" if draw > 0.98 else "?"


def _assemble(lead: str, body: str, tail: str, end: str, fixed_start: bool) -> tuple[str, bool]:
    """Joins the parts, leaving out tail and lead where the message would grow too long."""
    text = body
    if tail and text.count(" ") + tail.count(" ") + 1 <= MAX_WORDS - 1:
        text += tail
    if lead and text.count(" ") + lead.count(" ") + 2 <= MAX_WORDS - 1:
        text = f"{lead} {text}"
        fixed_start = False
    return text if text.endswith(("?", ")")) else text + end, fixed_start
