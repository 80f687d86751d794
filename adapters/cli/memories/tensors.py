"""``rxt memory diff`` and ``heatmap``: the numbers in a version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rxstream import tensorfile

from ..failure import CommandError
from .refs import find, opened
from .show import table

if TYPE_CHECKING:
    import argparse

    from numpy.typing import NDArray

    Layers = dict[str, NDArray[np.float32]]
    """Name -> [slots, dim]."""

SHADES = " .:-=+*#%@"
FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


def layers(state: bytes) -> Layers:
    """The floating tensors of a state, cut into matrices of slots. Raises CommandError."""
    file = tensorfile.parse(state)
    found: Layers = {}
    for name, entry in sorted(file.tensors.items()):
        raw = bytes(file.body[entry.start : entry.end])
        if entry.dtype == "BF16":
            values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        elif entry.dtype in FLOATS:
            values = np.frombuffer(raw, FLOATS[entry.dtype])
        else:
            continue
        shaped = values.astype(np.float32).reshape(entry.shape)
        if shaped.ndim == 2:
            found[name] = shaped
        elif shaped.ndim == 3:
            found |= {f"{name}[{i}]": part for i, part in enumerate(shaped)}
    if not found:
        raise CommandError("this version holds no matrices of slots to look at")
    return found


def cosines(before: Layers, after: Layers) -> dict[str, NDArray[np.float32]]:
    """For each layer, the cosine of each slot with itself; 1 for a slot that is as it was."""
    if {n: m.shape for n, m in before.items()} != {n: m.shape for n, m in after.items()}:
        raise CommandError("these versions have other layers or slots, and cannot be compared")
    found = {}
    for name, old in before.items():
        new = after[name]
        norms = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
        products = np.einsum("sd,sd->s", old, new)
        cosine = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
        same = (old == new).all(axis=1)
        found[name] = np.where(same, 1.0, np.clip(cosine, -1, 1)).astype(np.float32)
    return found


def diff(args: argparse.Namespace) -> int:
    """How much each slot differs between two versions, perhaps of two memories."""
    with opened(args) as store:
        refs = find(store, args.before), find(store, args.after)
        before, after = (layers(store.load(ref.name, ref.version).state) for ref in refs)
    found = cosines(before, after)
    if args.json:
        for name, row in found.items():
            print(json.dumps({"layer": name, "cosine": [round(float(c), 6) for c in row]}))
        return 0
    rows: list[list[Any]] = []
    for name, row in found.items():
        change = np.linalg.norm(after[name] - before[name]) / max(
            float(np.linalg.norm(before[name])), 1e-12
        )
        least = np.argsort(row)[:3]
        most = ", ".join(f"{slot} ({row[slot]:.3f})" for slot in least if row[slot] < 1)
        rows.append([name, f"{row.mean():.4f}", f"{row.min():.4f}", f"{change:.1%}", most])
    columns = ["layer", "mean cosine", "least", "changed by", "slots that changed most"]
    print(table(columns, rows))
    return 0


def heatmap(args: argparse.Namespace) -> int:
    """Layers by slots; the darker, the larger the root mean square of a slot."""
    with opened(args) as store:
        ref = find(store, args.ref)
        found = layers(store.load(ref.name, ref.version).state)
    sizes = {name: np.sqrt((matrix**2).mean(axis=1)) for name, matrix in found.items()}
    title = f"{ref.name}@{ref.version}"
    if args.png is not None:
        print(_draw(sizes, title, Path(args.png)))
        return 0
    largest = max(float(row.max()) for row in sizes.values()) or 1.0
    width = max(8, shutil.get_terminal_size().columns - max(map(len, sizes)) - 4)
    for name, row in sizes.items():
        cells = [part.mean() for part in np.array_split(row, min(width, len(row)))]
        shades = (SHADES[min(9, int(cell / largest * 9.999))] for cell in cells)
        print(f"{name:>{max(map(len, sizes))}} |{''.join(shades)}|")
    print(f"{title}: root mean square of each slot, ' ' is 0, '@' is {largest:.3g}")
    return 0


def _draw(sizes: dict[str, NDArray[np.float32]], title: str, path: Path) -> Path:
    from .. import plots

    drawn, axes = plots.figure()
    longest = max(len(row) for row in sizes.values())
    grid = np.full((len(sizes), longest), np.nan)
    for i, row in enumerate(sizes.values()):
        grid[i, : len(row)] = row
    image = axes.imshow(grid, aspect="auto", interpolation="nearest", cmap="viridis")
    axes.set(title=f"{title}: root mean square", xlabel="slot", ylabel="layer")
    axes.set_yticks(range(len(sizes)), list(sizes))
    drawn.colorbar(image, ax=axes)
    return plots.save(drawn, path)
