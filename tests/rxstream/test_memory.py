"""Versions, failures by stage, durability, restore and fork."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reactivex.subject import Subject

from rxstream import MemoryPersisted, PersistFailed, Timeouts
from rxstream.errors import (
    ClosedError,
    GenerationError,
    MemoryUpdateError,
    QueryRejected,
    SnapshotIncompatible,
    StoreUnavailable,
    VersionConflict,
)
from rxstream.events import MemoryUpdated
from rxstream.grammar import check
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Lab, Recorder
from rxstream.testing.chaos import ChaosStore


class Broken(MemoryStore):
    """Fails in the methods named in ``broken``."""

    def __init__(self, *broken):
        super().__init__()
        self.broken = set(broken)

    def commit(self, snapshot, *, expect):
        self._check("commit")
        super().commit(snapshot, expect=expect)

    def append(self, key, record):
        self._check("append")
        return super().append(key, record)

    def _check(self, method):
        if method in self.broken:
            raise StoreUnavailable(f"{method}: the disk is full")


class Setup:
    def __init__(self, model=None, store=None, memory=None, **options):
        self.lab, self.model = Lab(), model or FakeModel()
        self.store = store or MemoryStore()
        self.runtime = self.lab.runtime(self.model, store=self.store, **options)
        self.memory = self.runtime.memory("m", **(memory or {}))
        self.events = Recorder(self.memory.events)
        self.persisted = Recorder(self.memory.persisted)
        self.chat = self.memory.conversation()

    def kinds(self, it):
        return [e.kind for e in self.events.items if e.interaction == it.id]

    def said(self, *queries):
        its = [self.chat.ask(query) for query in queries]
        self.lab.run()
        return its

    def close(self):
        self.runtime.close()
        assert not self.lab.errors
        self.model.check()
        check(self.events.items, whole=True).finish()


@pytest.fixture
def setup():
    made = []

    def make(*args, **options):
        made.append(Setup(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


# Failures, stage by stage


@pytest.mark.parametrize("method, stage", [("start", "prefill"), ("step", "decode")])
def test_decoding_fails(setup, method, stage):
    s = setup()
    s.model.fail(method, RuntimeError("out of memory"), skip=0 if method == "start" else 1)
    bad = s.chat.ask("bad one")
    seen = Recorder(bad)
    good = s.chat.ask("good one")
    s.lab.run()
    assert s.kinds(bad)[-1] == "failed" and seen.items[-1].phase == stage
    assert isinstance(seen.error, GenerationError)
    assert isinstance(seen.error.__cause__, RuntimeError)
    assert any("memory 'm' version 0" in note for note in seen.error.__notes__)
    assert s.kinds(good)[-1] == "memory_updated", "the conversation goes on"
    assert s.memory.value == ("good one -> good one #0",)
    with pytest.raises(GenerationError):
        bad.result()


@pytest.mark.parametrize("method", ["encode", "attend"])
def test_update_is_tried_twice(setup, method):
    s = setup()
    s.model.fail(method, RuntimeError("once"), times=1)
    [it] = s.said("hello")
    assert s.kinds(it)[-1] == "memory_updated"
    s.model.fail(method, RuntimeError("twice"), times=2)
    bad, good = s.said("bad", "good")
    assert s.kinds(bad)[-1] == "memory_failed" and s.kinds(good)[-1] == "memory_updated"
    assert bad.result().text == "bad #1", "the answer stands"
    assert isinstance(Recorder(bad).error, MemoryUpdateError)
    assert [r.remembered for r in s.store.log("m")] == [True, False, True]


def test_what_cannot_turn_out_well_is_not_retried(setup):
    s = setup()
    s.model.fail("attend", FloatingPointError("not a number"), times=1)
    [it] = s.said("hello")
    assert s.kinds(it)[-1] == "memory_failed"


def test_halt_on_failure(setup):
    s = setup(memory={"on_memory_failure": "halt"})
    s.model.fail("attend", FloatingPointError("nan"))
    bad = s.chat.ask("bad")
    waiting = s.chat.ask("waiting")
    s.lab.run()
    assert s.kinds(bad)[-1] == "memory_failed" and s.kinds(waiting) == ["query_accepted"]
    with pytest.raises(QueryRejected, match="resume") as refused:
        s.chat.ask("more")
    assert refused.value.reason == "halted"
    s.memory.resume()
    s.lab.run()
    assert s.kinds(waiting)[-1] == "memory_updated"


def test_only_the_guilty_of_a_batch_fails():
    lab, model = Lab(), FakeModel()
    runtime = lab.runtime(model)
    for method in ("start", "encode", "attend"):
        model.fail(method, FloatingPointError("bad one"), times=99, containing=f"bad {method}")
    names = ["good", "bad start", "bad encode", "bad attend", "fine"]
    its = [runtime.memory(name).conversation().ask(name) for name in names]
    lab.run()
    assert [it.is_over for it in its] == [True] * 5
    assert [runtime.memory(name).version for name in names] == [1, 0, 0, 0, 1]
    assert its[0].result().text == "good #0"
    runtime.close()
    model.check()


def test_a_step_fails_for_all_in_it():
    lab, model = Lab(), FakeModel()
    runtime = lab.runtime(model)
    its = [runtime.memory(name).conversation().ask(name) for name in "abc"]
    model.fail("step", RuntimeError("cuda"))
    lab.run()
    for it in its:
        with pytest.raises(GenerationError, match="cuda"):
            it.result()
    runtime.close()
    model.check()


@pytest.mark.parametrize("method", ["start", "step", "encode", "attend"])
def test_a_model_that_returns_too_little(setup, method):
    s = setup()
    original = getattr(s.model, method)
    setattr(s.model, method, lambda *args: original(*args)[:-1])
    [it] = s.said("hello")
    assert s.kinds(it)[-1] in ("failed", "memory_failed")
    setattr(s.model, method, original)
    s.model.open.clear()
    [it] = s.said("hello")
    assert s.kinds(it)[-1] == "memory_updated"


def test_a_model_that_fails_to_release(setup, caplog):
    s = setup()
    s.model.on("finish", _raise, after=True)
    s.said("one", "two")
    assert s.memory.version == 2 and "failed to release" in caplog.text


def _raise(*_):
    raise RuntimeError("finish")


def test_a_model_that_never_ends(setup):
    s = setup(model=FakeModel(answer=lambda query, memory: ["x"] * 500))
    s.model._step = lambda decoding: __import__("rxstream").TokenDraft(id=1, text="x")
    it = s.chat.ask("hello")
    s.lab.run()
    assert it.result().finish_reason == "length" and len(it.result().text) == 64


# The store


@pytest.mark.parametrize("durability", ["sync", "async", "close"])
def test_log_cannot_be_written(setup, durability):
    s = setup(store=Broken("append"), durability=durability)
    [it] = s.said("hello")
    assert s.kinds(it)[-1] == "memory_failed" and s.memory.version == 0
    assert it.result().text == "hello #0"
    s.store.broken.clear()
    [it] = s.said("again")
    assert s.kinds(it)[-1] == "memory_updated"


def test_sync_commit_fails(setup):
    s = setup(store=Broken("commit"), durability="sync")
    [it] = s.said("hello")
    assert s.kinds(it)[-1] == "memory_failed" and s.memory.version == 0
    s.store.broken.clear()
    [it] = s.said("again")
    assert s.memory.value == ("again -> again #0",)
    assert s.store.head("m") == 1


def test_sync_is_stored_before_it_is_told(setup):
    s = setup(durability="sync")
    heads = []
    s.memory.events.subscribe(
        lambda e: heads.append(s.store.head("m")) if isinstance(e, MemoryUpdated) else None
    )
    s.said("one", "two")
    updates = [e for e in s.events.items if isinstance(e, MemoryUpdated)]
    assert heads == [1, 2]
    assert all(e.durable and e.digest == s.store.load("m", e.version).digest for e in updates)


def test_async_commit_fails_and_is_tried_again(setup):
    s = setup(store=Broken("commit"))
    its = s.said("one", "two")
    assert [s.kinds(it)[-1] for it in its] == ["memory_updated"] * 2
    [first, *_] = s.persisted.items
    assert isinstance(first, PersistFailed) and first.retry_in == 0.5
    flushed = s.memory.flush()
    s.lab.run()
    with pytest.raises(StoreUnavailable):
        flushed.result()
    s.store.broken.clear()
    s.lab.advance(60)
    assert s.persisted.items[-1] == MemoryPersisted(version=2, digest=s.store.load("m").digest)
    assert s.memory.info().stored == 2


@pytest.mark.parametrize("more", [[], ["two"]], ids=["the same version", "a newer one"])
def test_a_version_stored_just_before_the_store_was_lost_is_no_conflict(setup, more):
    s = setup(store=ChaosStore(MemoryStore(), before=0, after=1, only=frozenset({"commit"})))
    s.said("one")
    assert s.store.inner.head("m") == 1 and s.memory.info().stored is None
    s.store.calm = True
    s.said(*more)
    s.lab.advance(60)
    assert [type(event).__name__ for event in s.persisted.items] == [
        "PersistFailed",
        "MemoryPersisted",
    ]
    newest = s.store.load("m")
    assert s.memory.info().stored == newest.version == 1 + len(more) == s.memory.version
    assert s.persisted.items[-1].digest == newest.digest == s.memory.info().digest


def test_another_writers_version_is_a_conflict_also_in_doubt(setup):
    s = setup(store=ChaosStore(MemoryStore(), before=1, after=0, only=frozenset({"commit"})))
    s.said("one")
    s.store.inner.commit(replace(s.memory.snapshot(), metadata={"by": "another"}), expect=None)
    s.store.calm = True
    s.lab.advance(60)
    assert s.persisted.items[-1].error.type.endswith("VersionConflict")
    assert s.persisted.items[-1].retry_in is None


def test_async_saves_only_the_newest():
    s = Setup()
    commits = []
    original = s.store.commit

    def commit(snapshot, *, expect):
        commits.append(snapshot.version)
        original(snapshot, expect=expect)

    s.store.commit = commit
    names = [f"m{i}" for i in range(8)]
    for name in names * 5:
        s.runtime.memory(name).conversation().ask("hello")
    s.lab.run()
    assert [s.store.head(name) for name in names] == [5] * 8
    assert len(commits) < 40, "what was overtaken is not written"
    assert all(s.store.load(name).log_seq == 5 for name in names)
    s.close()


def test_close_stores_on_flush_and_at_the_end():
    store = MemoryStore()
    s = Setup(store=store, durability="close")
    s.said("one")
    assert store.head("m") is None
    flushed = s.memory.flush()
    s.lab.run()
    assert flushed.result() == 1 == store.head("m")
    s.said("two")
    assert store.head("m") == 1
    s.close()
    assert store.head("m") == 2


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_somebody_else_commits(setup, durability):
    store = MemoryStore()
    ours = setup(store=store, durability=durability)
    theirs = setup(store=store, durability="sync")
    theirs.said("theirs")
    [it] = ours.said("ours")
    assert ours.kinds(it)[-1] == "memory_failed"
    assert isinstance(it and Recorder(it).error.__cause__, VersionConflict)
    assert [e.reason for e in ours.events.items if e.kind == "memory_failed"] == ["conflict"]
    assert store.load("m").version == 1
    assert [record.remembered for record in store.log("m")] == [True, False]


# As a subject


def test_changes_begin_with_the_current_version(setup):
    s = setup()
    s.said("one")
    versions = []
    subscription = s.memory.subscribe(lambda info: versions.append(info.version))
    assert versions == [1]
    s.said("two")
    assert versions == [1, 2]
    subscription.dispose()
    s.said("three")
    assert versions == [1, 2]


def test_a_subject_of_snapshots(setup):
    s = setup()
    s.said("one")
    first = s.memory.snapshot()
    s.said("two")
    snapshots = Subject()
    snapshots.subscribe(s.memory)
    snapshots.on_next(first)
    s.lab.run()
    assert s.memory.value == ("one -> one #0",) and s.memory.version == 3
    snapshots.on_error(RuntimeError("not ours"))
    assert s.chat.ask("still works")
    s.lab.run()


# Snapshots, restore, fork


def test_restore_waits_for_its_turn(setup):
    s = setup()
    empty = s.memory.snapshot()
    before = s.chat.ask("before")
    restored = s.memory.restore(empty)
    after = s.chat.ask("recall")
    s.lab.run()
    assert restored.result() == 2
    assert s.kinds(before)[-1] == "memory_updated"
    updates = [(e.version, e.cause) for e in s.events.items if isinstance(e, MemoryUpdated)]
    assert updates == [(1, "interaction"), (2, "restore")]
    assert after.result().text == "", "it has forgotten"
    assert s.store.load("m").kind == "restore"


def test_restore_survives_a_crash():
    store = MemoryStore()
    s = Setup(store=store, durability="close")
    s.said("one")
    first = s.memory.snapshot()
    s.said("two")
    s.memory.restore(first)
    s.said("three")
    s.lab.kill(s.runtime)
    again = Setup(store=store)
    assert again.memory.value == ("one -> one #0", "three -> three #1")
    again.close()


def test_restore_can_fail(setup):
    s = setup(store=Broken())
    s.said("one")
    other = setup(model=FakeModel(fingerprint="other")).memory.snapshot()
    with pytest.raises(SnapshotIncompatible, match="'other'.*'fake-1'"):
        s.memory.restore(other)
    snapshot = s.memory.snapshot()
    s.store.broken.add("commit")
    failed = s.memory.restore(snapshot)
    it = s.chat.ask("after")
    s.lab.run()
    with pytest.raises(StoreUnavailable):
        failed.result()
    assert s.kinds(it)[-1] == "memory_updated", "and the memory goes on"
    s.model.fail("load", SnapshotIncompatible("not finite"))
    failed = s.memory.restore(snapshot)
    s.lab.run()
    with pytest.raises(SnapshotIncompatible):
        failed.result()
    s.store.broken.clear()


def test_restore_after_close():
    s = Setup()
    snapshot = s.memory.snapshot()
    s.close()
    with pytest.raises(ClosedError):
        s.memory.restore(snapshot)


def test_fork(setup):
    s = setup()
    s.said("one")
    copy = s.memory.fork("copy")
    assert copy.value == s.memory.value and copy.name == "copy"
    copy.conversation().ask("mine")
    s.said("two")
    assert copy.value == ("one -> one #0", "mine -> mine #1")
    assert s.memory.value == ("one -> one #0", "two -> two #1")
    assert s.store.load("copy", 1).kind == "fork"
    assert s.store.load("copy", 1).parent_digest
    for name in ("copy", "m"):
        with pytest.raises(VersionConflict):
            s.memory.fork(name)


def test_keys_travel_with_the_snapshot():
    store = MemoryStore()
    s = Setup(store=store)
    s.chat.ask("once", key="k")
    s.lab.run()
    s.close()
    again = Setup(store=store)
    with pytest.raises(QueryRejected, match="version 1") as refused:
        again.chat.ask("once", key="k")
    assert refused.value.reason == "duplicate"
    rejected = again.chat.ask("once", key="k", raise_on_reject=False)
    assert Recorder(rejected).items[0].version == 1
    again.close()


def test_only_recent_keys_are_kept(setup):
    s = setup()
    for i in range(260):
        s.chat.ask(f"q{i}", key=f"k{i}")
        s.lab.run()
    assert len(s.memory.snapshot().applied_keys) == 256
    s.chat.ask("again", key="k0")
    with pytest.raises(QueryRejected):
        s.chat.ask("again", key="k100")
    s.lab.run()


def test_a_failed_query_gives_its_key_back(setup):
    s = setup()
    s.chat.ask("one", key="k").cancel()
    s.model.fail("attend", FloatingPointError("nan"))
    s.chat.ask("two", key="k")
    s.lab.run()
    s.chat.ask("three", key="k", timeouts=Timeouts(memory=9))
    s.lab.run()
    assert s.memory.value == ("three -> three #0",)
