"""Queries in, events out: decode, encode, attend and interact."""

from __future__ import annotations

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.subject import Subject

from rxstream import CompletedInteraction, operators
from rxstream.events import LETTERS, Rejected
from rxstream.operators import Query, attend, decode, encode, interact
from rxstream.testing import Recorder

from .talk import setups


@pytest.fixture
def setup():
    yield from setups()


def test_pipeline(setup):
    s = setup()
    queries = rx.from_iterable(["one", "two", "three"])
    seen = Recorder(queries.pipe(decode(s.memory), encode(s.memory), attend(s.memory)))
    s.lab.run()
    assert seen.ended and seen.items == s.events.items
    assert [text.split(" -> ")[0] for text in s.memory.value] == ["one", "two", "three"]


def test_interact_takes_more_than_a_queue_holds(setup):
    s = setup()
    answers = Recorder(
        rx.from_iterable(str(i) for i in range(100)).pipe(interact(s.memory), operators.answers())
    )
    s.lab.run()
    assert [a.text for a in answers.items] == [f"{i} #{i}" for i in range(100)]
    assert s.memory.version == 100


def test_interact_is_cold_and_survives_failures(setup):
    s = setup()
    s.model.fail("step", RuntimeError("x"), containing="two")
    pipeline = rx.of(Query(text="one", key="k"), "two", "three").pipe(interact(s.memory))
    assert s.letters() == ""
    first = Recorder(pipeline)
    s.lab.run()
    assert first.ended and s.memory.version == 2
    second = Recorder(pipeline)
    s.lab.run()
    assert second.ended and isinstance(second.items[0], Rejected), "the key was applied"
    assert s.memory.version == 4


def test_decode_alone_leaves_memory(setup):
    s = setup()
    seen = Recorder(rx.of("one").pipe(decode(s.memory)))
    s.lab.run()
    assert "".join(LETTERS[e.kind] for e in seen.items) == "QSTTAK" and s.memory.version == 0


def test_import_a_dialogue(setup):
    s = setup()
    dialogue = [CompletedInteraction(query=f"q{i}", answer=f"a{i}") for i in range(30)]
    seen = Recorder(rx.from_iterable(dialogue).pipe(encode(s.memory), attend(s.memory)))
    s.lab.run()
    assert seen.ended and s.memory.version == 30
    assert s.memory.value[-1] == "q29 -> a29" and s.model.calls["start"] == 0


def test_dispose_cancels_what_was_asked(setup):
    s = setup()
    queries = Subject()
    seen = Recorder(queries.pipe(interact(s.memory)))
    queries.on_next("long 30")
    queries.on_next("waiting")
    s.lab.run(6)
    seen.dispose()
    s.lab.run()
    assert s.letters()[-1] == "C" and s.letters().count("Q") == 1
    assert not queries.observers and s.memory.version == 0


def test_take_from_a_pipeline(setup):
    s = setup()
    seen = Recorder(
        rx.of("one two three", "four").pipe(interact(s.memory), operators.text(), ops.take(2))
    )
    s.lab.run()
    assert seen.items == ["one", " two"] and seen.ended and s.memory.version == 0


def test_a_source_that_fails(setup):
    s = setup()
    queries = Subject()
    seen = Recorder(queries.pipe(interact(s.memory)))
    queries.on_next("one")
    queries.on_error(RuntimeError("no more"))
    s.lab.run()
    assert str(seen.error) == "no more" and s.memory.version == 0


def test_switch_in_a_pipeline(setup):
    s = setup()
    queries = Subject()
    seen = Recorder(queries.pipe(interact(s.memory, conversation="s", busy="switch")))
    for query in ("one", "two", "three"):
        queries.on_next(query)
    queries.on_completed()
    s.lab.run()
    assert seen.ended and s.memory.value == ("three -> three #0",)


@pytest.mark.parametrize("wrong", ["order", "between", "memory", "alone"])
def test_pipelines_that_make_no_sense(setup, wrong):
    s = setup()
    other = s.runtime.memory("other")
    queries = rx.of("one")
    with pytest.raises(ValueError):
        if wrong == "order":
            queries.pipe(decode(s.memory), attend(s.memory))
        elif wrong == "between":
            queries.pipe(decode(s.memory), ops.map(lambda e: e), attend(s.memory))
        elif wrong == "memory":
            queries.pipe(decode(s.memory), encode(other))
        else:
            queries.pipe(attend(s.memory))
