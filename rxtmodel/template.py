"""The interaction template: how a query and its answer become one sequence of ids.

::

    [BOS] [Q] query [A] answer [EOS]

``[I]`` internal instruction, ``[U]`` tool result, ``[T]`` thinking and ``[C]`` tool call have their
ids here and are used by models that were trained with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SPECIAL_TOKENS = (
    "[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]", "[Q]", "[A]", "[T]", "[I]", "[U]", "[C]",
)  # fmt: skip
"""In the order of their ids, from 0."""

PAD, UNK, BOS, EOS, MASK, QUERY, ANSWER, THINK, INTERNAL, TOOL_USE, TOOL_CALL = range(11)


def query_ids(query: Sequence[int]) -> list[int]:
    """What the decoder is given: everything up to the point where the answer begins."""
    return [BOS, QUERY, *query, ANSWER]


def interaction_ids(query: Sequence[int], answer: Sequence[int]) -> list[int]:
    """A whole interaction, as it is encoded into memory."""
    return [BOS, QUERY, *query, ANSWER, *answer, EOS]
