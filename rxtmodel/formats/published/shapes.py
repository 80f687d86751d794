"""What most layers of a file have.

A layer may lack a weight, or have one of another shape: then the others say what the model is, and
the one that differs is named when weights are checked.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Shapes = Mapping[str, Sequence[int]]


def places(shapes: Shapes, pattern: str) -> list[str]:
    """The modules of a file whose names match."""
    matches = (re.match(pattern, name) for name in shapes)
    return list({match[0]: None for match in matches if match})


def has(shapes: Shapes, modules: Sequence[str], leaf: str) -> bool:
    """Whether at least half of these modules have such a weight."""
    found = sum(f"{module}.{leaf}" in shapes for module in modules)
    return found > 0 and 2 * found >= len(modules)


def size(shapes: Shapes, name: str, axis: int) -> int | None:
    """Of one weight; None where there is none such."""
    shape = shapes.get(name, ())
    return shape[axis] if axis < len(shape) else None


def usual(values: Iterable[Any]) -> Any:
    """The most frequent value but None; None where there is no other."""
    counted = Counter(value for value in values if value is not None)
    return counted.most_common(1)[0][0] if counted else None


def counts(shapes: Shapes, modules: Sequence[str], width: int) -> tuple[int, int] | None:
    """Query and key/value heads of attentions with heads of ``width``."""
    query, kv = (
        usual(size(shapes, f"{module}.{name}_proj.weight", 0) for module in modules)
        for name in "qk"
    )
    return None if query is None or kv is None else (query // width, kv // width)
