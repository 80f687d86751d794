"""A reader of a folder takes no lock: what others write between two of its looks is no damage."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from adapters.stores import _directory_files, _directory_memory
from adapters.stores._directory_memory import DirectoryMemory
from adapters.stores.directory import DirectoryStore
from rxstream.errors import StoreCorrupt, StoreNotFound, StoreUnavailable
from rxstream.testing._store_samples import commit_next, record, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[DirectoryStore]:
    with closing(DirectoryStore(tmp_path / "store")) as store:
        yield store


@pytest.fixture
def writer(tmp_path: Path, reader: DirectoryStore) -> Iterator[DirectoryStore]:
    with closing(DirectoryStore(tmp_path / "store")) as store:
        yield store


@pytest.fixture
def at_look(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have ``work`` done by others before a reader opens its journal for the ``number``-th time,
    or directly after it found none."""
    opened = DirectoryMemory._open

    def arrange(number: int, work: Callable[[], object], *, after: bool = False) -> None:
        looks = 0

        def meddled(self: DirectoryMemory) -> Any:
            nonlocal looks
            looks += 1
            now = looks == number
            if now and not after:
                work()
            try:
                return opened(self)
            finally:
                if now and after:
                    work()

        monkeypatch.setattr(DirectoryMemory, "_open", meddled)

    return arrange


def test_a_memory_that_begins_between_two_looks_of_a_reader_is_there(
    reader: DirectoryStore, writer: DirectoryStore, at_look: Callable[..., None]
) -> None:
    at_look(1, lambda: commit_next(writer), after=True)
    assert reader.load("m") == snapshot("m", 1)


def test_a_log_that_is_written_anew_while_it_is_read_is_read_anew(
    reader: DirectoryStore, writer: DirectoryStore, at_look: Callable[..., None]
) -> None:
    for name in ("one", "two", "three"):
        writer.append("m", record(name))

    def begin_again() -> None:
        writer.delete("m")
        for name in ("four", "five"):
            writer.append("m", record(name))

    at_look(2, begin_again)
    assert [r.completed.query for r in reader.log("m")] == ["four", "five"]


def test_a_record_that_is_damaged_after_it_was_followed_is_damage(
    tmp_path: Path, reader: DirectoryStore
) -> None:
    reader.append("m", record("one"))
    journal = tmp_path / "store" / "m" / "journal.rxlog"
    content = bytearray(journal.read_bytes())
    content[-20] ^= 1
    journal.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="'m' is damaged"):
        list(reader.log("m"))


def test_a_journal_that_is_still_missing_at_the_second_look_is_damage(
    tmp_path: Path, reader: DirectoryStore, writer: DirectoryStore
) -> None:
    with pytest.raises(StoreNotFound):
        reader.load("m")
    commit_next(writer)
    (tmp_path / "store" / "m" / "journal.rxlog").unlink()
    with pytest.raises(StoreCorrupt, match="missing"):
        reader.load("m")


@pytest.mark.parametrize("first", ["the torn tail", "a part of what is written over it"])
def test_a_torn_tail_that_is_written_over_between_two_looks_at_it_is_no_damage(
    tmp_path: Path, reader: DirectoryStore, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    reader.append("m", record("one"))
    journal = tmp_path / "store" / "m" / "journal.rxlog"
    whole = journal.read_bytes()
    with closing(DirectoryStore(tmp_path / "store")) as writer:
        writer.append("m", record("two"))
    written, pread, looks = journal.read_bytes(), os.pread, 0
    torn = whole + bytes(40)  # as a power failure leaves it

    def meddled(descriptor: int, size: int, position: int) -> bytes:
        nonlocal looks
        if position == len(whole):  # what comes after all that was followed
            looks += 1
            early = torn if first == "the torn tail" else written[: len(whole) + 5]
            journal.write_bytes(early if looks == 1 else written)
        return pread(descriptor, size, position)

    journal.write_bytes(torn)
    with monkeypatch.context() as patch:
        patch.setattr(_directory_memory.os, "pread", meddled)
        reader.head("m")
    journal.write_bytes(written)
    assert looks >= 1
    assert [r.completed.query for r in reader.log("m")] == ["one", "two"]


@pytest.mark.parametrize("length", [-2, 0, 2])
def test_what_a_failing_disk_took_back_after_it_was_read_is_forgotten(
    reader: DirectoryStore, writer: DirectoryStore, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    writer.append("m", record("first"))
    assert reader.last_seq("m") == 1
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        assert reader.last_seq("m") == 2  # it reads what did not reach the disk yet
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(_directory_files.os, "fsync", failing)
    with pytest.raises(StoreUnavailable):
        writer.append("m", record("taken back"))
    monkeypatch.setattr(_directory_files.os, "fsync", fsync)
    writer.append("m", record("written on"[: 10 + length] + "x" * length))
    assert reader.last_seq("m") == 2
    assert [r.completed.query for r in reader.log("m")] == [
        r.completed.query for r in writer.log("m")
    ]
    reader.append("m", record("last"))
    assert [r.seq for r in writer.log("m")] == [1, 2, 3]


def test_a_damaged_memory_is_listed_and_stops_neither_listing_nor_sweeping(
    tmp_path: Path, writer: DirectoryStore
) -> None:
    for name in ("a", "b", "c"):
        commit_next(writer, name)
    writer.expire("b", 1)
    journal = tmp_path / "store" / "a" / "journal.rxlog"
    journal.write_bytes(b"x" * 100)
    writer._skew = 2
    assert writer.list() == ["a", "c"]
    with pytest.raises(StoreCorrupt, match="'a' is damaged"):
        writer.sweep()
    assert not list((tmp_path / "store" / "b").glob("*.safetensors"))
    assert list((tmp_path / "store" / "a").glob("*.safetensors"))


def test_a_folder_that_is_gone_cannot_be_swept(tmp_path: Path, writer: DirectoryStore) -> None:
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(StoreUnavailable, match="check path"):
        writer._clean()


def test_a_forked_child_does_not_hold_on_to_a_lock_of_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    read, write = os.pipe()
    with _directory_files.locked(path):
        child = os.fork()
        if child == 0:
            os.read(read, 1)
            os._exit(0)
    try:
        with path.open("rb+") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.write(write, b"x")
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
