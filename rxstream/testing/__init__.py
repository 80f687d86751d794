"""Tools for testing code built on rxstream: a model without weights, and virtual time."""

from .fakes import FakeModel, Pause
from .recorder import Recorder
from .virtual import HandClock, Lab

__all__ = ["FakeModel", "HandClock", "Lab", "Pause", "Recorder"]
