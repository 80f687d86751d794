"""What caching, metering and chaos do beside passing calls on."""

from __future__ import annotations

import pytest

from rxstream.errors import StoreNotFound, StoreUnavailable, VersionConflict
from rxstream.stores.cached import CachedStore
from rxstream.stores.copying import copy_memory
from rxstream.stores.memory import MemoryStore
from rxstream.stores.metered import Call, MeteredStore
from rxstream.stores.transient import TransientStore
from rxstream.testing._store_samples import commit_next, record, snapshot
from rxstream.testing.chaos import ChaosStore


def counted() -> tuple[MemoryStore, MeteredStore, CachedStore]:
    inner = MemoryStore()
    metered = MeteredStore(inner)
    return inner, metered, CachedStore(metered, max_bytes=1 << 20)


def test_a_version_is_fetched_once() -> None:
    inner, metered, cached = counted()
    commit_next(inner)
    assert [cached.load("m") for _ in range(3)] == [snapshot("m", 1)] * 3
    assert (metered.totals()["load"].calls, cached.hits, cached.misses) == (1, 2, 1)


def test_what_was_committed_here_is_not_fetched_at_all() -> None:
    _, metered, cached = counted()
    commit_next(cached)
    assert cached.load("m") == snapshot("m", 1)
    assert "load" not in metered.totals()


def test_what_others_committed_pruned_or_deleted_is_noticed_at_once() -> None:
    inner, _, cached = counted()
    commit_next(cached)
    commit_next(inner)
    assert cached.load("m").version == 2
    inner.prune("m", keep_last=1)
    with pytest.raises(StoreNotFound):
        cached.load("m", 1)
    inner.delete("m")
    with pytest.raises(StoreNotFound):
        cached.load("m")


def test_the_least_recently_used_goes_first_and_the_bound_holds() -> None:
    inner = MemoryStore()
    metered = MeteredStore(inner)
    size = len(snapshot("a", 1).state)
    cached = CachedStore(metered, max_bytes=2 * size)
    for name in ("a", "b", "a", "c"):
        if name not in inner.list():
            commit_next(inner, name)
        cached.load(name)
    calls = metered.totals()["load"].calls
    cached.load("a"), cached.load("c")
    assert metered.totals()["load"].calls == calls
    cached.load("b")
    assert metered.totals()["load"].calls == calls + 1
    with pytest.raises(ValueError, match="max_bytes"):
        CachedStore(inner, max_bytes=-1)


def test_every_call_is_counted_with_its_bytes_and_its_error() -> None:
    seen: list[Call] = []
    store = MeteredStore(MemoryStore(), seen.append)
    commit_next(store)
    with pytest.raises(VersionConflict):
        store.commit(snapshot("m", 2), expect=None)
    store.load("m")
    store.append("m", record())
    assert [(c.method, c.error) for c in seen] == [
        ("head", None),
        ("commit", None),
        ("commit", "VersionConflict"),
        ("load", None),
        ("append", None),
    ]
    commit, load = store.totals()["commit"], store.totals()["load"]
    assert (commit.calls, commit.errors, commit.nbytes) == (2, 1, len(snapshot().state))
    assert load.nbytes == len(snapshot().state)
    assert all(call.seconds >= 0 for call in seen)


def test_chaos_follows_its_seed_and_request_ids_resolve_it() -> None:
    def run() -> tuple[int, list[int], list[str]]:
        inner = MemoryStore()
        chaos = ChaosStore(inner, seed=3, before=0.3, after=0.3)
        head = None
        for number in range(1, 41):
            request = f"r{number}"
            while True:
                try:
                    chaos.commit(snapshot("m", number), expect=head, request_id=request)
                    break
                except StoreUnavailable:
                    continue
            head = number
            while True:
                try:
                    chaos.append("m", record(str(number)), request_id=f"a{number}")
                    break
                except StoreUnavailable:
                    continue
        return chaos.failures, inner.history("m"), [r.completed.query for r in inner.log("m")]

    failures, history, queries = run()
    assert (failures, history, queries) == run()
    assert failures > 20
    assert history == list(range(40, 0, -1))
    assert queries == [str(number) for number in range(1, 41)]


def test_a_transient_memory_is_kept_here_and_leaves_nothing_behind() -> None:
    inner = MemoryStore()
    store = TransientStore(inner, prefix="held:")
    for name in ("held:a", "b"):
        commit_next(store, name)
        store.append(name, record())
    assert (store.list(), inner.list()) == (["b", "held:a"], ["b"])
    assert (store.list(limit=1), store.list("held:"), store.list(after="b")) == (
        ["b"], ["held:a"], ["held:a"],
    )  # fmt: skip
    assert store.head("held:unknown") is None
    store.delete("held:a")
    assert store.head("held:a") == 2, "a delete has a number"
    store.drop("held:a")
    assert store.head("held:a") is None
    assert store.head("b") == 1


def test_a_fork_goes_where_its_name_says() -> None:
    inner = MemoryStore()
    store = TransientStore(inner)
    commit_next(store, "held:a")
    for source, target in (("held:a", "held:b"), ("held:a", "c"), ("c", "held:d"), ("c", "e")):
        store.fork(source, target)
        assert store.load(target).state == snapshot("m", 1).state
    assert inner.list() == ["c", "e"]


def test_what_is_left_of_a_lifetime_is_copied_with_a_memory() -> None:
    source, target = MemoryStore(), MemoryStore()
    for name in ("m", "for ever"):
        commit_next(source, name)
    source.expire("m", 100)
    for name in ("m", "for ever"):
        copy_memory(source, target, name)
    left, copied = source.expires_at("m"), target.expires_at("m")
    assert left is not None and copied is not None and abs(left - copied) < 5
    assert target.expires_at("for ever") is None
    target._skew += 101
    assert target.list() == ["for ever"]


def test_a_commit_is_counted_however_it_is_written() -> None:
    _, metered, _ = counted()
    metered.commit(snapshot=snapshot("m", 1), expect=None)
    assert metered.totals()["commit"].nbytes == len(snapshot("m", 1).state)
