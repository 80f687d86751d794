"""A copy is continued after its source's log was trimmed, or says why it cannot be."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rxstream.errors import VersionConflict
from rxstream.stores.copying import copy_memory
from rxstream.stores.memory import MemoryStore
from rxstream.testing._store_samples import record, snapshot

from .store_kinds import KINDS, place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rxstream.store import Store


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with place(request.param, request) as opener, closing(opener()) as opened:
        yield opened


def go_on(store: Store) -> None:
    """One more record, and the version that has it in it."""
    seq = store.append("m", record("more")).seq
    store.commit(replace(snapshot("m", seq), log_seq=seq), expect=store.head("m"))


def numbers(store: Store) -> tuple[list[int], list[int]]:
    return store.history("m"), [r.seq for r in store.log("m")]


@pytest.mark.parametrize("into", [True, False], ids=["into", "out of"])
def test_a_copy_that_has_all_that_was_trimmed_goes_on(store: Store, into: bool) -> None:
    other = MemoryStore()
    source, target = (other, store) if into else (store, other)
    go_on(source)
    go_on(source)
    copy_memory(source, target, "m")
    source.trim("m", 2)
    copy_memory(source, target, "m")
    go_on(source)
    assert copy_memory(source, target, "m").records == 1
    assert numbers(source) == ([3, 2, 1], [3])
    assert numbers(target) == ([3, 2, 1], [1, 2, 3])


@pytest.mark.parametrize("all_of_it", [True, False], ids=["all", "some"])
@pytest.mark.parametrize("into", [True, False], ids=["into", "out of"])
def test_a_copy_that_lacks_what_was_trimmed_is_left_as_it_was_and_says_what_to_do(
    store: Store, into: bool, all_of_it: bool
) -> None:
    other = MemoryStore()
    source, target = (other, store) if into else (store, other)
    go_on(source)
    copy_memory(source, target, "m")
    for _ in range(3):
        go_on(source)
    source.trim("m", 4 if all_of_it else 3)
    with pytest.raises(VersionConflict, match="trimmed up to record .* copy the memory to a store"):
        copy_memory(source, target, "m")
    assert numbers(target) == ([1], [1])
    fresh = MemoryStore()
    copy_memory(source, fresh, "m")
    assert numbers(fresh) == numbers(source)
