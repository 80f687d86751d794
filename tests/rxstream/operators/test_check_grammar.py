"""check_grammar: transparent for words, an error at the first event out of place."""

from __future__ import annotations

import pytest
import reactivex as rx
from reactivex.subject import Subject

from rxstream.events import Event
from rxstream.grammar import GrammarViolation
from rxstream.operators import check_grammar
from rxstream.testing import Recorder
from rxstream.testing.grammar import spell


def test_words_pass_unchanged() -> None:
    events = spell("QSTTAUD")
    recorder = Recorder(rx.from_iterable(events).pipe(check_grammar(whole=True)))
    assert recorder.items == events and recorder.ended


def test_the_first_event_out_of_place_ends_the_stream_and_the_subscription() -> None:
    subject: Subject[Event] = Subject()
    recorder = Recorder(subject.pipe(check_grammar()))
    for event in spell("QTT"):
        subject.on_next(event)
    assert recorder.letters == "Q" and subject.observers == []
    assert isinstance(recorder.error, GrammarViolation)
    assert recorder.error.rule == "G2" and recorder.error.event == spell("QT")[1]


@pytest.mark.parametrize("options", [{"whole": True}, {"serial": False}])
def test_each_subscription_is_checked_on_its_own(options: dict[str, bool]) -> None:
    source = rx.from_iterable(spell("QC")).pipe(check_grammar(**options))
    assert Recorder(source).ended and Recorder(source).ended


def test_errors_of_the_source_pass() -> None:
    failure = RuntimeError("over")
    assert Recorder(rx.throw(failure).pipe(check_grammar())).error is failure
