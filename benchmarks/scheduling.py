"""Which scheduling policy serves many conversations best: simulated clients, the real runtime.

The criterion, chosen before any run: *goodput*, the turns a second whose first token comes within
0.5 s and each further one within 50 ms. A policy's score is its goodput over that of the best
policy, averaged over all scenarios. Where one tenant floods, the turns of the others count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rxstream.scheduling import Budgeted, Fair, Greedy, Load, Plan

from .costs import measure
from .report import Check, Report, Table
from .simulation import AGENT, FLOOD, PERSON, Found, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rxstream.scheduling import Policy

    from .measure import Settings
    from .simulation import Turn

FIRST, GAP = 0.5, 0.05
"""The promise: seconds to the first token, and to each further one."""
DEFAULT = "Fair (default)"
AGENTS = 0.05
"""Share of clients that are programs."""
QUIET, FLOODING = 64, 128
"""Clients that behave and conversations of the tenant that floods, in the unfair scenario."""


class IdleOnly:
    """Updates when nothing else is to be done: the baseline that sounds reasonable."""

    def plan(self, load: Load) -> Plan:
        prefills = range(min(load.free, len(load.prefills)))
        idle = not load.running and not prefills
        return Plan(prefills=prefills, updates=range(len(load.updates) if idle else 0))


POLICIES: dict[str, Callable[[], Policy]] = {
    "idle-only updates": IdleOnly,
    "one by one": lambda: Greedy(max_prefills=1, max_updates=1),
    "Greedy": Greedy,
    "Budgeted": Budgeted,
    DEFAULT: Fair,
}


@dataclass
class Row:
    """What one scenario says of one policy."""

    turns: float
    goodput: float
    share: float | None
    first: Any
    gap: Any
    lag: Any
    rejected: float
    tokens: float


def run(settings: Settings) -> Report:
    """Measure the model, then simulate; see the module."""
    report = Report("scheduling", "goodput of scheduling policies, in virtual time")
    costs, table = measure(settings)
    slots = settings.adapter.max_batch
    capacity = costs.rate(22, 61, 22 * 4, slots)
    queue = max(4, round(FIRST * capacity))
    warmup, seconds = (0.5, 2.0) if settings.quick else (40.0, 30.0)
    sizes = (1, 16) if settings.quick else (1, 64, 256, 1024)

    def simulate(policy: str, quiet: int, flooding: int = 0, **limits: Any) -> Found:
        limits = {"max_queued": queue, **limits}
        simulation = Simulation(costs, POLICIES[policy](), max_batch=slots, **limits)
        agents = round(quiet * AGENTS)
        simulation.add(quiet - agents, PERSON, spread=warmup)
        simulation.add(agents, AGENT, spread=warmup)
        simulation.add(flooding, FLOOD, "flood", spread=warmup)
        return simulation.run(warmup, seconds * 20 if quiet == 1 else seconds)

    columns = [
        *("conversations", "policy", "turns/s", "good turns/s", "good", "first p50", "first p99"),
        *("gap p50", "gap p99", "lag p50", "lag p99", "refused/s", "tokens/s"),
    ]
    loads = Table(f"People and agents ({AGENTS:.0%}); queue of {queue} (ms)", columns)
    scores: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for size in sizes:
        rows = {policy: _row(simulate(policy, size)) for policy in POLICIES}
        for policy, row in rows.items():
            loads.add(size, policy, *_cells(row))
        _score(scores, rows)
    unlimited = _row(simulate(DEFAULT, sizes[-1], max_queued=1024))
    loads.add(sizes[-1], f"{DEFAULT}, queue of 1,024", *_cells(unlimited))

    unfair = Table(
        f"One tenant floods with {FLOODING} conversations without a pause; the {QUIET} others (ms)",
        [*columns[1:], "flood's tokens/s"],
    )
    rows = {}
    quiet, flooding = (8, 32) if settings.quick else (QUIET, FLOODING)
    for policy in POLICIES:
        found = simulate(policy, quiet, flooding, max_queued=1024)
        rows[policy] = _row(found, lambda turn: turn.tenant != "flood")
        unfair.add(policy, *_cells(rows[policy]), found.tokens.get("flood", 0) / found.seconds)
    _score(scores, rows)
    means = {policy: float(np.mean(parts)) for policy, parts in scores.items()}
    table_of_scores = Table(
        "Score: goodput over the best policy's",
        ["policy", *(f"{size:,}" for size in sizes), "unfair", "mean"],
    )
    for policy, parts in scores.items():
        table_of_scores.add(policy, *parts, means[policy])
    report.tables = [table, loads, unfair, table_of_scores]
    best = max(mean for policy, mean in means.items() if policy != DEFAULT)
    label = "score of the default policy, over the best of the others"
    report.checks = [Check(label, means[DEFAULT] / max(best, 1e-9), 1.0, at_least=True)]
    report.notes = [
        f"good: first token within {FIRST} s, each further one within {GAP * 1e3:.0f} ms; share of "
        "all turns that were accepted",
        f"the model could do {capacity:.0f} turns a second of people, were its {slots} slots "
        f"always full; {FIRST} s of that is the queue's limit; the scenario with a flood has "
        "max_queued=1024, of which a tenant may have a quarter",
        "lag: from the complete answer to the updated memory; gap: between two tokens; refused/s "
        "and tokens/s are those of all clients",
        f"{warmup:.0f} s of warm-up, then {seconds:.0f} s, with one conversation 20 times that; "
        "people think for 10 s on average, agents for 0.3 s; who is refused asks again after 1 to "
        "3 s",
        "who still waits for a first token at the end counts with the time waited so far",
    ]
    return report


def _row(found: Found, counts: Callable[[Turn], bool] = lambda _: True) -> Row:
    turns = [turn for turn in found.turns if counts(turn)]
    whole = [turn for turn in turns if turn.whole]
    good = sum(turn.first <= FIRST and max(turn.gaps, default=0) <= GAP for turn in whole)
    return Row(
        turns=len(whole) / found.seconds,
        goodput=good / found.seconds,
        share=good / len(turns) if turns else None,
        first=_percentiles([turn.first for turn in turns]),
        gap=_percentiles([gap for turn in turns for gap in turn.gaps]),
        lag=_percentiles([turn.lag for turn in turns if turn.lag is not None]),
        rejected=found.rejected / found.seconds,
        tokens=sum(found.tokens.values()) / found.seconds,
    )


def _cells(row: Row) -> list[Any]:
    share = None if row.share is None else f"{row.share:.1%}"
    return [row.turns, row.goodput, share, *row.first, *row.gap, *row.lag, row.rejected, row.tokens]


def _percentiles(values: Sequence[float]) -> list[float | None]:
    """Median and 99th percentile, in ms."""
    if not values:
        return [None, None]
    return [float(value) * 1e3 for value in np.percentile(values, (50, 99))]


def _score(scores: dict[str, list[float]], rows: dict[str, Row]) -> None:
    best = max(row.goodput for row in rows.values())
    for policy, row in rows.items():
        scores[policy].append(row.goodput / best if best else 1.0)
