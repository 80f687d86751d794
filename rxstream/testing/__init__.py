"""Tools for testing code built on rxstream: a model without weights, virtual time, checkers.

``docs/testing.md`` shows each at work. ``rxstream.testing.store_contract`` is the suite that every
store must pass; it needs pytest and is imported by its name.
"""

from .fakes import FakeModel, Pause, fold
from .grammar import GrammarChecker, GrammarViolation, check, check_word, spell, text_of
from .recorder import Recorder
from .virtual import HandClock, Lab

__all__ = [
    "FakeModel",
    "GrammarChecker",
    "GrammarViolation",
    "HandClock",
    "Lab",
    "Pause",
    "Recorder",
    "check",
    "check_word",
    "fold",
    "spell",
    "text_of",
]
