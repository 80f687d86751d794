"""Random programs in virtual time, checked against the grammar and the fold of what was said.

Long profile (see ``tests/profiles.py``): 6,000 programs of up to 50 steps.
"""

from __future__ import annotations

import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from rxstream import Interaction, Pending, QueryAccepted, Runtime
from rxstream.errors import QueryRejected, RxStreamError
from rxstream.events import (
    AnswerCompleted,
    Cancelled,
    Failed,
    GenerationStarted,
    MemoryUpdated,
    Token,
)
from rxstream.grammar import GrammarChecker
from rxstream.scheduling import Budgeted, Fair, Greedy
from rxstream.snapshot import Snapshot
from rxstream.testing import FakeModel, Lab, Recorder
from rxstream.testing.fakes import fold

from ..profiles import budget
from .programs import (
    ASKED,
    BUSY,
    CONVERSATIONS,
    METHODS,
    REFUSALS,
    FaultyStore,
    succeeded,
)


class Engine(RuleBasedStateMachine):
    """Asks, cancels, stops, listens, fails, crashes; the lanes take turns at random."""

    interactions = Bundle("interactions")

    @initialize(
        seed=st.integers(0, 10_000),
        memory_lane=st.booleans(),
        durability=st.sampled_from(["sync", "async", "close"]),
        isolation=st.sampled_from(["serial", "snapshot"]),
        busy=st.tuples(*[st.integers(0, 11)] * 3),
        halt=st.sampled_from(["continue", "continue", "halt"]),
        max_batch=st.integers(1, 3),
        policy=st.sampled_from([Fair, Budgeted, Greedy]),
    )
    def begin(self, seed, memory_lane, durability, isolation, busy, halt, max_batch, policy):
        self.random = random.Random(seed)
        self.memory_lane, self.max_batch, self.policy = memory_lane, max_batch, policy
        self.options = {
            "durability": durability,
            "isolation": isolation,
            "on_memory_failure": halt,
        }
        known = BUSY[isolation]
        self.busy = {c: known[i % len(known)] for c, i in zip(CONVERSATIONS, busy, strict=True)}
        self.store = FaultyStore()
        self.expected: tuple[str, ...] = ()
        self.snapshots: list[Snapshot] = []
        self.boot()

    def boot(self):
        self.lab = Lab(memory_lane=self.memory_lane, choose=lambda n: self.random.randrange(n))
        self.model = FakeModel(max_batch=self.max_batch, thread_safe=self.memory_lane)
        self.runtime: Runtime = self.lab.runtime(self.model, store=self.store, policy=self.policy())
        self.memory = self.runtime.memory("m", **self.options)
        self.checker = GrammarChecker(whole=True, serial=self.options["isolation"] == "serial")
        self.events = Recorder(self.memory.events)
        self.changes = Recorder(self.memory.changes)
        self.seen = 0
        self.asked: dict[str, Interaction] = {}
        self.queries: dict[str, str] = {}
        self.answers: dict[str, str] = {}
        self.silenced: set[str] = set()
        self.listeners: list[tuple[Interaction, Recorder]] = []
        self.asked_back: list[tuple[Pending[int], tuple[str, ...]]] = []
        self.order: dict[str, list[str]] = {name: [] for name in CONVERSATIONS}

    # Rules

    @rule(target=interactions, asked=st.lists(ASKED, min_size=1, max_size=5))
    def ask(self, asked):
        return multiple(*(it for one in asked if (it := self.ask_one(*one)) is not None))

    def ask_one(self, conversation, query, key, detach, limits, remember, steps):
        busy = self.busy[conversation]
        chat = self.memory.conversation(conversation, max_pending=4, busy=busy)
        keys = self.memory._machine.memorizer.keys
        try:
            it = chat.ask(query, key=key, detach=detach, timeouts=limits, remember=remember)
        except QueryRejected as refusal:
            assert refusal.reason in REFUSALS
            assert refusal.reason != "duplicate" or key is not None
            assert refusal.reason != "busy" or busy == "reject"
            assert refusal.reason != "halted" or self.options["on_memory_failure"] == "halt"
            return None
        assert key is None or key not in keys
        self.asked[it.id], self.queries[it.id] = it, query
        self.lab.run(steps)
        return it

    def known(self, it):
        return it is not None and it.id in self.asked

    @rule(it=interactions)
    def cancel(self, it):
        if self.known(it):
            early = it.answer is None and not it.is_over
            assert it.cancel() is early
            if early:
                self.silenced.add(it.id)

    @rule(it=interactions)
    def stop(self, it):
        if self.known(it):
            it.stop()

    @rule(it=interactions)
    def listen(self, it):
        if self.known(it):
            self.listeners.append((it, Recorder(it)))

    @rule(data=st.data())
    def leave(self, data):
        if self.listeners:
            i = data.draw(st.integers(0, len(self.listeners) - 1))
            it, recorder = self.listeners.pop(i)
            self.compare(it, recorder)
            recorder.dispose()

    @rule(steps=st.integers(1, 12))
    def work(self, steps):
        self.lab.run(steps)

    @rule()
    def work_all(self):
        self.lab.run()

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5]), hang=st.booleans())
    def time_passes(self, seconds, hang):
        if hang:
            self.lab.skip(seconds)
        else:
            self.lab.advance(seconds)

    @rule(method=st.sampled_from(METHODS), times=st.integers(1, 3))
    def break_model(self, method, times):
        self.model.fail(method, RuntimeError(f"{method} is broken"), times=times)

    @rule(method=st.sampled_from(["append", "commit"]), times=st.integers(1, 2))
    def break_store(self, method, times):
        self.store.faults[method] = times

    @rule()
    def repair(self):
        self.model.clear()
        self.store.faults = dict.fromkeys(self.store.faults, 0)

    @rule()
    def resume(self):
        self.memory.resume()

    @rule()
    def abort(self):
        self.memory.abort_update()

    @rule()
    def take_snapshot(self):
        self.model.clear()
        self.snapshots.append(self.memory.snapshot())

    @rule(data=st.data())
    def restore(self, data):
        if self.snapshots and len(self.restores) < 2:
            snapshot = data.draw(st.sampled_from(self.snapshots))
            value = FakeModel().load(snapshot.state)
            self.asked_back.append((self.memory.restore(snapshot), value))

    @property
    def restores(self):
        """The values of restores that are under way, in order."""
        return [value for pending, value in self.asked_back if not pending.done]

    @rule()
    def flush(self):
        self.memory.flush()

    @rule(really=st.integers(0, 3))
    def crash(self, really):
        if really:
            return
        acknowledged, late = (
            self.expected,
            [
                fold(self.expected, self.queries[i], text)
                for i, text in self.answers.items()
                if text and not self.asked[i].cancel()
            ],
        )
        possible = [acknowledged, *late, *self.restores[:1]]
        queued = bool(self.restores)
        self.repair()
        self.lab.kill(self.runtime)
        self.boot()
        if self.options["isolation"] == "serial":
            assert self.memory.value in possible
        elif not queued:
            assert self.memory.value[: len(acknowledged)] == acknowledged
        self.expected = self.memory.value

    # What must hold at any time

    def compare(self, it, recorder):
        mine = [e for e in self.events.items if e.interaction == it.id]
        assert recorder.items == mine, "a subscriber must see all, in order, once"

    @invariant()
    def holds(self):
        if not hasattr(self, "events"):
            return
        assert not self.lab.errors, self.lab.errors
        assert not self.model.violations
        for event in self.events.items[self.seen :]:
            self.seen += 1
            self.checker.check(event)
            name = event.interaction
            match event:
                case Token():
                    assert name not in self.silenced, "a token after cancel() was True"
                case AnswerCompleted(text=text):
                    assert name not in self.silenced
                    self.answers[name] = text
                    assert self.asked[name].answer.text == text
                case MemoryUpdated(cause="restore"):
                    self.restored(event)
                case MemoryUpdated():
                    self.expected = fold(self.expected, self.queries[name], self.answers.pop(name))
                case QueryAccepted():
                    self.order[event.conversation].append(name)
                case GenerationStarted():
                    assert self.order[event.conversation].pop(0) == name, "not in the order asked"
                case Cancelled(phase="queued"):
                    self.order[event.conversation].remove(name)
                case Failed() if name in self.order[event.conversation]:
                    self.order[event.conversation].remove(name)
        assert self.memory.value == self.expected
        assert self.changes.items[-1].version == self.memory.version
        for it, recorder in self.listeners:
            self.compare(it, recorder)

    def restored(self, event):
        value = FakeModel().load(self.store.load("m", event.version).state)
        for pending, asked in self.asked_back:
            if pending.done and succeeded(pending) and pending.result() == event.version:
                assert value == asked
                self.expected = value
                return
        # A failed update had reached the store, and the value before it was put back.
        assert not event.digest or value == self.expected

    @rule(drain=st.booleans(), really=st.integers(0, 3))
    def close(self, drain, really):
        if really:
            return
        self.end(drain)
        self.boot()
        assert self.memory.value == self.expected
        assert self.memory.version == self.store.head("m") or not self.store.head("m")

    def teardown(self):
        if not hasattr(self, "runtime"):
            return
        self.end(drain=False)
        again = Lab().runtime(FakeModel(), store=self.store)
        assert again.memory("m").value == self.expected
        again.close()

    def end(self, drain):
        self.repair()
        assert self.runtime.close(drain=drain)
        self.holds()
        assert self.events.ended and self.changes.ended
        self.checker.finish()
        self.model.check()
        for it in self.asked.values():
            assert it.is_over
            try:
                it.result()
            except RxStreamError:
                pass
        for _, recorder in self.listeners:
            assert recorder.ended != (recorder.error is not None)


Engine.TestCase.settings = settings(
    max_examples=budget(100, 6000),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestEngine = Engine.TestCase
