"""Real threads against each other, many seeds: what must hold whoever wins."""

from __future__ import annotations

import random
import sys
import threading

import pytest

from rxstream import Runtime, Timeouts
from rxstream.errors import QueryRejected, RxStreamError
from rxstream.events import AnswerCompleted, MemoryUpdated, QueryAccepted, Token
from rxstream.grammar import check
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Recorder
from rxstream.testing.fakes import fold

from ..profiles import budget

SEEDS = range(budget(20, 300))
ASKERS, INTERACTIONS = 4, 25


@pytest.fixture(autouse=True)
def switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Overlap:
    """A subscriber that notices being called twice at once."""

    def __init__(self):
        self.inside, self.overlaps, self.items = 0, 0, []

    def __call__(self, event):
        self.inside += 1
        self.overlaps += self.inside > 1
        self.items.append(event)
        self.inside -= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_at_once(seed):
    rng = random.Random(seed)
    model = FakeModel(thread_safe=seed % 2 == 1, max_batch=1 + seed % 4)
    store = MemoryStore()
    runtime = Runtime(model, store=store, durability=("async", "sync", "close")[seed % 3])
    isolation = "snapshot" if seed % 5 == 4 else "serial"
    memory = runtime.memory("m", isolation=isolation)
    watcher = Overlap()
    memory.events.subscribe(watcher)
    silenced, recorders, asked, guard = set(), [], {}, threading.Lock()

    def ask(number, rng):
        chat = memory.conversation(f"c{number % 3}", max_pending=64)
        mine = []
        for i in range(INTERACTIONS):
            limits = Timeouts(answer=0.002, on_timeout="stop") if rng.random() < 0.1 else None
            key = f"key {rng.randrange(30)}" if rng.random() < 0.2 else None
            try:
                it = chat.ask(f"q{number}-{i} long", key=key, timeouts=limits, detach="keep")
            except QueryRejected as refusal:
                assert refusal.reason == "duplicate"
                continue
            with guard:
                asked[it.id] = it
            mine.append(it)
            act = rng.random()
            victim = rng.choice(mine)
            if act < 0.2:
                if victim.cancel():
                    with guard:
                        silenced.add((victim.id, len(watcher.items)))
            elif act < 0.35:
                victim.stop()
            elif act < 0.5:
                recorder = Recorder(victim)
                with guard:
                    recorders.append((victim, recorder))
            elif act < 0.6:
                Recorder(victim).dispose()
            elif act < 0.65:
                memory.abort_update()
            elif act < 0.7:
                memory.flush()

    threads = [
        threading.Thread(target=ask, args=(n, random.Random(rng.random()))) for n in range(ASKERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for it in asked.values():
        try:
            it.result(60)
        except RxStreamError:
            pass
    assert runtime.close() is True
    model.check()
    events = watcher.items
    check(events, whole=True, serial=isolation == "serial").finish()
    assert watcher.overlaps == 0
    queries = {name: it.query for name, it in asked.items()}
    answers, value, ended = {}, (), set()
    for event in events:
        match event:
            case AnswerCompleted():
                answers[event.interaction] = event.text
            case MemoryUpdated(cause="restore"):
                pass  # an aborted update had reached the store: the value before it is put back
            case MemoryUpdated():
                value = fold(value, queries[event.interaction], answers[event.interaction])
        if not isinstance(event, QueryAccepted | Token):
            ended.add(event.interaction)
    assert memory.value == value, "memory is the fold of what was told, each once, in order"
    cancelled = {e.interaction for e in events if e.kind == "cancelled"}
    assert {name for name, _ in silenced} <= cancelled
    for it, recorder in recorders:
        assert recorder.items == [e for e in events if e.interaction == it.id]
        assert recorder.ended != (recorder.error is not None)
    keys = [e.key for e in events if e.kind == "query_accepted" and e.key]
    updated = {e.interaction for e in events if e.kind == "memory_updated"}
    applied = [
        e.key for e in events if e.kind == "query_accepted" and e.key and e.interaction in updated
    ]
    assert len(applied) == len(set(applied)) and set(applied) <= set(keys)
    with Runtime(FakeModel(), store=store) as again:
        assert again.memory("m").value == value, "and the store agrees"


@pytest.mark.parametrize("seed", SEEDS)
def test_cancel_against_the_last_token(seed):
    """Cancel, stop and the end of the answer meet; exactly one of them has its way."""
    model = FakeModel()
    with Runtime(model) as runtime:
        memory = runtime.memory("m")
        events = Recorder(memory.events)
        for _ in range(10):
            it = memory.conversation().ask("a b c d", detach="keep")
            gate = threading.Barrier(3)
            won = {}

            def act(name, action, gate=gate, won=won):
                gate.wait()
                won[name] = action()

            actors = [
                threading.Thread(target=act, args=("cancel", it.cancel)),
                threading.Thread(target=act, args=("stop", it.stop)),
            ]
            for actor in actors:
                actor.start()
            gate.wait()
            for actor in actors:
                actor.join()
            try:
                reason = it.result(30).finish_reason
                assert not won["cancel"] and won["stop"] is (reason == "stopped")
            except RxStreamError:
                assert won["cancel"] and not won["stop"]
    check(events.items, whole=True).finish()
    model.check()


@pytest.mark.parametrize("seed", SEEDS)
def test_close_against_everything(seed):
    rng = random.Random(seed)
    model, store = FakeModel(), MemoryStore()
    runtime = Runtime(model, store=store)
    memories = [runtime.memory(f"m{i}") for i in range(3)]
    watchers = [Recorder(memory.events) for memory in memories]
    asked, begun = [], threading.Event()

    def ask(memory, seed):
        rng = random.Random(seed)
        for i in range(50):
            try:
                asked.append(memory.conversation(f"c{i % 2}", max_pending=99).ask(f"q {i}"))
            except QueryRejected as refusal:
                assert refusal.reason == "closed"
                return
            if i == rng.randrange(5, 50):
                begun.set()
        begun.set()

    threads = [threading.Thread(target=ask, args=(m, rng.random())) for m in memories]
    for thread in threads:
        thread.start()
    begun.wait(30)
    assert runtime.close(drain=seed % 2 == 0)
    for thread in threads:
        thread.join(30)
    assert all(it.is_over for it in asked)
    for memory, watcher in zip(memories, watchers, strict=True):
        assert watcher.ended
        check(watcher.items, whole=True).finish()
        assert (store.head(memory.name) or 0) == memory.version
    model.check()
