"""G12: no callback runs while a library lock is held, and those of one subscription never overlap.

Locks made by the library during these tests know who holds them. What the library calls
(subscriber, model, store, policy, hook, callback of a result) asks whether its thread holds one.
"""

from __future__ import annotations

import random
import threading
from contextlib import suppress

import pytest

from rxstream import Runtime, Timeouts
from rxstream.errors import QueryRejected, RxStreamError
from rxstream.hooks import hooks
from rxstream.scheduling import Greedy
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Lab, Recorder

from .probe import Probe, held, make_lock


@pytest.fixture
def probe(monkeypatch):
    monkeypatch.setattr(threading, "Lock", make_lock)
    held.clear()
    probe = Probe()
    monkeypatch.setattr(hooks, "on_unhandled", lambda error: probe("on_unhandled"))
    yield probe
    assert not probe.under, probe.under[:3]


def test_g12_the_probe_notices_a_lock(probe) -> None:
    with Runtime(FakeModel()) as runtime:
        memory = runtime.memory("m")
        with memory._machine:
            probe("here")
    assert [place for place, _ in probe.under] == ["here"]
    assert "rxstream._frame" in probe.under.pop()[1][0]


def test_g12_no_lock_is_held_while_the_events_of_an_answer_are_told(probe) -> None:
    lab = Lab()
    runtime = lab.runtime(FakeModel())
    probe.subscribe("interaction", runtime.memory("m").conversation().ask("one two"))
    lab.run()
    assert probe.calls == {"interaction.on_next": 8, "interaction.on_completed": 1}
    runtime.close()


class Setup:
    def __init__(self, probe, lanes=None, **options):
        self.probe, self.model, self.store = probe, FakeModel(max_batch=3), MemoryStore()
        policy = Greedy()
        probe.around(policy, "plan")
        probe.around(self.model, "validate", "start", "step", "finish", "encode", "attend")
        probe.around(self.model, "dump", "load", "initial_memory")
        probe.around(self.store, "append", "commit", "head", "load", "log", "forget")
        self.runtime = Runtime(
            self.model, store=self.store, lanes=lanes, policy=policy, durability="sync"
        )
        self.memory = self.runtime.memory("m", **options)
        for name in ("events", "changes", "persisted"):
            probe.subscribe(name, getattr(self.memory, name))
        self.chats = [self.memory.conversation(n, max_pending=5, busy=b) for n, b in BUSY.items()]
        for chat in self.chats:
            probe.subscribe("conversation", chat.events)
            chat.events.subscribe(lambda event: 1 / 0)  # ends in on_unhandled

    def disturb(self, rng, snapshot):
        """One random thing that a user can do."""
        chat = rng.choice(self.chats)
        limits = Timeouts(answer=0.001, memory=0.001) if rng.random() < 0.3 else None
        it = chat.ask(
            rng.choice(["hello", "mute", "long 5"]),
            timeouts=limits,
            key=rng.choice([*[None] * 6, "a", "b"]),
            raise_on_reject=False,
            remember=rng.random() < 0.8,
        )
        self.probe.subscribe("interaction", it)
        it.when_answered().when_done(lambda: self.probe("when_done"))
        act = rng.choice(["cancel", "stop", "abort", "restore", "flush", "dispose", "nothing"])
        if act in ("cancel", "stop"):
            getattr(it, act)()
        elif act == "abort":
            self.memory.abort_update()
        elif act == "restore":
            self.memory.restore(snapshot).when_done(lambda: self.probe("restored"))
        elif act == "flush":
            self.memory.flush().when_done(lambda: self.probe("flushed"))
        elif act == "dispose":
            self.probe.subscribe("interaction", chat.ask("bye", raise_on_reject=False)).dispose()
        if rng.random() < 0.1:
            method = rng.choice(["start", "step", "encode", "attend", "dump"])
            self.model.fail(method, RuntimeError("broken"), times=2)


BUSY = {"a": "enqueue", "b": "reject", "c": "switch"}
EXPECTED = {
    *(f"{s}.on_next" for s in ("events", "changes", "persisted", "interaction")),
    *(f"{s}.on_completed" for s in ("events", "changes", "persisted", "interaction")),
    *("interaction.on_error", "on_unhandled", "when_done", "restored", "flushed", "plan"),
    *("validate", "start", "step", "finish", "encode", "attend", "dump", "load", "initial_memory"),
    *("append", "commit", "head", "log", "forget"),
}


@pytest.mark.parametrize("isolation", ["serial", "snapshot"])
def test_g12_no_lock_is_held_in_any_callback_in_virtual_time(probe, isolation) -> None:
    lab = Lab()
    setup = Setup(probe, lanes=lab, isolation=isolation)
    snapshot, rng = setup.memory.snapshot(), random.Random(1)
    for _ in range(150):
        setup.disturb(rng, snapshot)
        lab.run(rng.randrange(20))
        lab.advance(0.001)
    setup.model.clear()
    setup.runtime.close()
    assert probe.calls.keys() >= EXPECTED, EXPECTED - probe.calls.keys()


@pytest.mark.parametrize("seed", range(3))
def test_g12_no_lock_is_held_in_any_callback_on_threads(probe, seed) -> None:
    setup = Setup(probe)
    snapshot = setup.memory.snapshot()

    def act(number):
        rng = random.Random(seed * 10 + number)
        for _ in range(30):
            setup.disturb(rng, snapshot)
            with suppress(RxStreamError):  # else all is asked before the lanes have begun
                setup.memory.conversation(f"quiet {number}").ask("hello").result(30)

    threads = [threading.Thread(target=act, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    setup.model.clear()
    setup.runtime.close(drain=True)
    assert probe.calls.keys() >= {"step", "append", "interaction.on_next", "plan"}


def test_g12_a_parked_producer_is_woken_without_locks(probe) -> None:
    lab = Lab()
    runtime = lab.runtime(FakeModel())
    memory = runtime.memory("m")
    reader = memory.events.blocking(overflow="block", block_timeout=1)
    machine = memory._machine
    while machine.log.ready():
        memory.conversation().ask("long 60", detach="keep")
        lab.run()
    machine.log.when_ready(lambda: probe("when_ready"))
    for _ in range(70):
        next(reader)
    assert probe.calls["when_ready"] == 1
    while machine.log.ready():
        memory.conversation().ask("long 60", detach="keep")
        lab.run()
    machine.log.when_ready(lambda: probe("when_ready"))
    lab.advance(2)  # its block_timeout ends the reader
    assert probe.calls["when_ready"] == 2
    runtime.close()


def test_g12_callbacks_of_one_subscription_never_overlap() -> None:
    """Four threads ask, three cancel, the lanes answer: all of them emit into one subscriber."""
    model = FakeModel(thread_safe=True)
    runtime = Runtime(model)
    memory = runtime.memory("m")
    chats = [memory.conversation(name, max_pending=99) for name in "abcd"]
    recorders = [Recorder(memory.events), Recorder(memory.events), Recorder(memory.changes)]
    recorders += [Recorder(chat.events) for chat in chats]
    asked, guard = [], threading.Lock()
    slow = threading.Event()

    def ask(chat):
        for n in range(25):
            try:
                it = chat.ask(f"long {n % 4}")
            except QueryRejected:
                return
            with guard:
                asked.append(it)
                recorders.append(Recorder(it))

    def cancel(seed):
        rng = random.Random(seed)
        while not slow.wait(0.0005):
            with guard:
                it = rng.choice(asked) if asked else None
            if it is not None:
                it.cancel()

    memory.events.subscribe(lambda event: slow.wait(0.00005))  # lets others come meanwhile
    actors = [threading.Thread(target=ask, args=(chat,)) for chat in chats]
    cancellers = [threading.Thread(target=cancel, args=(n,)) for n in range(3)]
    for thread in (*actors, *cancellers):
        thread.start()
    for thread in actors:
        thread.join(60)
    slow.set()
    for thread in cancellers:
        thread.join(60)
    runtime.close(drain=True)
    assert len({thread for recorder in recorders for thread in recorder.threads}) >= 4
    assert [r.overlaps for r in recorders] == [0] * len(recorders)
    assert [r.late for r in recorders] == [0] * len(recorders)
