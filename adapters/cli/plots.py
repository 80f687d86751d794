"""PNG plots of a training run and of a recall table. Needs matplotlib (``rxstream[train]``)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .missing import import_optional

if TYPE_CHECKING:
    from pathlib import Path

    from .recall import Table


def check() -> None:
    """CommandError before the work begins, rather than after it, when matplotlib is missing."""
    import_optional("matplotlib", "train")


def figure(columns: int = 1) -> tuple[Any, Any]:
    """A new figure that needs no screen, and its axes."""
    import_optional("matplotlib", "train").use("Agg")
    return import_optional("matplotlib.pyplot", "train").subplots(  # type: ignore[no-any-return]
        1, columns, figsize=(6 * columns, 4), layout="constrained"
    )


def loss(folder: Path) -> Path:
    """Loss and token accuracy over the steps of ``folder/log.jsonl``, as ``folder/loss.png``."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    drawn, (left, right) = figure(2)
    steps = [line["step"] for line in lines]
    left.semilogy(steps, [line["loss"] for line in lines])
    left.set(xlabel="step", ylabel="loss")
    right.plot(steps, [line["token_accuracy"] for line in lines])
    right.set(xlabel="step", ylabel="share of answer tokens right", ylim=(0, 1))
    return save(drawn, folder / "loss.png")


def recall(table: Table, path: Path) -> Path:
    """Recall over the distance in turns, and of the other cells as bars, with 95 % intervals."""
    drawn, (lines, bars) = figure(2)
    suites: dict[str, list[tuple[int, float, float, float]]] = {}
    cells: list[tuple[str, float, float, float]] = []
    for row in table.rows:
        if row.suite.startswith("distance"):
            suites.setdefault(row.suite, []).append((int(row.cell), row.share, *row.interval))
        else:
            cells.append((f"{row.suite}, {row.cell}", row.share, *row.interval))
    for suite, points in suites.items():
        xs, shares, lows, highs = zip(*points, strict=True)
        lines.plot(xs, shares, marker="o", label=suite)
        lines.fill_between(xs, lows, highs, alpha=0.2)
    lines.set(xlabel="turns since it was told", ylabel="answered exactly", ylim=(0, 1.02))
    lines.set_xscale("log", base=2)
    if suites:
        lines.legend(loc="lower left")
    for name, share, low, high in cells:
        # At 0 and at 1 a bound can be off by a rounding error, to the wrong side.
        beside = [[max(0.0, share - low)], [max(0.0, high - share)]]
        bars.barh(name, share, xerr=beside, color="tab:blue", capsize=2)
    bars.set(xlabel="answered exactly", xlim=(0, 1.02))
    bars.invert_yaxis()
    return save(drawn, path)


def save(drawn: Any, path: Path) -> Path:
    """Write the figure and free it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=150)
    import_optional("matplotlib.pyplot", "train").close(drawn)
    return path
