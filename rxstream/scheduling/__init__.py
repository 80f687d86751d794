"""Which work runs next: decode steps, prefills, memory updates.

A policy is a plain object without threads or clocks. The decode lane shows it what is waiting and
carries out the plan, one iteration at a time; the same policy runs under a virtual clock in tests.
A memory lane of its own asks the same policy which updates it computes next.
"""

from .fair import Fair
from .policy import Budgeted, Greedy, Load, Plan, Policy, Tenant, Work

__all__ = ["Budgeted", "Fair", "Greedy", "Load", "Plan", "Policy", "Tenant", "Work"]
