"""The recall benchmark run on a model: rows with confidence intervals, as text and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from curriculum.evals.recall import RecallEvaluation, cells

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..model import RxtAdapter

Z = 1.959963984540054
"""Two-sided 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell, summed over the evaluation seeds."""

    suite: str
    cell: str
    questions: int
    right: int
    stale: int

    @property
    def share(self) -> float:
        """Of the questions, those answered right."""
        return self.right / self.questions

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of ``share``: sound also at 0 and 100 %."""
        return wilson(self.right, self.questions)


@dataclass(slots=True, kw_only=True)
class Table:
    """What was measured, and on what."""

    model: str
    mode: str
    seeds: list[int]
    rows: list[Row] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The table as text, one line a row."""
        width = max(len(row.suite) for row in self.rows)
        head = f"{'suite':{width}}  {'cell':>10}  {'right':>6}  {'95 % interval':>15}  {'stale':>6}"
        return [head, *(self._line(row, width) for row in self.rows)]

    @staticmethod
    def _line(row: Row, width: int) -> str:
        low, high = row.interval
        stale = f"{row.stale / row.questions:6.1%}" if row.suite == "updated" else ""
        line = f"{row.suite:{width}}  {row.cell:>10}  {row.share:6.1%}  "
        return f"{line}{low:6.1%} … {high:6.1%}  {stale:>6}".rstrip()

    def as_json(self) -> dict[str, Any]:
        """Everything in the table, with shares and intervals spelled out."""
        rows = [asdict(row) | {"share": row.share, "interval": row.interval} for row in self.rows]
        return {"model": self.model, "mode": self.mode, "seeds": self.seeds, "rows": rows}


def measure(
    adapter: RxtAdapter,
    *,
    questions: int,
    seeds: Sequence[int],
    mode: Literal["own", "gold"] = "own",
    max_distance: int = 64,
    only: str = "",
    batch: int = 256,
    report: Callable[[Row], None] = lambda _: None,
) -> Table:
    """Run the cells whose suite starts with ``only``; ``questions`` a cell over all seeds."""
    evaluation = RecallEvaluation(
        adapter.model,
        adapter.tokenizer.encode,
        adapter.tokenizer.decode,
        mode=mode,
        batch=batch,
    )
    table = Table(model=adapter.fingerprint, mode=mode, seeds=list(seeds))
    each = math.ceil(questions / len(seeds))
    for cell in cells(max_distance=max_distance):
        if not cell.suite.startswith(only):
            continue
        scores = [evaluation.score(cell, questions=each, seed=seed) for seed in seeds]
        row = Row(
            suite=cell.suite,
            cell=cell.name,
            questions=sum(score.questions for score in scores),
            right=sum(score.right for score in scores),
            stale=sum(score.stale for score in scores),
        )
        table.rows.append(row)
        report(row)
    return table


def wilson(right: int, questions: int) -> tuple[float, float]:
    """The 95 % interval of a share of which ``right`` of ``questions`` were seen."""
    share, z2 = right / questions, Z * Z
    centre = share + z2 / (2 * questions)
    spread = Z * math.sqrt(share * (1 - share) / questions + z2 / (4 * questions**2))
    scale = 1 + z2 / questions
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
