"""Puts facts, changes and questions into words: template, lead-in, tail, punctuation, case."""

from random import Random

from .decor import (
    CHATTER,
    MAX_TURN_LENGTH,
    fits,
    head_and_tail,
    raised,
    with_chatter,
    with_head,
)
from .subject import Subject, typed
from .templates import Forms, Template, sections
from .values import pick

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


def tell(rng: Random, subject: Subject) -> tuple[str, bool]:
    """A message that tells a fact, and whether its first letter must stay."""
    template = subject.choose(rng, subject.attribute.tells)
    body, fixed = subject.fill(rng, template.text), template.fixed_start
    head, tail = head_and_tail(rng, "tell")
    draw = 1.0 if head else rng.random()
    lead = ""
    if draw < 0.22:
        lead = pick(rng, INTERJECTIONS)
    elif draw < 0.28:
        lead = pick(rng, TELL_LEADS)
    elif draw < 0.42 and template.plain:
        lead = pick(rng, THATS)
    if not tail and rng.random() < 0.12:
        tail = pick(rng, TELL_TAILS)
    end = _end(rng, "?" if lead.startswith("did ") and not tail else ".")
    return _assemble(rng, "tell", subject.room, (head, lead, body, tail, end), fixed)


def tell_two(rng: Random, first: Subject, second: Subject) -> tuple[str, bool]:
    """A message that tells two facts."""
    room = first.room + second.room - MAX_TURN_LENGTH
    texts = _same_attribute(rng, first, second)
    if texts is None:
        texts = _two_texts(rng, first, second)
    joined, fixed = texts
    head, tail = head_and_tail(rng, "tell")
    lead = pick(rng, INTERJECTIONS) if not head and rng.random() < 0.15 else ""
    return _assemble(rng, "tell", room, (head, lead, joined, tail, _end(rng, ".")), fixed)


def _two_texts(rng: Random, first: Subject, second: Subject) -> tuple[str, bool]:
    one, two = _short(rng, first), _short(rng, second)
    if first.wording == second.wording and not first.first_person and rng.random() < 0.7:
        second = second.as_pronoun(rng)
        while "{O}" in two.text:
            two = _short(rng, second)
    join, rest = pick(rng, JOINS), second.fill(rng, two.text)
    if join == "." and not two.fixed_start and rng.random() < 0.5:
        rest = raised(rest)
    return f"{first.fill(rng, one.text)}{join} {rest}", one.fixed_start


def _short(rng: Random, subject: Subject) -> Template:
    """The shorter of two plain statements."""
    one, two = (_plain(rng, subject, subject.attribute.tells) for _ in range(2))
    return one if len(one.text) <= len(two.text) else two


def _same_attribute(rng: Random, first: Subject, second: Subject) -> tuple[str, bool] | None:
    """The second told as "and Ann's is Max", where both facts are about the same thing."""
    if first.attribute is not second.attribute or rng.random() < 0.4:
        return None
    stem = first.attribute.statement.removeprefix("the colour of ")
    noun, verb, rest = stem.rpartition(" are" if stem.endswith(" are") else " is")
    if not verb:
        return None
    said = f"{noun}{verb}{rest}".replace("{p}", first.wording.possessive)
    join = pick(rng, (" and", ",", ", and", ", while", ".", ";"))
    whose = "mine" if second.first_person else second.wording.possessive
    one, two = typed(first.value), typed(second.value)
    return f"{said} {one}{join} {whose}{verb}{rest} {two}", False


def update(rng: Random, subject: Subject) -> tuple[str, bool]:
    """A message that changes a fact, some of them naming the old value."""
    attribute = subject.attribute
    head, behind = head_and_tail(rng, "update")
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
    if not lead and not head and "actually" not in body and rng.random() < 0.3:
        lead = pick(rng, UPDATE_LEADS if template.plain else INTERJECTIONS)
    if head and lead:
        lead = ""
    parts = (head, lead, body, tail or behind, _end(rng, "."))
    return _assemble(rng, "update", subject.room, parts, template.fixed_start)


def ask(rng: Random, subject: Subject) -> tuple[str, bool]:
    """A question about a fact, direct or wrapped up."""
    attribute = subject.attribute
    lead = tail = ""
    head, behind = head_and_tail(rng, "ask")
    draw = rng.random()
    if draw < 0.3:
        body = subject.fill(rng, subject.choose(rng, attribute.clauses).text)
        is_question = draw < 0.16
        body = f"{pick(rng, QUESTION_WRAPS if is_question else ORDER_WRAPS)} {body}"
        if rng.random() < 0.12:
            lead = pick(rng, OPENERS)
    else:
        template = subject.choose(rng, attribute.asks)
        body, is_question = subject.fill(rng, template.text), template.plain
        if draw < 0.42:
            lead = pick(rng, ASK_LEADS if is_question else OPENERS)
        elif draw < 0.45:
            lead = pick(rng, LEADS)
        if is_question and rng.random() < 0.12:
            tail = pick(rng, ASK_TAILS)
    tail = behind or tail
    tail = "" if "again" in tail and "again" in body else tail
    parts = (head, "" if head else lead, body, tail, _end(rng, "?" if is_question else "."))
    return _assemble(rng, "ask", subject.room, parts, False)


def chat(rng: Random, text: str) -> str:
    """A remark with or without an opener and punctuation."""
    lead = f"{pick(rng, OPENERS)} " if rng.random() < 0.1 else ""
    if text.endswith("?"):
        return lead + (text if rng.random() < 0.75 else text[:-1])
    if text.endswith("."):
        text = text.rstrip(".")
    return lead + text if text.endswith(("!", ")")) else lead + text + _end(rng, ".")


def finish(rng: Random, text: str, *, lowered: bool, fixed_start: bool = False) -> str:
    """Sets the case of a whole message; now and then without apostrophes."""
    if lowered:
        text = text.lower()
    elif not fixed_start and rng.random() < 0.75:
        text = text[0].upper() + text[1:]
    return text.replace("'", "") if rng.random() < 0.03 else text


def _plain(rng: Random, subject: Subject, forms: Forms) -> Template:
    """A template that is a plain statement."""
    templates = subject.templates(forms)
    while not (template := pick(rng, templates)).plain:
        pass
    return template


def _end(rng: Random, usual: str) -> str:
    draw = rng.random()
    if draw < 0.57:
        return usual
    if draw < 0.9:
        return ""
    if draw < 0.93:
        return "..." if usual == "." else "?!"
    return "!" if usual == "." else "??" if draw > 0.98 else "?"


def _assemble(
    rng: Random, kind: str, room: int, parts: tuple[str, str, str, str, str], fixed: bool
) -> tuple[str, bool]:
    """Joins head, lead, body, tail and end, leaving out what would make the message too long."""
    head, lead, text, tail, end = parts
    stop = "?" if "?" in end else "."
    if tail and fits(text, tail, room):
        text = text.rstrip(".?") + tail if text.endswith((".", "?")) else text + tail
        if any(mark in tail for mark in ".?!"):
            end = end if end == "" else "."
    if lead and fits(text, lead, room):
        text, fixed = f"{lead} {text}", False
    if head and fits(text, head, room):
        text, fixed = with_head(rng, head, text, fixed), False
    text = text if text.endswith(("?", ")", "!", "...", ".")) else text + end
    if rng.random() < CHATTER[kind]:
        return with_chatter(rng, text, fixed, stop, room)
    return text, fixed
