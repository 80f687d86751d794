"""Asking the policy, and taking what it chose."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .scheduling import Greedy, Load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._turn import Turn
    from .scheduling import Plan, Policy

logger = logging.getLogger("rxstream")


class Planner:
    """The policy of a runtime."""

    def __init__(self, policy: Policy, now: Callable[[], float]) -> None:
        self.policy, self._now = policy, now

    def plan(
        self,
        prefills: list[Turn],
        updates: list[Turn],
        *,
        running: int,
        free: int,
        lag: float,
        costs: tuple[float, float],
    ) -> tuple[list[Turn], list[Turn], list[Turn], list[Turn]]:
        """Prefills to begin, and those left; updates to compute, and those left.

        ``costs`` are seconds for a unit of size. A policy that fails, or chooses what cannot be
        done, holds up nobody: it is logged, and the iteration takes whatever fits.
        """
        load = Load(
            now=self._now(),
            running=running,
            free=free,
            prefills=prefills,
            updates=updates,
            prefill_cost=costs[0],
            update_cost=costs[1],
            lag=lag,
        )
        try:
            plan = self.policy.plan(load)
            _check(load, plan)
        except Exception:
            logger.exception("the scheduling policy failed: everything that fits runs now")
            plan = Greedy().plan(load)
        return (*_split(prefills, plan.prefills), *_split(updates, plan.updates))


def _check(load: Load, plan: Plan) -> None:
    """Raise ValueError for a plan that cannot be carried out."""
    for kind, chosen, work in (
        ("prefills", plan.prefills, load.prefills),
        ("updates", plan.updates, load.updates),
    ):
        if len(set(chosen)) != len(chosen) or not all(0 <= i < len(work) for i in chosen):
            raise ValueError(f"the policy chose {list(chosen)} of {len(work)} {kind}")
    if len(plan.prefills) > load.free:
        raise ValueError(f"the policy chose {len(plan.prefills)} prefills for {load.free} slots")


def _split(items: list[Turn], chosen: Sequence[int]) -> tuple[list[Turn], list[Turn]]:
    taken = set(chosen)
    rest = [item for i, item in enumerate(items) if i not in taken]
    return [items[i] for i in chosen], rest
