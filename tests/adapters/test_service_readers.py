"""Readers of services take no lock: what others remove between two of their looks is no damage."""

from __future__ import annotations

import base64
import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import obstore
import pytest

from adapters.stores._object_rows import ObjectMemory
from adapters.stores._redis_rows import RedisMemory
from adapters.stores._s3_objects import BucketObjects
from rxstream.errors import StoreCorrupt
from rxstream.stores.remote import Lost
from rxstream.testing._store_samples import commit_next, record, snapshot

from .services import one_at_a_time
from .store_kinds import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rxstream.store import Store

READERS: dict[str, Any] = {"redis": RedisMemory, "s3": ObjectMemory}


@pytest.fixture(params=list(READERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_store(kind: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], Any]]:
    with place(kind, request) as opener:
        yield opener


@pytest.fixture
def s3(request: pytest.FixtureRequest) -> Iterator[Any]:
    with place("s3", request) as opener, closing(opener()) as store:  # type: ignore[type-var]
        yield store


def before(patch: pytest.MonkeyPatch, reader: Any, method: str, work: Callable[[], object]) -> None:
    """Have others do ``work`` directly before the first call of a reader's ``method``."""
    real, done = getattr(reader, method), threading.Event()

    def meddled(self: Any, *args: Any) -> Any:
        if not done.is_set():
            done.set()
            work()
        return real(self, *args)

    patch.setattr(reader, method, meddled)


def told(store: Store) -> list[str]:
    return [r.completed.query for r in store.log("m")]


def test_records_that_are_trimmed_while_they_are_read_are_not_missing(
    kind: str, open_store: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store()) as reader, closing(open_store()) as writer:
        for name in ("one", "two", "three"):
            writer.append("m", record(name))
        writer.commit(replace(snapshot("m", 1), log_seq=2), expect=None)
        before(monkeypatch, READERS[kind], "records", lambda: writer.trim("m", 2))
        assert told(reader) == ["three"]


def test_a_log_that_is_deleted_while_it_is_read_ends(
    kind: str, open_store: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store()) as reader, closing(open_store()) as writer:
        writer.append("m", record("one"))
        before(monkeypatch, READERS[kind], "records", lambda: writer.delete("m"))
        assert told(reader) == []


def test_the_newest_that_is_replaced_and_pruned_while_it_is_read_is_there(
    kind: str, open_store: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_store()) as reader, closing(open_store()) as writer:
        commit_next(writer)

        def move_on() -> None:
            commit_next(writer)
            writer.prune("m", keep_last=1)

        before(monkeypatch, READERS[kind], "parts", move_on)
        assert reader.load("m") == snapshot("m", 2)


def test_all_that_precede_a_record_that_is_really_missing_are_given(
    kind: str, open_store: Callable[[], Any]
) -> None:
    with closing(open_store()) as store:
        for name in ("one", "two", "three"):
            store.append("m", record(name))
        if kind == "redis":
            store._client.hdel(store._space.of("m", b"l"), 3)
        else:
            obstore.delete(store._objects._bucket, "o/bQ/l/0000000000000003")
        log = store.log("m")
        assert [next(log).completed.query for _ in range(2)] == ["one", "two"]
        with pytest.raises(StoreCorrupt, match="log record 3 is damaged: it is missing"):
            next(log)


@pytest.mark.parametrize("kind", ["redis"], indirect=True)
def test_damaged_names_and_numbers_are_damage(open_store: Callable[[], Any]) -> None:
    with closing(open_store()) as store:
        commit_next(store)
        store._client.hset(store._space.of("m", b"i"), "seven", b"")
        with pytest.raises(StoreCorrupt, match="'m' is damaged: a version's number is none"):
            store.history("m")
        store._client.zadd(store._space.names, {b"m\xfe": 0})
        with pytest.raises(StoreCorrupt, match="name of a memory is damaged"):
            store.list()


class TestBucket:
    def test_objects_of_others_are_passed_over(self, s3: Any) -> None:
        commit_next(s3)
        latin = base64.urlsafe_b64encode("é".encode("latin-1")).decode().rstrip("=")
        for name in ("d/READ ME", f"d/{latin}", "o/notes.txt", "o/bQ/v/notes", f"o/{latin}/v/1"):
            obstore.put(s3._objects._bucket, name, b"somebody else's")
        s3._skew = 2 * 3600
        assert s3.sweep() == 0
        assert s3.list() == ["m"]
        assert len(list(s3._objects.listed(""))) == 2 + 5

    def test_a_damaged_memory_is_listed_and_stops_neither_listing_nor_sweeping(
        self, s3: Any
    ) -> None:
        for name in ("a", "b", "c"):
            commit_next(s3, name)
        s3.expire("b", 1)
        obstore.put(s3._objects._bucket, "d/YQ", b"damage")
        s3._skew = 2
        assert s3.list() == ["a", "c"]
        with pytest.raises(StoreCorrupt, match="'a' is damaged"):
            s3.sweep()
        assert [name for name, _ in s3._objects.listed("o/Yg")] == []
        assert len([name for name, _ in s3._objects.listed("o/YQ")]) == 1

    def test_a_write_that_meets_another_one_at_that_moment_is_tried_again(
        self, s3: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit_next(s3)
        put, conflicts = obstore.put, 0

        def conflicting(bucket: Any, name: str, data: bytes, *, mode: Any, **options: Any) -> Any:
            nonlocal conflicts
            if isinstance(mode, dict) and conflicts < 2:  # S3 answers 409, and stores nothing
                conflicts += 1
                raise obstore.exceptions.AlreadyExistsError("409 ConditionalRequestConflict")
            return put(bucket, name, data, mode=mode, **options)

        monkeypatch.setattr(obstore, "put", conflicting)
        assert s3.tag("m", "label") == 1
        assert conflicts == 2

    @pytest.mark.parametrize("breaks", [1, 100])
    def test_a_connection_that_breaks_while_it_is_tidied_changes_no_answer(
        self, s3: Any, monkeypatch: pytest.MonkeyPatch, breaks: int
    ) -> None:
        for _ in range(3):
            commit_next(s3)
        remove, calls = BucketObjects.remove, 0

        def broken(self: BucketObjects, names: Any) -> None:
            nonlocal calls
            calls += 1
            if calls <= breaks:
                raise Lost("cut")
            remove(self, names)

        with monkeypatch.context() as patch:
            patch.setattr(BucketObjects, "remove", broken)
            assert s3.prune("m", keep_last=1) == 2
        s3._skew = 2 * 3600
        s3.sweep()
        assert len(list(s3._objects.listed("o"))) == 1


def test_the_bucket_of_these_tests_takes_one_object_after_the_other() -> None:
    both = threading.Barrier(2)
    met = []

    def put(_: object) -> None:
        try:
            both.wait(0.05)
            met.append(True)
        except threading.BrokenBarrierError:
            met.append(False)

    alone = one_at_a_time(put)
    threads = [threading.Thread(target=alone, args=(None,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == [False, False]
