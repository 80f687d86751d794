"""A memory in virtual time, with everything a test wants to look at."""

from __future__ import annotations

from rxstream.events import LETTERS
from rxstream.grammar import check
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Lab, Recorder

PHASES = {"queued": "Q", "prefill": "QS", "decoding": "QSTT", "updating": "QSTTTAU", "over": None}
"""Each phase of an interaction that asks ``"one two"``: how it looks from outside."""


class Room:
    """One memory, its conversation ``main``, and all its events."""

    def __init__(self, *, model=None, store=None, memory_lane=False, memory=None, **options):
        self.lab = Lab(memory_lane=memory_lane)
        self.model = model or FakeModel(thread_safe=memory_lane)
        self.store = store if store is not None else MemoryStore()
        self.runtime = self.lab.runtime(self.model, store=self.store, **options)
        self.memory = self.runtime.memory("m", **(memory or {}))
        self.events = Recorder(self.memory.events)
        self.chat = self.memory.conversation()

    def of(self, it):
        """The events of ``it`` on the stream of the memory."""
        return [event for event in self.events.items if event.interaction == it.id]

    def word(self, it):
        return "".join(LETTERS[event.kind] for event in self.of(it))

    def last(self, it):
        return self.of(it)[-1]

    def step_until(self, it, word):
        for _ in range(1000):
            if self.word(it) == word:
                return
            assert self.lab.step(), f"never came to {word}: {self.word(it)}"

    def bring(self, phase, **options):
        """An interaction that stands at ``phase``."""
        if phase == "queued":
            self.chat.ask("first")
            self.lab.run(1)
        it = self.chat.ask("one two", **options)
        if phase == "over":
            self.lab.run()
        elif phase != "queued":
            self.step_until(it, PHASES[phase])
        return it

    def fire(self):
        """Run the timers that are due, while every lane but the clock hangs."""
        while self.lab.clock.actions:
            self.lab.clock.actions.popleft()()

    def close(self):
        self.lab.run()
        self.runtime.close()
        assert not self.lab.errors, self.lab.errors
        self.model.check()
        serial = self.memory._machine.isolation == "serial"
        check(self.events.items, whole=True, serial=serial).finish()
