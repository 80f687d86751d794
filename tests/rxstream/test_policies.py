"""Scheduling policies as plain objects: what is waiting goes in, a plan comes out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rxstream.scheduling import Budgeted, Fair, Greedy, Load


@dataclass
class Someone:
    name: str = "someone"
    tokens: int = 0
    prefilled: int = 0
    updated: int = 0


@dataclass
class Item:
    since: float = 0.0
    size: int = 10
    inherited: bool = False
    tenant: Someone = field(default_factory=Someone)
    lag: float = 0.0


def load(prefills=(), updates=(), running=0, free=8, now=0.0, lag=0.0, costs=(0.0, 0.0)):
    if isinstance(prefills, int):
        prefills = [Item() for _ in range(prefills)]
    return Load(
        now=now,
        running=running,
        free=free,
        prefills=prefills,
        updates=list(updates),
        prefill_cost=costs[0],
        update_cost=costs[1],
        lag=lag,
    )


def test_greedy():
    plan = Greedy().plan(load(prefills=12, updates=[Item()] * 5, running=3))
    assert list(plan.prefills) == list(range(8)) and list(plan.updates) == list(range(5))
    plan = Greedy(max_prefills=2, max_updates=1).plan(load(prefills=12, updates=[Item()] * 5))
    assert list(plan.prefills) == [0, 1] and list(plan.updates) == [0]
    plan = Greedy().plan(load(prefills=3, free=0))
    assert not list(plan.prefills) and not list(plan.updates)


@pytest.mark.parametrize("kind", [Budgeted, Fair])
class TestBudget:
    def test_takes_all_when_nothing_decodes(self, kind):
        plan = kind(budget=1).plan(load(4, [Item()] * 4, costs=(1, 1)))
        assert len(plan.prefills) == 4 and len(plan.updates) == 4

    def test_bounds_work_beside_decoding(self, kind):
        policy = kind(budget=60)
        plan = policy.plan(load(8, [Item()] * 8, running=1, costs=(1, 1)))
        assert list(plan.updates) == [0, 1, 2], "half of the budget, 10 each"
        assert list(plan.prefills) == [0, 1, 2]
        plan = policy.plan(load(8, [Item()], running=1, costs=(1, 1)))
        assert len(plan.updates) == 1 and len(plan.prefills) == 5, "what updates leave"
        plan = policy.plan(load(0, [Item()] * 8, running=1, costs=(1, 1)))
        assert len(plan.updates) == 6

    def test_takes_one_of_each_however_dear(self, kind):
        plan = kind(budget=1).plan(load(4, [Item()] * 4, running=1, costs=(1, 1)))
        assert list(plan.prefills) == [0] and list(plan.updates) == [0]

    def test_takes_all_while_nothing_is_known_of_costs(self, kind):
        plan = kind().plan(load(4, [Item()] * 4, running=1))
        assert len(plan.prefills) == 4 and len(plan.updates) == 4

    def test_never_begins_more_than_there_are_slots(self, kind):
        assert list(kind().plan(load(9, free=3)).prefills) == [0, 1, 2]
        assert list(kind().plan(load(9, free=0)).prefills) == []

    def test_prefers_who_is_waited_for_and_ages(self, kind):
        policy = kind(budget=10, max_lag=1.0)
        updates = [Item(since=0.1), Item(since=0.2, inherited=True), Item(since=0.0)]

        def chosen(now):
            return list(
                policy.plan(load(updates=updates, running=1, now=now, costs=(1, 1))).updates
            )

        assert chosen(now=0.5) == [1]
        assert chosen(now=1.05) == [1, 2]
        assert chosen(now=2.0) == [1, 2, 0]

    def test_begins_nothing_on_a_memory_that_lags(self, kind):
        items = [Item(lag=0.3), Item(lag=0.2), Item()]
        assert list(kind(max_lag=0.25).plan(load(items)).prefills) == [1, 2]

    def test_begins_nothing_while_the_memory_lane_lags(self, kind):
        plan = kind(max_lag=0.25).plan(load(4, lag=0.25))
        assert list(plan.prefills) == []
        assert len(kind(max_lag=0.25).plan(load(4, lag=0.24)).prefills) == 4

    @pytest.mark.parametrize("option", ["max_lag", "budget"])
    @pytest.mark.parametrize("value", [0, -1, float("nan")])
    def test_seconds_must_be_positive(self, kind, option, value):
        with pytest.raises(ValueError, match=f"{option}.*not {value}"):
            kind(**{option: value})


class World:
    """Slots that answers hold for as many rounds as they have tokens, and tenants that ask."""

    def __init__(self, policy, slots=4):
        self.policy, self.slots, self.now = policy, slots, 0.0
        self.waiting: list[Item] = []
        self.running: list[list] = []
        self.lengths: dict[int, int] = {}
        self.begun: list[str] = []

    def ask(self, tenant, length, size=10):
        item = Item(since=self.now, size=size, tenant=tenant)
        self.lengths[id(item)] = length
        self.waiting.append(item)

    def round(self):
        self.now += 1
        for entry in self.running:
            entry[0].tokens += 1
            entry[1] -= 1
        self.running = [entry for entry in self.running if entry[1]]
        free = self.slots - len(self.running)
        plan = self.policy.plan(load(self.waiting, running=len(self.running), free=free))
        for i in plan.prefills:
            item = self.waiting[i]
            item.tenant.prefilled += item.size
            self.begun.append(item.tenant.name)
            self.running.append([item.tenant, self.lengths[id(item)]])
        self.waiting = [item for i, item in enumerate(self.waiting) if i not in plan.prefills]


def waiting_of(world, tenant):
    return sum(item.tenant is tenant for item in world.waiting)


def test_two_that_always_wait_get_the_same_however_long_their_answers():
    world = World(Fair(), slots=8)
    chatty, brief = Someone("chatty"), Someone("brief")
    for _ in range(4000):
        while waiting_of(world, chatty) < 40:
            world.ask(chatty, 64)
        while waiting_of(world, brief) < 8:
            world.ask(brief, 4)
        world.round()
    assert chatty.tokens + brief.tokens == pytest.approx(8 * 4000, rel=0.01), "no slot stays empty"
    served = {t.name: t.tokens + 0.08 * t.prefilled for t in (chatty, brief)}
    assert served["chatty"] == pytest.approx(served["brief"], rel=0.02)


def test_first_come_first_served_is_not_fair():
    world = World(Budgeted(), slots=8)
    flood, other = Someone("flood"), Someone("other")
    for _ in range(1000):
        while waiting_of(world, flood) < 40:
            world.ask(flood, 16)
        while waiting_of(world, other) < 1:
            world.ask(other, 16)
        world.round()
    assert other.tokens < 0.05 * flood.tokens


def test_weights():
    world = World(Fair(weights={"double": 2}), slots=8)
    single, double = Someone("single"), Someone("double")
    for _ in range(4000):
        for tenant in (single, double):
            while waiting_of(world, tenant) < 10:
                world.ask(tenant, 16)
        world.round()
    assert double.tokens == pytest.approx(2 * single.tokens, rel=0.03)


def test_nobody_saves_up_credit():
    world = World(Fair(credit=100), slots=2)
    busy, idle = Someone("busy"), Someone("idle")
    world.ask(idle, 8)
    for _ in range(1000):
        while waiting_of(world, busy) < 4:
            world.ask(busy, 8)
        world.round()
    before = busy.tokens, idle.tokens
    for _ in range(400):
        for tenant in (busy, idle):
            while waiting_of(world, tenant) < 4:
                world.ask(tenant, 8)
        world.round()
    got = busy.tokens - before[0], idle.tokens - before[1]
    assert got[1] - got[0] == pytest.approx(100, abs=40), "ahead by its credit, and no more"


def test_who_comes_to_a_flood_is_next():
    world = World(Fair(), slots=4)
    flood, guest = Someone("flood"), Someone("guest")
    for _ in range(100):
        world.ask(flood, 20)
    for _ in range(60):
        world.round()
    world.begun.clear()
    world.ask(guest, 20)
    while "guest" not in world.begun:
        world.round()
    assert len(world.begun) <= 4, "at most what fits beside it in the same round"


def test_a_tenant_that_was_reopened_counts_from_zero_again():
    policy = Fair()
    policy.plan(load([Item(tenant=Someone("a", tokens=1000)), Item(tenant=Someone("b"))]))
    again = [Item(tenant=Someone("b")), Item(tenant=Someone("a", tokens=0))]
    assert list(policy.plan(load(again, free=1)).prefills) == [0]


def test_very_many_tenants_leave_no_trace():
    policy = Fair()
    for i in range(10_000):
        policy.plan(load([Item(tenant=Someone(f"t{i}", prefilled=10 * i))]))
    assert len(policy._counters) <= 4097 and len(policy._seen) == len(policy._counters)


@pytest.mark.parametrize("weight", [0, -1.0, float("nan")])
def test_a_weight_must_be_positive(weight):
    with pytest.raises(ValueError, match="'acme'"):
        Fair(weights={"acme": weight})


ITEMS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.integers(0, 500), st.floats(0, 2), st.floats(0, 0.5),
        st.booleans(),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    loads=st.lists(
        st.tuples(ITEMS, ITEMS, st.integers(0, 4), st.integers(0, 8), st.floats(0, 0.5)),
        max_size=6,
    ),
    kind=st.sampled_from([Greedy, Budgeted, Fair]),
)
def test_any_plan_can_be_carried_out_and_is_the_same_again(loads, kind):
    one, two = kind(), kind()
    people = {name: Someone(name) for name in "abc"}
    for n, (prefills, updates, running, free, lag) in enumerate(loads):
        shown = load(
            *(
                [
                    Item(tenant=people[who], size=size, since=since, lag=owed, inherited=inherited)
                    for who, size, since, owed, inherited in items
                ]
                for items in (prefills, updates)
            ),
            running=running, free=free, now=2.0 + n, lag=lag,
        )  # fmt: skip
        plan, same = one.plan(shown), two.plan(shown)
        assert list(plan.prefills) == list(same.prefills), "no clock, no chance"
        assert list(plan.updates) == list(same.updates)
        for chosen, items in ((plan.prefills, prefills), (plan.updates, updates)):
            assert len(set(chosen)) == len(chosen) and all(0 <= i < len(items) for i in chosen)
        assert len(plan.prefills) <= free
        if kind in (Budgeted, Fair):
            assert all(prefills[i][3] < 0.25 for i in plan.prefills)
            due = {i for i, item in enumerate(updates) if shown.now - item[2] >= 0.25}
            assert due <= set(plan.updates), "what is due is never left out"
        if updates:
            assert plan.updates, "updates are never idle-only"
        for i in plan.prefills:
            people[prefills[i][0]].prefilled += prefills[i][1]
            people[prefills[i][0]].tokens += 10


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    queries=st.lists(st.integers(1, 400), min_size=4, max_size=4),
    slots=st.integers(1, 8),
)
def test_shares_differ_by_no_more_than_the_slots_hold(lengths, queries, slots):
    world = World(Fair(), slots=slots)
    people = [Someone(str(i)) for i in range(len(lengths))]
    for _ in range(600):
        for person, length, query in zip(people, lengths, queries, strict=False):
            while waiting_of(world, person) < slots:
                world.ask(person, length, query)
        world.round()
    served = [p.tokens + 0.08 * p.prefilled for p in people]
    bound = 2 * slots * (max(lengths) + 0.08 * max(queries))
    assert max(served) - min(served) <= bound
    assert Counter(world.begun).keys() == {p.name for p in people}


def test_a_stream_of_newcomers_starves_nobody():
    world = World(Fair(), slots=2)
    old = Someone("old")
    for _ in range(100):
        world.ask(old, 10)
    for _ in range(200):
        world.round()
    world.begun.clear()
    for n in range(1000):
        for i in range(2):  # they alone fill all slots
            world.ask(Someone(f"newcomer {n}-{i}"), 1, size=100)
        world.round()
        if "old" in world.begun:
            break
    assert "old" in world.begun and len(world.begun) < 400
