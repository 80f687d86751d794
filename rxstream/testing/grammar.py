"""Words of the grammar, for tests: spell events, and check what a stream gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answer import Usage
from ..events import (
    AnswerCompleted,
    Cancelled,
    ErrorInfo,
    Event,
    Failed,
    GenerationStarted,
    MemoryFailed,
    MemorySkipped,
    MemoryUpdated,
    MemoryUpdating,
    QueryAccepted,
    Rejected,
    Token,
)
from ..grammar import GrammarChecker, GrammarViolation, check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["GrammarChecker", "GrammarViolation", "check", "check_word", "spell", "text_of"]

TEXT = "abcdefghijklmnopqrstuvwxyz"


def spell(
    word: str,
    interaction: str = "i1",
    *,
    conversation: str = "main",
    seq: int = 1,
    version: int = 0,
) -> list[Event]:
    """One event for each letter of ``word``, numbered from ``seq``, on memory ``version``.

    Tokens spell the alphabet. The word need not be one of the grammar.
    """
    spelled: list[Event] = []
    tokens = 0
    for number, letter in enumerate(word, seq):
        head = {"conversation": conversation, "interaction": interaction, "seq": number}
        spelled.append(_LETTERS[letter](head, tokens, version))
        tokens += letter == "T"
    return spelled


def text_of(tokens: int) -> str:
    """The text of the first ``tokens`` tokens that ``spell`` makes."""
    return "".join(TEXT[index % len(TEXT)] for index in range(tokens))


_ERROR = ErrorInfo("RuntimeError", "spelled")
_LETTERS: dict[str, Callable[..., Event]] = {
    "X": lambda head, n, v: Rejected(**head, reason="busy"),
    "Q": lambda head, n, v: QueryAccepted(**head),
    "S": lambda head, n, v: GenerationStarted(**head, read_version=v),
    "T": lambda head, n, v: Token(**head, index=n, id=n, text=TEXT[n % len(TEXT)]),
    "A": lambda head, n, v: AnswerCompleted(
        **head,
        text=text_of(n),
        token_ids=tuple(range(n)),
        finish_reason="eos",
        usage=Usage(query_tokens=1, answer_tokens=n),
    ),
    "C": lambda head, n, v: Cancelled(**head, phase="generating", tokens=n),
    "F": lambda head, n, v: Failed(**head, error=_ERROR, phase="decode"),
    "K": lambda head, n, v: MemorySkipped(**head, reason="spelled"),
    "U": lambda head, n, v: MemoryUpdating(**head, base_version=v),
    "D": lambda head, n, v: MemoryUpdated(**head, version=v + 1),
    "E": lambda head, n, v: MemoryFailed(**head, base_version=v, error=_ERROR),
}


def check_word(events: Iterable[Event]) -> None:
    """Check a whole stream: in order, every interaction over. Raises ``GrammarViolation``."""
    check(events).finish()
