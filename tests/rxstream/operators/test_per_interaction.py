"""per_interaction: replayable streams that end as interactions do."""

from __future__ import annotations

import pytest
import reactivex as rx
from reactivex.subject import Subject

from rxstream.errors import GenerationError, MemoryUpdateError, QueryRejected, RxStreamError
from rxstream.events import Event, MemoryUpdated
from rxstream.operators import per_interaction
from rxstream.stream import EventStream
from rxstream.testing import Recorder
from rxstream.testing.grammar import spell


def grouped(source) -> Recorder[EventStream[Event]]:
    return Recorder(source.pipe(per_interaction()))


def test_each_interaction_is_a_stream_that_replays_for_late_subscribers() -> None:
    one, two = spell("QSTTAUD", "i1"), spell("QSTC", "i2")
    groups = grouped(rx.from_iterable([one[0], two[0], *one[1:], *two[1:]]))
    first, second = (Recorder(group) for group in groups.items)
    assert (first.letters, second.letters) == ("QSTTAUD", "QSTC")
    assert first.ended and second.ended and groups.ended


@pytest.mark.parametrize(
    ("word", "error"),
    [
        *[("QC", None), ("QSTAK", None), ("QSTAUD", None)],
        *[("X", QueryRejected), ("QF", GenerationError), ("QSAUE", MemoryUpdateError)],
    ],
)
def test_each_ends_as_its_interaction_does_while_the_source_goes_on(word, error) -> None:
    subject: Subject[Event] = Subject()
    groups = grouped(subject)
    for event in spell(word):
        subject.on_next(event)
    recorder = Recorder(groups.items[0])
    assert recorder.letters == word and not groups.over
    assert recorder.ended is (error is None)
    assert error is None or isinstance(recorder.error, error)


def test_a_subscriber_sees_events_as_they_come() -> None:
    subject: Subject[Event] = Subject()
    got: list[str] = []
    subject.pipe(per_interaction()).subscribe(
        lambda group: group.subscribe(lambda event: got.append(event.kind))
    )
    for event in spell("QS"):
        subject.on_next(event)
    assert got == ["query_accepted", "generation_started"]


@pytest.mark.parametrize("failure", [None, RuntimeError("over")])
def test_the_end_of_the_source_ends_what_is_open(failure) -> None:
    subject: Subject[Event] = Subject()
    groups = grouped(subject)
    subject.on_next(spell("Q")[0])
    inner = Recorder(groups.items[0])
    subject.on_completed() if failure is None else subject.on_error(failure)
    for recorder in (groups, inner):
        assert recorder.error is failure and recorder.ended is (failure is None)


def test_a_restore_belongs_to_no_interaction() -> None:
    restored = MemoryUpdated(conversation="", interaction="", seq=1, version=1, cause="restore")
    assert grouped(rx.of(restored)).items == []


def test_disposed_without_readers_it_disposes_the_source_and_ends_the_groups() -> None:
    subject: Subject[Event] = Subject()
    groups = grouped(subject)
    subject.on_next(spell("Q")[0])
    groups.dispose()
    assert subject.observers == []
    assert isinstance(Recorder(groups.items[0]).error, RxStreamError)


def test_disposed_with_a_reader_that_interaction_goes_on_and_no_new_one_begins() -> None:
    subject: Subject[Event] = Subject()
    groups = grouped(subject)
    one = spell("QSTAUD", "i1")
    subject.on_next(one[0])
    inner = Recorder(groups.items[0])
    groups.dispose()
    for event in [*spell("Q", "i2"), *one[1:]]:
        subject.on_next(event)
    assert inner.letters == "QSTAUD" and inner.ended and len(groups.items) == 1


def test_the_last_reader_to_leave_after_that_disposes_the_source() -> None:
    subject: Subject[Event] = Subject()
    groups = grouped(subject)
    subject.on_next(spell("Q")[0])
    inner = Recorder(groups.items[0])
    groups.dispose()
    assert len(subject.observers) == 1
    inner.dispose()
    assert subject.observers == []


def test_a_capacity_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        per_interaction(0)
