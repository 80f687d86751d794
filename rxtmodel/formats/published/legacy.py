"""Experts that each have keys of their own, as files before 0.3 have them.

Weights are checked by the names that the file has for them, so that an error names one of those;
only then do they become one tensor.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    Shape = Sequence[int]

_FC = {"fc1.linear.weight": "w1", "fc1.weight": "w1", "fc2.weight": "w2",
       "fc1.linear.bias": "b1", "fc1.bias": "b1", "fc2.bias": "b2"}  # fmt: skip
_APART = re.compile(
    rf"(.*\.ff)\.(experts|shared_experts)\.(\d+)\.({'|'.join(map(re.escape, _FC))})"
)
_JOINED = re.compile(r"(.*\.ff)\.(shared_)?([wb][12])")
_ONE_SHARED = ".shared_expert."
"""One shared expert is a feed-forward as any other."""


def is_legacy(names: Iterable[str]) -> bool:
    """Whether there are experts with keys of their own."""
    return any(_APART.fullmatch(name) for name in names)


def joined_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes that the experts of a file have together, by what most of them say."""
    out = {name: shape for name, shape in shapes.items() if not _APART.fullmatch(name)}
    for name, (count, parts) in _groups(shapes).items():
        usual, _ = Counter(tuple(shapes[part]) for part in parts).most_common(1)[0]
        out[name] = usual if _ONE_SHARED in name else (count, *usual[::-1])
    return out


def joined(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with all experts of a layer in one tensor."""
    out = {name: weight for name, weight in weights.items() if not _APART.fullmatch(name)}
    for name, (_, parts) in _groups(weights).items():
        tensors = [weights[part] for part in parts]
        if _ONE_SHARED in name:
            out[name] = tensors[0]
        else:
            out[name] = torch.stack([t.T if t.dim() == 2 else t for t in tensors])
    return out


def apart(expected: Mapping[str, Shape], found: Iterable[str]) -> dict[str, Shape]:
    """``expected`` by the names of a file with experts apart, but for what it has as one tensor."""
    present = set(found)
    out: dict[str, Shape] = {}
    for name, shape in expected.items():
        if name in present:
            out[name] = shape
        else:
            out.update(_apart(name, shape, expected))
    return out


def _groups(names: Iterable[str]) -> dict[str, tuple[int, list[str]]]:
    """For each tensor that they become: how many experts there are, and their names in order."""
    matches = [match for name in names if (match := _APART.fullmatch(name))]
    numbers: dict[tuple[str, str], set[str]] = {}
    for match in matches:
        numbers.setdefault((match[1], match[2]), set()).add(match[3])
    groups: dict[str, tuple[int, list[str]]] = {}
    for match in sorted(matches, key=lambda match: int(match[3])):
        place, kind, _, leaf = match.groups()
        count = len(numbers[place, kind])
        shared = "shared_" if kind == "shared_experts" else ""
        name = f"{place}{_ONE_SHARED}{leaf}" if shared and count == 1 else (
            f"{place}.{shared}{_FC[leaf]}")  # fmt: skip
        groups.setdefault(name, (count, []))[1].append(match[0])
    return groups


def _apart(
    name: str, shape: Shape, expected: Mapping[str, Shape]
) -> Iterator[tuple[str, Shape]]:  # fmt: skip
    match = _JOINED.fullmatch(name)
    if match is None:
        yield name.replace(_ONE_SHARED, ".shared_experts.0."), shape
        return
    place, shared, leaf = match[1], match[2] or "", match[3]
    # Gated experts have two products in the first tensor for one in the second.
    up, down = expected[f"{place}.{shared}w1"], expected[f"{place}.{shared}w2"]
    module = "fc2" if leaf.endswith("2") else "fc1" if up[2] == down[1] else "fc1.linear"
    what = "weight" if leaf.startswith("w") else "bias"
    for index in range(shape[0]):
        yield f"{place}.{shared}experts.{index}.{module}.{what}", tuple(shape[1:])[::-1]
