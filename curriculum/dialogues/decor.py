"""What people say around a fact: heads, tails and chatter, from the phrase files of that name."""

from collections.abc import Callable
from random import Random

from .templates import sections
from .values import pick

MAX_WORDS = 29
"""Words of a query at most."""
MAX_TURN_LENGTH = 144
"""Characters of a query and its answer, what is around the fact included."""
HEAD_OR_TAIL = {"tell": 0.35, "ask": 0.3, "update": 0.35}
CHATTER = {"tell": 0.12, "ask": 0.06, "update": 0.06}
CHATTER_ANSWERS = {
    "remark": "I see.",
    "reaction": "All right.",
    "question": "I only know what you tell me.",
    "request": "I cannot do that.",
}
_KINDS = ("remark",) * 9 + ("reaction",) * 5 + ("question",) * 3 + ("request",) * 3
_STOPS = (".", "!", "?", "…", ")", ":)", ":(")


def _lines(name: str, part: str, mend: Callable[[str], str]) -> tuple[str, ...]:
    found = sections(name).get(("", part), ())
    return tuple(mend(line) for line in found if not set("{}<>|") & set(line))


def _head(line: str) -> str:
    return " ".join(line.split()) + " "


def _tail(line: str) -> str:
    text = " ".join(line.split())
    return f" {text}" if text[0].isalnum() or text[0] in "(:;-'\"" else text


def _strip(line: str) -> str:
    return " ".join(line.split())


HEADS = {kind: _lines("heads", kind, _head) for kind in ("tell", "ask", "update")}
TAILS = {kind: _lines("tails", kind, _tail) for kind in ("tell", "ask")}
CHATTERS = {part: _lines("chatter", part, _strip) for part in CHATTER_ANSWERS}


def chatter(rng: Random) -> tuple[str, str] | None:
    """Something to chat about and its answer, if there is a file of such lines."""
    part = pick(rng, _KINDS)
    lines = CHATTERS[part]
    return (pick(rng, lines), CHATTER_ANSWERS[part]) if lines else None


def head_and_tail(rng: Random, kind: str) -> tuple[str, str]:
    """One of them or, rarely, both; often neither."""
    if rng.random() >= HEAD_OR_TAIL[kind]:
        return "", ""
    heads, tails = HEADS[kind], TAILS.get(kind, ())
    draw = rng.random()
    head = pick(rng, heads) if heads and (draw < 0.55 or not tails) else ""
    tail = pick(rng, tails) if tails and draw > 0.5 else ""
    return head, tail


def fits(text: str, extra: str, room: int) -> bool:
    """Whether both together are short enough for a query of so many characters."""
    return (
        len(text) + len(extra) + 2 <= room and text.count(" ") + extra.count(" ") + 2 <= MAX_WORDS
    )


def raised(text: str) -> str:
    """With a capital."""
    return text[:1].upper() + text[1:]


def with_head(rng: Random, head: str, body: str, fixed: bool) -> str:
    """The body behind its head, with or without a capital."""
    after_stop = head.rstrip().endswith((".", "!", "?"))
    if not fixed and rng.random() < (0.5 if after_stop else 0.1):
        body = raised(body)
    return head + body


def with_chatter(rng: Random, text: str, fixed: bool, stop: str, room: int) -> tuple[str, bool]:
    """The text with a sentence about something else before or behind it, if there is room."""
    before = rng.random() < 0.5
    part = "reaction" if before and rng.random() < 0.25 else "remark"
    lines = CHATTERS[part]
    if not lines:
        return text, fixed
    line = pick(rng, lines)
    if not fits(text, line, room):
        return text, fixed
    if before:
        if not line.endswith(_STOPS):
            line += "," if rng.random() < 0.15 else "."
        body = raised(text) if not fixed and rng.random() < 0.5 else text
        return f"{line} {body}", False
    if not text.endswith(_STOPS):
        text += stop
    return f"{text} {raised(line) if rng.random() < 0.5 else line}", fixed
