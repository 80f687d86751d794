"""The runtime under load, in virtual time: batches, fair shares, bounded lag, admission, stats."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream import MemoryUpdated, Runtime, RuntimeStats, Token
from rxstream.errors import QueryRejected
from rxstream.scheduling import Budgeted, Fair, Greedy, Plan
from rxstream.testing import FakeModel, Lab

STEP, PREFILL, UPDATE = 0.005, 0.005, 0.006


@pytest.fixture
def lab():
    lab = Lab()
    yield lab
    assert not lab.errors


@pytest.fixture
def model():
    model = FakeModel()
    yield model
    model.check()


def pay(model, *, step=STEP, prefill=PREFILL, update=UPDATE):
    """Let the calls of the model take time."""
    model.cost("step", step)
    model.cost("start", 0, each=prefill)
    model.cost("encode", 0, each=update)


def keep_asking(lab, chat, query, *, until):
    """A client without a pause: the next query follows the answer."""

    def ask():
        if lab.time < until:
            it = chat.ask(query, detach="keep")
            it.subscribe(lambda event: event.kind == "answer_completed" and again())

    def again():
        lab.clock.submit_later(0, ask)

    ask()


def at(lab, time, action):
    """What ``action`` returns at that time, in a list."""
    found = []
    lab.clock.submit_later(time - lab.time, lambda: found.append(action()))
    return found


def sizes(model, method):
    return [size for name, size in model.batches if name == method]


# Batches


def test_queries_asked_together_are_prefilled_in_one_call(lab, model):
    runtime = lab.runtime(model)
    for i in range(8):
        runtime.memory(f"m{i}").conversation().ask("hello", detach="keep")
    lab.run()
    assert sizes(model, "start") == [8]
    assert set(sizes(model, "step")) == {8}, "one lane advances all memories together"
    runtime.close()


def test_answers_completed_together_are_folded_in_by_one_call(lab, model):
    runtime = lab.runtime(model)
    for i in range(8):
        runtime.memory(f"m{i}").conversation().ask("hello", detach="keep")
    lab.run()
    assert sizes(model, "encode") == sizes(model, "attend") == [8]
    assert all(memory.version == 1 for memory in runtime.stats().memories.values())
    runtime.close()


def test_updates_run_between_steps_and_do_not_wait_for_idle_time(lab, model):
    runtime = lab.runtime(model)
    runtime.memory("long").conversation().ask("long 60", detach="keep")
    it = runtime.memory("short").conversation().ask("hello", detach="keep")
    while not it.is_over:
        assert lab.step()
    assert runtime.stats().decoding == 1, "the other still decodes"
    lab.run()
    runtime.close()


# Fair shares


@pytest.mark.parametrize(("policy", "low", "high"), [(Fair, 0.47, 0.53), (Budgeted, 0.0, 0.2)])
def test_a_flood_gets_its_share_and_no_more(lab, model, policy, low, high):
    pay(model)
    runtime = lab.runtime(model, policy=policy())
    for tenant, conversations, length in (("flood", 90, 40), ("acme", 10, 20)):
        for i in range(conversations):
            chat = runtime.memory(f"{tenant}-{i}", tenant=tenant).conversation()
            keep_asking(lab, chat, f"long {length}", until=33)
    before, after = at(lab, 2, runtime.stats), at(lab, 32, runtime.stats)
    lab.advance(40)
    spent = {name: charged(name, before[0].tenants, after[0].tenants) for name in ("flood", "acme")}
    share = spent["acme"] / sum(spent.values())
    assert low <= share <= high
    runtime.close()


def charged(name, before, after):
    """What the policy charges: tokens, and prefills and updates by their size."""
    tokens = after[name].tokens - before[name].tokens
    length = 40 if name == "flood" else 20
    query = 96 + len(f"long {length}")
    answer = sum(len(f"w{i} ") for i in range(length))
    return tokens + 0.08 * tokens / length * (query + query + answer)


def test_a_guest_is_served_at_once_beside_a_flood(lab, model):
    pay(model)
    runtime = lab.runtime(model, max_queued=1000, max_queued_per_tenant=500)
    for i in range(100):
        chat = runtime.memory(f"flood-{i}", tenant="flood").conversation()
        keep_asking(lab, chat, "long 40", until=5)
    chat, firsts = runtime.memory("guest").conversation(), []

    def ask():
        guest = chat.ask("hello", detach="keep")
        guest.subscribe(lambda e: firsts.append(lab.time) if isinstance(e, Token) else None)
        return lab.time

    asked = at(lab, 3, ask)
    lab.advance(6)
    assert firsts[0] - asked[0] <= 0.4, "the rest of one answer, not the queue of ninety"
    runtime.close()


def test_fairness_is_the_same_every_time():
    def run():
        lab, model = Lab(), FakeModel()
        pay(model)
        runtime = lab.runtime(model)
        events = []
        for i in range(30):
            memory = runtime.memory(f"m{i}", tenant=f"t{i % 3}")
            memory.events.subscribe(lambda e: events.append((e.kind, e.conversation, e.at)))
            keep_asking(lab, memory.conversation(f"c{i}"), f"long {5 + i}", until=5)
        lab.advance(6)
        runtime.close()
        return events

    assert run() == run()


# Tenants


def test_a_memory_is_a_tenant_by_itself_unless_told_otherwise(lab, model):
    runtime = lab.runtime(model)
    assert runtime.memory("alone").tenant == "alone"
    memory = runtime.memory("a", tenant="acme")
    assert memory.tenant == "acme" and runtime.memory("a") is memory
    with pytest.raises(ValueError, match="tenant='acme', not 'other'"):
        runtime.memory("a", tenant="other")
    with pytest.raises(ValueError):
        runtime.memory("b", tenant="")
    assert runtime.memory("a").fork("copy").tenant == "acme"
    assert runtime.memory("alone").fork("copy of alone").tenant == "copy of alone"
    assert runtime.stats().tenants["acme"].memories == 2
    runtime.release("a")
    runtime.release("copy")
    assert "acme" not in runtime.stats().tenants
    runtime.close()


# Admission


def test_a_tenant_has_a_queue_limit_of_its_own(lab, model):
    runtime = lab.runtime(model, max_queued=100, max_queued_per_tenant=3)
    chats = [runtime.memory(f"m{i}", tenant="acme").conversation() for i in range(4)]
    its = [chat.ask("hello") for chat in chats[:3]]
    with pytest.raises(QueryRejected, match="'acme' has 3 queries waiting.*is 3") as refused:
        chats[3].ask("hello")
    assert refused.value.reason == "tenant_full"
    runtime.memory("other").conversation().ask("hello", detach="keep")
    its[0].cancel()
    chats[3].ask("hello", detach="keep")
    lab.run()
    assert runtime.stats().queued == 0 == runtime.stats().tenants["acme"].queued
    chats[3].ask("hello", detach="keep")
    lab.run()
    runtime.close()


def test_by_default_a_tenant_may_queue_a_quarter(lab, model):
    runtime = lab.runtime(model, max_queued=8)
    chats = [runtime.memory(f"m{i}", tenant="acme").conversation() for i in range(3)]
    for chat in chats[:2]:
        chat.ask("hello", detach="keep")
    with pytest.raises(QueryRejected, match="is 2"):
        chats[2].ask("hello")
    runtime.close()


def test_the_runtime_has_a_limit_for_all(lab, model):
    runtime = lab.runtime(model, max_queued=2)
    for i in range(2):
        runtime.memory(f"m{i}").conversation().ask("hello", detach="keep")
    with pytest.raises(QueryRejected, match="2 queries are waiting.*max_queued is 2") as refused:
        runtime.memory("m2").conversation().ask("hello")
    assert refused.value.reason == "queue_full"
    runtime.close()


def test_a_conversation_says_its_limit(lab, model):
    runtime = lab.runtime(model)
    chat = runtime.memory("m").conversation(max_pending=1)
    for _ in range(2):
        chat.ask("hello", detach="keep")
    with pytest.raises(QueryRejected, match="'main' has 1 queries waiting.*max_pending is 1"):
        chat.ask("hello")
    runtime.close()


@pytest.mark.parametrize("option", ["max_queued", "max_queued_per_tenant"])
def test_limits_must_be_positive(option):
    with pytest.raises(ValueError, match=f"{option} must be >= 1, not 0"):
        Runtime(FakeModel(), **{option: 0})


# Memory lag


@settings(max_examples=20, deadline=None)
@given(
    step=st.floats(0.005, 0.02),
    prefill=st.floats(0.001, 0.02),
    update=st.floats(0.001, 0.05),
    lengths=st.lists(st.integers(1, 20), min_size=16, max_size=16),
    kind=st.sampled_from([Budgeted, Fair]),
)
def test_at_saturation_an_update_waits_no_longer_than_max_lag(step, prefill, update, lengths, kind):
    lab, model = Lab(choose=lambda ready: ready - 1), FakeModel()  # the decode lane comes last
    pay(model, step=step, prefill=prefill, update=update)
    starts = []
    model.on("step", lambda items: starts.append(lab.time))
    runtime = lab.runtime(model, policy=kind(max_lag=0.25))
    lags = []
    for i, length in enumerate(lengths):
        memory = runtime.memory(f"m{i}")
        memory.events.subscribe(
            lambda e: lags.append(e.seconds) if isinstance(e, MemoryUpdated) else None
        )
        keep_asking(lab, memory.conversation(), f"long {length}", until=3)
    lab.advance(4)
    runtime.close()
    iteration = max(b - a for a, b in itertools.pairwise(starts))
    assert len(lags) > 20
    assert max(lags) <= 0.25 + 2 * iteration


def lag_of_one_memory(policy, asked):
    """The worst lag of a memory whose updates are dearer than its answers."""
    lab, model = Lab(), FakeModel()
    pay(model, update=0.1)
    runtime = lab.runtime(model, policy=policy)
    memory = runtime.memory("m", isolation="snapshot")
    lags = []
    memory.events.subscribe(
        lambda e: lags.append(e.seconds) if isinstance(e, MemoryUpdated) else None
    )
    chat = memory.conversation(busy="parallel")
    for _ in range(asked):
        chat.ask("hello", detach="keep")
    lab.advance(asked)
    assert len(lags) == asked == memory.version, "held back is not forgotten"
    runtime.close()
    return max(lags)


@pytest.mark.parametrize("kind", [Budgeted, Fair])
def test_no_query_begins_on_a_memory_that_lags(kind):
    bound = 0.25 + (2 * 8 + 1) * 0.11  # answers of one batch that runs, and of one that ended
    for asked in (30, 60, 120):
        assert lag_of_one_memory(kind(max_lag=0.25), asked) <= bound
    for asked in (30, 60):
        assert lag_of_one_memory(Greedy(), asked) >= 0.06 * asked, "without a bound it grows"


def oldest_update_when_a_query_begins(policy):
    """With a memory lane that has its turn only when the decode lane has nothing to do."""

    def choose(count):
        names = [lane.name for lane in lab.lanes if lane.actions]
        return min(range(count), key=lambda i: ["io", "clock", "decode", "memory"].index(names[i]))

    lab = Lab(memory_lane=True, choose=choose)
    model = FakeModel(thread_safe=True, max_batch=2)
    pay(model, step=0.1)
    runtime = lab.runtime(model, policy=policy)
    answered, ages = {}, []

    def watch(event):
        if event.kind == "answer_completed":
            answered[event.interaction] = lab.time
        elif event.kind == "memory_updated":
            del answered[event.interaction]
        elif event.kind == "generation_started":
            ages.extend(lab.time - at for at in answered.values())

    for i in range(12):
        memory = runtime.memory(f"m{i}")
        memory.events.subscribe(watch)
        memory.conversation().ask("hello", detach="keep")
    lab.run()
    assert runtime.stats().updates.items == 12, "and it always goes on"
    runtime.close()
    model.check()
    return max(ages)


def test_no_query_begins_while_the_memory_lane_lags():
    assert oldest_update_when_a_query_begins(Fair(max_lag=0.25)) < 0.25
    assert oldest_update_when_a_query_begins(Budgeted(max_lag=0.25)) < 0.25
    assert oldest_update_when_a_query_begins(Greedy()) > 1


def test_a_memory_lane_asks_the_policy_too():
    class OneByOne:
        def plan(self, load):
            assert load.running == 0 or not load.updates, "nothing runs beside updates there"
            prefills = range(min(load.free, len(load.prefills)))
            return Plan(prefills=prefills, updates=range(min(1, len(load.updates))))

    lab = Lab(memory_lane=True)
    model = FakeModel(thread_safe=True)
    runtime = lab.runtime(model, policy=OneByOne())
    for i in range(6):
        runtime.memory(f"m{i}").conversation().ask("hello", detach="keep")
    lab.run()
    assert sizes(model, "attend") == [1] * 6 and runtime.stats().updates.largest == 1
    assert runtime.stats().lag == 0
    runtime.close()
    model.check()


# Policies that misbehave


@pytest.mark.parametrize(
    "chosen",
    [
        {"prefills": [0, 0], "updates": []},
        {"prefills": [7], "updates": []},
        {"prefills": [-1], "updates": []},
        {"prefills": range(4), "updates": []},
        None,
    ],
)
def test_a_policy_that_fails_holds_up_nobody(lab, caplog, chosen):
    class Bad:
        def plan(self, load):
            return Plan(**chosen)

    model = FakeModel(max_batch=2)
    runtime = lab.runtime(model, policy=Bad())
    its = [runtime.memory(f"m{i}").conversation().ask("hello", detach="keep") for i in range(4)]
    lab.run()
    assert all(it.is_over for it in its)
    assert "the scheduling policy failed" in caplog.text
    runtime.close()
    model.check()


def test_a_policy_that_takes_nothing_does_not_spin(lab, model):
    class Lazy:
        def plan(self, load):
            return Plan(prefills=(), updates=())

    runtime = lab.runtime(model, policy=Lazy())
    it = runtime.memory("m").conversation().ask("hello")
    assert lab.run(1000) < 1000
    assert it.cancel()
    runtime.close()


# Stats


def test_stats_tell_what_is_going_on(lab, model):
    runtime = lab.runtime(model, max_queued=16)
    model.max_batch = 2
    chats = [runtime.memory(f"m{i}", tenant="acme").conversation() for i in range(4)]
    slow = chats[0].ask("long 9")
    reader = slow.blocking()
    for chat in chats[1:]:
        chat.ask("long 9", detach="keep")
    with pytest.raises(QueryRejected):
        chats[0].ask("fifth of four")
    lab.run(4)
    stats = runtime.stats()
    assert stats.queued == stats.tenants["acme"].queued == 2
    assert stats.decoding == stats.tenants["acme"].decoding == 2
    assert stats.rejected == {"tenant_full": 1} and stats.tenants["acme"].rejected == 1
    assert stats.prefills.calls == 1 and stats.prefills.largest == 2
    assert stats.steps.mean == 2.0 and stats.tokens == stats.steps.items > 0
    assert stats.memories["m0"].tenant == "acme"
    assert stats.memories["m0"].reader_lag == 2 + stats.steps.calls
    assert stats.memories["m1"].reader_lag == 0 == stats.lag
    assert stats.iterations >= stats.steps.calls
    lab.run()
    for _ in reader:
        pass
    after = runtime.stats()
    assert after.tokens == after.tenants["acme"].tokens + 4 == 4 * 10, "and an end for each"
    assert after.updates.items == 4 and after.queued == after.decoding == 0
    assert [m.version for m in after.memories.values()] == [1] * 4
    assert stats.decoding == 2, "a snapshot stays as it is"
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.queued = 3
    runtime.close()


def test_stats_tell_how_far_memory_is_behind(lab, model):
    runtime = lab.runtime(model)
    memory = runtime.memory("m")
    it = memory.conversation().ask("hello", detach="keep")
    while it.answer is None:
        lab.step()
    lab.skip(3.0)
    stats = runtime.stats()
    assert stats.lag == stats.memories["m"].lag == 1
    assert stats.lag_seconds == stats.memories["m"].lag_seconds == 3.0
    assert stats.memories["m"].stored is None
    lab.run()
    stats = runtime.stats()
    assert (stats.lag, stats.lag_seconds, stats.memories["m"].stored) == (0, 0.0, 1)
    runtime.close()


def test_stats_are_there_before_anything_happened(lab, model):
    runtime = lab.runtime(model)
    stats = runtime.stats()
    assert isinstance(stats, RuntimeStats)
    assert stats.steps.mean == 0.0 and stats.lag_seconds == 0.0
    assert not stats.memories and not stats.tenants and not stats.rejected
    runtime.close()


def test_lanes_tell_how_busy_they_are(model):
    pause = model.pause("step")
    with Runtime(model) as runtime:
        it = runtime.memory("m").conversation().ask("hello")
        pause.wait_until_reached()
        busy = runtime.stats().busy_seconds
        assert set(busy) == {"decode", "io", "events", "clock"} and busy["decode"] > 0
        assert runtime.stats().busy_seconds["decode"] > busy["decode"], "also while a call lasts"
        pause.release()
        it.result(30)


def test_stats_may_be_taken_anywhere(model):
    with Runtime(model) as runtime:
        memory = runtime.memory("m")
        taken = []
        memory.events.subscribe(lambda e: taken.append((threading.get_ident(), runtime.stats())))
        memory.conversation().ask("hello").result(30)
    assert {stats.memories["m"].tenant for _, stats in taken} == {"m"}


def test_what_is_queued_is_counted_from_all_threads(model):
    """Threads ask and cancel at once, and are refused; nothing stays counted."""
    with Runtime(model, max_queued=12, max_queued_per_tenant=4) as runtime:
        chats = [
            runtime.memory(f"m{i}", tenant=f"t{i % 4}").conversation(max_pending=3)
            for i in range(12)
        ]
        refused = []

        def talk(seed):
            for n in range(60):
                chat = chats[(seed + n) % len(chats)]
                try:
                    it = chat.ask("hello", detach="keep")
                except QueryRejected as refusal:
                    refused.append(refusal.reason)
                    continue
                if n % 3 == 0:
                    it.cancel()
                elif n % 5 == 0:
                    assert it.result(30).text

        threads = [threading.Thread(target=talk, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stats = runtime.stats()
    assert stats.queued == 0 == stats.decoding == stats.lag
    assert all(t.queued == 0 and t.decoding == 0 for t in stats.tenants.values())
    assert stats.rejected == Counter(refused) and refused
    assert set(refused) <= {"queue_full", "tenant_full"}
