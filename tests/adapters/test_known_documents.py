"""Who writes a memory alone does not read it before each write; with others all is as before."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from adapters.stores._known_documents import _KEPT, KnownDocuments
from adapters.stores._object_document import Document
from adapters.stores._s3_objects import BucketObjects
from rxstream.errors import StoreNotFound, VersionConflict
from rxstream.stores.remote import Lost
from rxstream.testing._store_samples import commit_next, record, snapshot

from .store_kinds import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def open_store(request: pytest.FixtureRequest) -> Iterator[Callable[[], Any]]:
    with place("s3", request) as opener:
        yield opener


@pytest.fixture
def store(open_store: Callable[[], Any]) -> Iterator[Any]:
    with closing(open_store()) as store:
        yield store


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The documents that were read."""
    get, seen = BucketObjects.get, list[str]()

    def counted(self: BucketObjects, name: str) -> Any:
        if name.startswith("d/"):
            seen.append(name)
        return get(self, name)

    monkeypatch.setattr(BucketObjects, "get", counted)
    return seen


def test_the_third_write_in_a_row_reads_nothing(store: Any, reads: list[str]) -> None:
    found = []
    for name in ("one", "two", "three", "four"):
        reads.clear()
        store.append("m", record(name))
        found.append(len(reads))
    assert found == [1, 1, 0, 0]
    assert [r.completed.query for r in store.log("m")] == ["one", "two", "three", "four"]


def test_every_memory_is_known_by_itself(store: Any, reads: list[str]) -> None:
    for _ in range(3):
        commit_next(store, "m")
    reads.clear()
    commit_next(store, "other")
    assert len(reads) > 0


def alone(store: Any) -> None:
    """Have ``store`` know what it wrote last."""
    for _ in range(3):
        commit_next(store)


def test_what_another_one_wrote_meanwhile_is_not_lost(open_store: Callable[[], Any]) -> None:
    with closing(open_store()) as one, closing(open_store()) as other:
        alone(one)
        other.append("m", record("theirs"))
        one.append("m", record("ours"))
        assert [r.completed.query for r in other.log("m")] == ["theirs", "ours"]


def test_a_commit_that_another_one_was_quicker_with_is_a_conflict(
    open_store: Callable[[], Any],
) -> None:
    with closing(open_store()) as one, closing(open_store()) as other:
        alone(one)
        commit_next(other)
        with pytest.raises(VersionConflict) as conflict:
            one.commit(snapshot("m", 4), expect=3)
        assert conflict.value.found == 4


def test_what_is_known_is_no_reason_to_refuse(open_store: Callable[[], Any]) -> None:
    with closing(open_store()) as one, closing(open_store()) as other:
        alone(one)
        commit_next(other)
        one.commit(snapshot("m", 5), expect=4)  # by what it knew, 3 is the newest
        assert other.history("m") == [5, 4, 3, 2, 1]


def test_a_memory_that_another_one_deleted_is_not_there(open_store: Callable[[], Any]) -> None:
    with closing(open_store()) as one, closing(open_store()) as other:
        alone(one)
        other.delete("m")
        with pytest.raises(StoreNotFound):
            one.tag("m", "label", 3)


def test_a_request_that_is_repeated_is_known_by_what_is_there(
    open_store: Callable[[], Any], reads: list[str]
) -> None:
    with closing(open_store()) as one:
        alone(one)
        one.commit(snapshot("m", 4), expect=3, request_id="r")
        reads.clear()
        one.commit(snapshot("m", 4), expect=3, request_id="r")
        assert len(reads) == 1
        assert one.history("m") == [4, 3, 2, 1]


def test_with_two_who_write_in_turn_a_write_fails_once_and_is_read_from_then_on(
    open_store: Callable[[], Any], reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    swap, swaps = BucketObjects.swap, list[bool]()

    def seen(self: BucketObjects, *args: Any) -> Any:
        tag = swap(self, *args)
        swaps.append(tag is not None)
        return tag

    with closing(open_store()) as one, closing(open_store()) as other:
        alone(one)
        monkeypatch.setattr(BucketObjects, "swap", seen)
        for _ in range(4):
            other.append("m", record("theirs"))
            one.append("m", record("ours"))
    assert swaps.count(False) == 1


def test_after_a_connection_that_broke_the_document_is_read(
    store: Any, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(store)
    reads.clear()
    swap = BucketObjects.swap

    def cut(self: BucketObjects, *args: Any) -> Any:
        monkeypatch.setattr(BucketObjects, "swap", swap)
        swap(self, *args)
        raise Lost("cut", in_doubt=True)

    monkeypatch.setattr(BucketObjects, "swap", cut)
    store.append("m", record("said once"))
    assert len(reads) == 1
    assert [r.completed.query for r in store.log("m")] == ["said once"]


def test_a_service_without_tags_is_read_every_time() -> None:
    known = KnownDocuments()
    for _ in range(3):
        known.wrote("m", "", Document(), "")
    assert known.take("m") is None


def test_no_more_than_some_are_kept() -> None:
    known = KnownDocuments()
    for n in range(_KEPT + 1):
        known.went_on(f"m{n}", Document(), "tag")
    assert known.take("m0") is None
    assert known.take("m1") is not None
    assert known.take("m1") is None
