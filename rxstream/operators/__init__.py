"""Operators on streams of events; each is used as ``stream.pipe(operator(...))``."""

from __future__ import annotations

from ._answers import answers
from ._attend import attend
from ._bounded import bounded
from ._check_grammar import check_grammar
from ._coalesce import coalesce
from ._decode import decode
from ._encode import encode
from ._interact import interact
from ._msgpack import from_msgpack, to_msgpack
from ._of import memory_updates, of, tokens
from ._per_interaction import per_interaction
from ._pipeline import Query
from ._text import text

__all__ = [
    "Query",
    "answers",
    "attend",
    "bounded",
    "check_grammar",
    "coalesce",
    "decode",
    "encode",
    "from_msgpack",
    "interact",
    "memory_updates",
    "of",
    "per_interaction",
    "text",
    "to_msgpack",
    "tokens",
]
