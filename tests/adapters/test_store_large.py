"""Large versions are hashed on another thread while they are written and read: nothing else may
differ from small ones."""

from __future__ import annotations

import _thread
import os
import random
import time
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rxstream import _hashing
from rxstream.errors import StoreCorrupt, VersionConflict
from rxstream.snapshot import Snapshot
from rxstream.tensorfile import encode

from .store_kinds import KINDS, PERSISTENT, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rxstream.store import Store
    from rxstream.stores.rows import Rows

SIZE = 7 << 19
"""Several parts for every store, and none of them full."""


def large(version: int) -> Snapshot:
    """Of bytes that are nowhere the same."""
    content = random.Random(version).randbytes(SIZE)
    held = encode({"stm": ("U8", (SIZE,), content)})
    return Snapshot("m", version, "model-1", held, created_at=1e9)


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opener(kind: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], Store]]:
    with place(kind, request) as found:
        yield found


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    before, ends = _thread._count(), time.monotonic() + 60
    yield
    while _thread._count() > before:  # one that has been waited for may still be ending
        assert time.monotonic() < ends


@pytest.mark.usefixtures("no_thread_left")
@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_a_large_version_comes_back_as_it_was(opener: Callable[[], Store]) -> None:
    with closing(opener()) as store:
        store.commit(large(1), expect=None, request_id="one")
        store.commit(large(1), expect=None, request_id="one")  # asked again, it was done
        store.commit(large(2), expect=1)
        for version in (1, 2):
            loaded, expected = store.load("m", version), large(version)
            assert loaded.state == expected.state
            assert store.info("m", version).digest == loaded.digest
        with closing(opener()) as other:
            other.commit(Snapshot("n", 1, "model-1", loaded.state), expect=None)
            assert other.load("n").state == expected.state


@pytest.mark.usefixtures("no_thread_left")
@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_a_large_version_that_loses_leaves_nothing(
    kind: str, opener: Callable[[], Store], request: pytest.FixtureRequest
) -> None:
    with closing(opener()) as store:
        store.commit(large(1), expect=None)
        with pytest.raises(VersionConflict):
            store.commit(large(2), expect=None)
        with pytest.raises(ValueError, match="must be greater"):
            store.commit(large(1), expect=1)
        assert store.history("m") == [1]
        assert store.load("m").state == large(1).state
        if kind == "dir":
            assert not list(request.getfixturevalue("tmp_path").rglob("*.tmp"))


@pytest.mark.usefixtures("no_thread_left")
@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_damage_of_any_part_is_found(opener: Callable[[], Store]) -> None:
    def flipped(at: int) -> Callable[[bytes], bytes]:
        return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    changes: list[Callable[[bytes], bytes]] = [
        *(flipped(at) for at in (3, 100, 1000, SIZE // 2, SIZE)),
        lambda data: data[:-1],
        lambda data: data[: SIZE // 2],
        lambda data: data[:20],
        lambda data: data[:5],
        lambda data: b"",
        lambda data: data + b"\0",
        lambda data: data + data,
        lambda data: data[: -(2 << 20)] + data[-(1 << 20) :] + data[-(2 << 20) : -(1 << 20)],
    ]
    with closing(opener()) as store:
        store.commit(large(1), expect=None)

        def replaced(change: Callable[[bytes], bytes]) -> bytes:
            def work(rows: Rows) -> bytes:
                info, packed = rows.info(1), rows.packed(1)
                assert info is not None
                assert packed is not None
                rows.add(1, info, change(packed))
                return packed

            return store._write("m", work)  # type: ignore[attr-defined,no-any-return]

        for change in changes:
            whole = replaced(change)
            with pytest.raises(StoreCorrupt, match="version 1 is damaged"):
                store.load("m")
            replaced(lambda _, whole=whole: whole)  # type: ignore[misc]
            assert store.load("m").state == large(1).state


@pytest.mark.parametrize("kind", ["sqlite", "dir"], indirect=True)
def test_a_forked_child_hashes_too(opener: Callable[[], Store]) -> None:
    with closing(opener()) as store:
        store.commit(large(1), expect=None)
        pid = os.fork()
        if pid == 0:
            try:
                store.commit(large(2), expect=1)
                os._exit(0 if store.load("m").state == large(2).state else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert store.load("m").state == large(2).state


@pytest.mark.parametrize("kind", PERSISTENT, indirect=True)
def test_where_no_thread_can_be_started_it_is_hashed_all_the_same(
    opener: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with closing(opener()) as store, monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", none)
        store.commit(large(1), expect=None)
        assert store.load("m").state == large(1).state
        patch.undo()
        assert store.info("m").digest == large(1).digest


@pytest.mark.usefixtures("no_thread_left")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["sqlite", "dir"], indirect=True)
def test_a_thread_that_fails_does_not_tell_a_wrong_digest(
    opener: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def __init__(self, data: bytes) -> None:
            pass

        def update(self, data: bytes) -> None:
            raise MemoryError

        def hexdigest(self) -> str:
            return "0" * 64

    with closing(opener()) as store:
        with monkeypatch.context() as patch:
            patch.setattr(_hashing, "hashlib", SimpleNamespace(sha256=Broken))
            with pytest.raises(RuntimeError, match="has failed"):
                store.commit(large(1), expect=None)
        assert store.head("m") is None
        store.commit(large(1), expect=None)
        assert store.load("m").state == large(1).state
