"""A reader of a folder takes no lock: what others write between two of its looks is no damage."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from adapters.stores._directory_memory import DirectoryMemory
from adapters.stores.directory import DirectoryStore
from rxstream.errors import StoreCorrupt, StoreNotFound
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
