"""The interaction template: how a query and its answer become one sequence of ids.

::

    [BOS] [I] internal ([Q] query | [U] tool result) [T] thinking [A] answer [C] tool call [EOS]

All but the query and the frame are optional. ``[T]``, ``[I]``, ``[U]`` and ``[C]`` are used by
models that were trained with them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal

from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

SPECIAL_TOKENS = (
    "[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]", "[Q]", "[A]", "[T]", "[I]", "[U]", "[C]",
)  # fmt: skip
"""In the order of their ids, from 0."""

PAD, UNK, BOS, EOS, MASK, QUERY, ANSWER, THINK, INTERNAL, TOOL_USE, TOOL_CALL = range(11)

Thinking = Literal["fast", "extended", "auto"]
"""After a query: the answer, thinking and then the answer, or what the model chooses."""
Section = Literal["query", "thinking", "answer", "tool_call"]
"""What an answer under way is in the middle of; "query": it has not begun."""


_OPTIONAL = ("unk", "mask", "think", "internal", "tool_use", "tool_call")
"""Tokens that a model may do without."""


@dataclass(frozen=True, kw_only=True)
class TokenIds:
    """Ids of the special tokens that a model was trained with; None: it knows no such token."""

    pad: int = PAD
    unk: int | None = UNK
    mask: int | None = MASK
    bos: int = BOS
    eos: int = EOS
    query: int = QUERY
    answer: int = ANSWER
    think: int | None = THINK
    internal: int | None = INTERNAL
    tool_use: int | None = TOOL_USE
    tool_call: int | None = TOOL_CALL
    ends: tuple[int, ...] = ()
    """More tokens that end an answer. In an interaction that is encoded ``eos`` stands for them."""

    def __post_init__(self) -> None:
        for part in dataclasses.fields(self):
            value = getattr(self, part.name)
            if part.name == "ends":
                if not (isinstance(value, tuple) and all(map(_is_id, value))):
                    raise ConfigError(f"tokens.ends must be a tuple of ids >= 0, got {value!r}")
            elif not _is_id(value) and not (value is None and part.name in _OPTIONAL):
                kinds = "an id >= 0 or None" if part.name in _OPTIONAL else "an id >= 0"
                raise ConfigError(f"tokens.{part.name} must be {kinds}, got {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """Every id by name; ``ends`` where there are any."""
        ids = dataclasses.asdict(self)
        return ids if self.ends else {name: i for name, i in ids.items() if name != "ends"}

    def query_ids(
        self,
        query: Sequence[int],
        *,
        thinking: Thinking = "fast",
        internal: Sequence[int] = (),
        tool_result: bool = False,
    ) -> list[int]:
        """What the decoder is given. In "auto" the model draws ``[A]`` or ``[T]`` itself.

        Raises ConfigError where the model has no token for what is asked.
        """
        head = self._known("tool_use") if tool_result else self.query
        start = section_at_start(thinking)
        begin = [self.answer] if start == "answer" else [self._known("think")]
        if start == "query":
            begin = []
        return [self.bos, *self._internal(internal), head, *query, *begin]

    def interaction_ids(
        self,
        query: Sequence[int],
        answer: Sequence[int],
        *,
        thinking: Sequence[int] = (),
        tool_call: Sequence[int] = (),
        internal: Sequence[int] = (),
        tool_result: bool = False,
    ) -> list[int]:
        """A whole interaction, as it is encoded into memory.

        A tool call may come right after thinking, without an answer.
        """
        ids = self.query_ids(query, thinking="extended" if thinking else "fast", internal=internal,
                             tool_result=tool_result)  # fmt: skip
        if thinking:
            ids += thinking
            if answer or not tool_call:
                ids.append(self.answer)
        ids += answer
        if tool_call:
            ids += [self._known("tool_call"), *tool_call]
        return [*ids, self.eos]

    def completed_ids(self, prompt: Sequence[int], generated: Sequence[int]) -> list[int]:
        """A whole interaction of what the decoder was given and what it drew; it ends once."""
        kept = takewhile(lambda token: token not in self.all_ends, generated)
        return [*prompt, *kept, self.eos]

    def instruction_ids(self, text: Sequence[int]) -> list[int]:
        """An instruction without a query: what a system prompt writes into memory."""
        return [self.bos, *self._internal(text), self.eos]

    def _internal(self, ids: Sequence[int]) -> list[int]:
        return [self._known("internal"), *ids] if ids else []

    def _known(self, name: str) -> int:
        token = getattr(self, name)
        if token is None:
            raise ConfigError(f"this model was trained without the token {name}")
        return token

    def section_after(self, section: Section, token: int) -> Section:
        """Where an answer stands after ``token``."""
        starts: dict[int | None, Section] = {
            self.answer: "answer", self.think: "thinking", self.tool_call: "tool_call"
        }  # fmt: skip
        return starts.get(token, section)

    def allowed(self, section: Section, *, tools: bool = False) -> tuple[int, ...]:
        """Special tokens that may be drawn next; in "query", nothing else may be drawn."""
        call = self.tool_call if tools else None
        wanted: dict[Section, tuple[int | None, ...]] = {
            "query": (self.answer, self.think),
            "thinking": (self.answer, call),
            "answer": (*self.all_ends, call),
            "tool_call": self.all_ends,
        }
        return tuple(token for token in wanted[section] if token is not None)

    def special(self) -> tuple[int, ...]:
        """Every id that is not text."""
        return self._special

    @cached_property
    def _special(self) -> tuple[int, ...]:
        named = (i for name, i in self.to_dict().items() if name != "ends" and i is not None)
        return tuple(sorted({*named, *self.ends}))

    @cached_property
    def all_special(self) -> frozenset[int]:
        """The same, to ask whether an id is one of them."""
        return frozenset(self._special)

    @cached_property
    def all_ends(self) -> tuple[int, ...]:
        """Tokens of which each ends an answer."""
        return (self.eos, *self.ends)

    def not_drawn(self) -> list[int]:
        """Special tokens that a plain answer does not hold: all but those that end it."""
        return [token for token in self.special() if token not in self.all_ends]


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def section_at_start(thinking: Thinking) -> Section:
    """Where an answer stands after its prompt. Raises ConfigError."""
    sections: dict[str, Section] = {"fast": "answer", "extended": "thinking", "auto": "query"}
    if thinking not in sections:
        raise ConfigError(f"thinking must be one of {', '.join(sections)}, got {thinking!r}")
    return sections[thinking]


_OURS = TokenIds()


def query_ids(query: Sequence[int]) -> list[int]:
    """What the decoder is given: everything up to the point where the answer begins."""
    return _OURS.query_ids(query)


def interaction_ids(query: Sequence[int], answer: Sequence[int]) -> list[int]:
    """A whole interaction, as it is encoded into memory."""
    return _OURS.interaction_ids(query, answer)
