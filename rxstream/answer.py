"""A complete answer, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["eos", "length", "stop_sequence", "stopped", "timeout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How many tokens the query had and the answer has."""

    query_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer, and the memory version that it was read from.

    ``text`` is the answer alone: what was thought before it and the tool call after it stand apart.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    interaction: str
    conversation: str
    read_version: int
    thinking: str = ""
    tool_call: str = ""

    @property
    def says_something(self) -> bool:
        """Whether there is an answer or a tool call; thinking alone is neither."""
        return bool(self.text or self.tool_call)
