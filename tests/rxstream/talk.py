"""A memory in virtual time, and one conversation on it."""

from __future__ import annotations

from rxstream.events import LETTERS
from rxstream.grammar import check
from rxstream.testing import FakeModel, Lab, Recorder


class Setup:
    def __init__(self, model=None, *, isolation="serial", **options):
        self.lab, self.model = Lab(), model or FakeModel()
        self.runtime = self.lab.runtime(self.model, **options)
        self.serial = isolation == "serial"
        self.memory = self.runtime.memory("m", isolation=isolation)
        self.events = Recorder(self.memory.events)
        self.chat = self.memory.conversation()

    def letters(self, name=None):
        return "".join(
            LETTERS[e.kind] for e in self.events.items if name is None or e.conversation == name
        )

    def close(self):
        self.runtime.close()
        assert not self.lab.errors
        self.model.check()
        check(self.events.items, whole=True, serial=self.serial).finish()


def setups():
    """For a fixture: makes them, and closes them in the end."""
    made = []

    def make(*args, **options):
        made.append(Setup(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
