"""The grammar of conversations, and a checker for it.

One interaction is a word of ``X | Q(C|F|S T*(C|F|A(K|U(D|E))))``, seen from any stream; what is not
over yet is a prefix of a word. On the stream of one memory four guarantees hold:

- G1, order: one sequence for the memory, without gaps.
- G2, projection: the events of every interaction are a prefix of a word.
- G3, exclusion: from the start of an interaction to its end no other one starts, speaks or writes;
  only queueing goes on.
- G4, freshness: an interaction reads the newest version, and each update adds exactly one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from .errors import RxStreamError
from .events import LETTERS, GenerationStarted, MemoryFailed, MemoryUpdated, MemoryUpdating, Token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .events import Event

DONE: Final = "$"
NEXT: Final[dict[str, dict[str, str]]] = {
    "0": {"X": DONE, "Q": "q"},
    "q": {"C": DONE, "F": DONE, "S": "s"},
    "s": {"T": "s", "C": DONE, "F": DONE, "A": "a"},
    "a": {"K": DONE, "U": "u"},
    "u": {"D": DONE, "E": DONE},
    DONE: {},
}
"""The automaton of one interaction: state, letter, next state."""


class GrammarViolation(RxStreamError):
    """An event that must not come here. ``rule`` is G1, G2, G3 or G4."""

    def __init__(self, rule: str, message: str, event: Event | None = None) -> None:
        super().__init__(f"{rule}: {message}")
        self.rule, self.event = rule, event


class GrammarChecker:
    """Checks events one by one; the stream of one interaction, one conversation or one memory.

    ``whole``: this is all of a memory from its first event on, so that ``seq`` has no gaps and no
    version is missed. ``serial``: interactions of the memory exclude each other. A checker keeps a
    few bytes for each interaction that it has seen.
    """

    def __init__(self, *, whole: bool = False, serial: bool = True) -> None:
        self._whole = whole
        self._serial = serial
        self._states: dict[str, str] = {}
        self._words: dict[str, str] = {}
        self._indexes: dict[str, int] = {}
        self._seq: int | None = None
        self._owner: str | None = None
        self._version: int | None = None

    def check(self, event: Event) -> None:
        """Accept ``event`` as the next one. Raises ``GrammarViolation``."""
        self._order(event)
        if isinstance(event, MemoryUpdated) and not event.interaction:
            # What another process has written comes when it comes.
            if event.cause == "restore" and self._serial and self._owner is not None:
                self._fail("G3", f"restored while {self._owner!r} runs", event)
        else:
            self._project(event)
            self._exclude(event)
        self._fresh(event)

    def state(self, interaction: str) -> str:
        """The state of ``interaction``: one of ``NEXT``, "0" when nothing was seen of it."""
        return self._states.get(interaction, "0")

    def word(self, interaction: str) -> str:
        """The letters of ``interaction`` so far, one T for all tokens in a row."""
        return self._words.get(interaction, "")

    @property
    def open(self) -> frozenset[str]:
        """The interactions that are not over."""
        return frozenset(name for name, state in self._states.items() if state != DONE)

    def finish(self) -> None:
        """Check that every interaction seen is over. Raises ``GrammarViolation``."""
        if self.open:
            words = {name: self._words[name] for name in sorted(self.open)}
            raise GrammarViolation("G2", f"the stream ended inside of interactions: {words}")

    def _order(self, event: Event) -> None:
        if self._seq is not None:
            gap = event.seq - self._seq
            if gap < 1 or (self._whole and gap > 1):
                self._fail("G1", f"seq {event.seq} follows {self._seq}", event)
        self._seq = event.seq

    def _project(self, event: Event) -> None:
        name, letter = event.interaction, LETTERS[event.kind]
        state = self.state(name)
        word = self.word(name)
        if letter != "T" or not word.endswith("T"):
            word = self._words[name] = word + letter
        after = NEXT[state].get(letter)
        if after is None:
            self._fail("G2", f"{word} is no prefix of a word", event)
        self._states[name] = after
        if isinstance(event, Token):
            last = self._indexes.get(name, -1)
            if event.index <= last or (self._whole and event.index != last + 1):
                self._fail("G2", f"token {event.index} follows token {last}", event)
            self._indexes[name] = event.index

    def _exclude(self, event: Event) -> None:
        name, letter = event.interaction, LETTERS[event.kind]
        if self._serial and letter in "STAUDEK" and self._owner not in (None, name):
            self._fail("G3", f"{letter} of {name!r} while {self._owner!r} runs", event)
        if letter == "S":
            self._owner = name
        elif self._states[name] == DONE and self._owner == name:
            self._owner = None

    def _fresh(self, event: Event) -> None:
        known = self._version
        match event:
            case GenerationStarted(read_version=read):
                if known is None:
                    self._version = read
                elif not self._allowed(read, known):
                    self._fail("G4", f"reads version {read}, the newest is {known}", event)
                elif self._serial:
                    self._version = read
            case MemoryUpdating(base_version=base) | MemoryFailed(base_version=base):
                if known is not None and (base < known or (self._whole and base > known)):
                    self._fail("G4", f"updates version {base}, the newest is {known}", event)
                self._version = base
            case MemoryUpdated(version=version):
                if known is not None and (
                    version <= known or (self._exact(event) and version != known + 1)
                ):
                    self._fail("G4", f"version {version} follows {known}", event)
                self._version = version

    def _allowed(self, read: int, known: int) -> bool:
        if not self._serial:
            return not self._whole or read <= known
        return read == known if self._whole else read >= known

    def _exact(self, event: MemoryUpdated) -> bool:
        """Whether the version before this one was seen: in its own U, or because all are."""
        return self._whole or (self._serial and event.cause == "interaction")

    def _fail(self, rule: str, message: str, event: Event) -> NoReturn:
        raise GrammarViolation(
            rule,
            f"{message} ({event.kind} of interaction {event.interaction!r}, seq {event.seq})",
            event,
        )


def check(events: Iterable[Event], *, whole: bool = False, serial: bool = True) -> GrammarChecker:
    """Check all ``events``; returns the checker. Raises ``GrammarViolation``."""
    checker = GrammarChecker(whole=whole, serial=serial)
    for event in events:
        checker.check(event)
    return checker
