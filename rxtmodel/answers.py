"""What an answer is made of: thinking, the answer itself, tool calls; read as it is generated."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import RxtModelError
from .template import TokenIds, section_at_start

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .template import Section, Thinking

_FIELDS = {"name", "arguments", "id"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerParts:
    """The ids of an answer by what they are, without special tokens."""

    thinking: tuple[int, ...] = ()
    answer: tuple[int, ...] = ()
    tool_calls: tuple[tuple[int, ...], ...] = ()
    section: Section = "query"
    """Where it stands; "query": nothing has begun, as the model has not chosen yet."""
    ended: bool = False
    """The model has ended it. A tool call of an answer that was cut off may be half a one."""
    stray: tuple[int, ...] = ()
    """Ids that had no place: special tokens of a query, and what came after the end."""


class AnswerReader:
    """Sorts generated ids into the parts of an answer, one by one; no sequence is refused.

    Args:
        tokens: ids of the model's special tokens.
        thinking: as the prompt was made with (``TokenIds.query_ids``).
    """

    def __init__(self, tokens: TokenIds, thinking: Thinking = "fast") -> None:
        self.tokens = tokens
        self.section: Section = section_at_start(thinking)
        self.ended = False
        self._starts = frozenset({tokens.answer, tokens.think, tokens.tool_call} - {None})
        self._ends = frozenset(tokens.all_ends)
        self._misplaced = tokens.all_special - self._starts - self._ends
        self._thinking: list[int] = []
        self._answer: list[int] = []
        self._calls: list[list[int]] = []
        self._stray: list[int] = []

    def push(self, token: int) -> Section | None:
        """The part that ``token`` is text of; None for a special token and after the end."""
        if self.ended or token in self._misplaced:
            self._stray.append(token)
        elif token in self._ends:
            self.ended = True
        elif token in self._starts:
            self.section = self.tokens.section_after(self.section, token)
            if self.section == "tool_call":
                self._calls.append([])
        elif self.section == "query":  # text before the model has said what it is
            self._stray.append(token)
        else:
            self._open().append(token)
            return self.section
        return None

    def _open(self) -> list[int]:
        if self.section == "tool_call":
            return self._calls[-1]
        return self._thinking if self.section == "thinking" else self._answer

    def parts(self) -> AnswerParts:
        """Everything so far."""
        return AnswerParts(
            thinking=tuple(self._thinking),
            answer=tuple(self._answer),
            tool_calls=tuple(map(tuple, self._calls)),
            section=self.section,
            ended=self.ended,
            stray=tuple(self._stray),
        )


def read_answer(tokens: TokenIds, ids: Iterable[int], thinking: Thinking = "fast") -> AnswerParts:
    """The parts of generated ids."""
    reader = AnswerReader(tokens, thinking)
    for token in ids:
        reader.push(token)
    return reader.parts()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function that the model wants to be called."""

    name: str
    arguments: dict[str, Any]
    id: str | None = None


class ToolCallError(RxtModelError, ValueError):
    """Text that is no tool call. The message says why, in words that a model can be told too."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"not a tool call: {reason}")
        self.text = text


def parse_tool_calls(text: str) -> tuple[ToolCall, ...]:
    """The calls in the text of one tool-call section.

    ::

        {"name": "weather", "arguments": {"city": "Oslo"}}

    or a list of such. ``arguments`` may be left out, or be such an object as a string of JSON;
    ``id`` is optional. Raises ToolCallError for anything else; no part of a list is taken alone.
    """
    if not isinstance(text, str):
        raise ToolCallError(text, f"text is needed, found {type(text).__name__}")
    data = _json(text, text)
    calls = data if isinstance(data, list) else [data]
    if not calls:
        raise ToolCallError(text, "the list is empty")
    return tuple(_call(text, call) for call in calls)


def _call(text: str, data: Any) -> ToolCall:
    if not isinstance(data, dict):
        raise ToolCallError(text, f"an object is needed, found {_kind(data)}")
    if unknown := sorted(set(data) - _FIELDS):
        raise ToolCallError(text, f"a call has no field {', '.join(unknown)}")
    name, arguments, id = data.get("name"), data.get("arguments", {}), data.get("id")
    if not isinstance(name, str) or not name.strip():
        raise ToolCallError(text, "'name' must be the name of a function")
    if isinstance(arguments, str):
        arguments = _json(text, arguments)
    if not isinstance(arguments, dict):
        raise ToolCallError(text, f"'arguments' must be an object, found {_kind(arguments)}")
    if id is not None and not isinstance(id, str):
        raise ToolCallError(text, f"'id' must be a string, found {_kind(id)}")
    return ToolCall(name=name, arguments=arguments, id=id)


def _json(text: str, part: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ToolCallError(text, f"{', '.join(twice)} is given twice")
        return dict(pairs)

    def no_number(word: str) -> Any:
        raise ToolCallError(text, f"{word} is not a number of JSON")

    def whole(digits: str) -> int:
        try:
            return int(digits)
        except ValueError:  # Python reads no more than some thousand digits
            raise ToolCallError(text, f"a number of {len(digits)} digits is too long") from None

    def number(digits: str) -> float:
        value = float(digits)
        if math.isinf(value):
            raise ToolCallError(text, f"{digits[:20]} is too large for a number")
        return value

    try:
        return json.loads(
            part,
            object_pairs_hook=unique,
            parse_constant=no_number,
            parse_int=whole,
            parse_float=number,
        )
    except json.JSONDecodeError as error:
        raise ToolCallError(text, f"{error.msg} at character {error.pos}") from error
    except RecursionError:
        raise ToolCallError(text, "it is nested too deeply") from None


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a truth value"}
    return "nothing" if value is None else kinds.get(type(value), "a number")
