"""tokens, text, answers, memory_updates, of: what passes, and every ending."""

from __future__ import annotations

import dataclasses

import pytest
import reactivex as rx
from reactivex.subject import Subject

from rxstream.events import AnswerCompleted, Cancelled, Token
from rxstream.operators import answers, memory_updates, of, text, tokens
from rxstream.testing import Recorder
from rxstream.testing.grammar import spell

TALK = [*spell("QSTTAUD", "i1"), *spell("QSTC", "i2", version=1), *spell("QSTTTAK", "i3")]
OPERATORS = {
    "tokens": tokens(),
    "text": text(),
    "answers": answers(),
    "memory_updates": memory_updates(),
    "of": of(Cancelled),
}


def through(operator, events=TALK):
    return Recorder(rx.from_iterable(events).pipe(operator)).items


def test_tokens_are_only_the_tokens() -> None:
    assert [token.index for token in through(tokens())] == [0, 1, 0, 0, 1, 2]


def test_text_is_the_text_of_the_answers() -> None:
    assert through(text()) == ["a", "b", "a", "a", "b", "c"]


def test_text_is_of_one_channel_and_never_empty() -> None:
    token = spell("T")[0]
    assert isinstance(token, Token)
    thought = dataclasses.replace(token, channel="thinking", text="hm")
    part = dataclasses.replace(token, text="")
    assert through(text(), [thought, part, token]) == ["a"]
    assert through(text("thinking"), [thought, part, token]) == ["hm"]


def test_answers_know_what_they_were_read_from() -> None:
    first, second = through(answers())
    assert (first.text, first.interaction, first.read_version) == ("ab", "i1", 0)
    assert (second.text, second.token_ids, second.finish_reason) == ("abc", (0, 1, 2), "eos")
    assert first.usage.answer_tokens == 2 and first.conversation == "main"


def test_an_answer_whose_beginning_was_missed_says_so() -> None:
    (answer,) = through(answers(), spell("QSTTA")[3:])
    assert answer.read_version == -1


def test_memory_updates_tell_of_versions() -> None:
    assert [update.version for update in through(memory_updates())] == [1]


def test_of_takes_any_number_of_types_and_at_least_one() -> None:
    kinds = [event.kind for event in through(of(Cancelled, AnswerCompleted))]
    assert kinds == ["answer_completed", "cancelled", "answer_completed"]
    with pytest.raises(ValueError, match="at least one"):
        of()


@pytest.mark.parametrize("name", OPERATORS)
class TestEach:
    def test_passes_the_end_and_the_error_on(self, name: str) -> None:
        for failure in (None, RuntimeError("over")):
            subject: Subject[object] = Subject()
            recorder = Recorder(subject.pipe(OPERATORS[name]))
            subject.on_completed() if failure is None else subject.on_error(failure)
            assert recorder.error is failure and recorder.ended is (failure is None)

    def test_disposes_its_source(self, name: str) -> None:
        subject: Subject[object] = Subject()
        recorder = Recorder(subject.pipe(OPERATORS[name]))
        recorder.dispose()
        assert subject.observers == []

    def test_keeps_its_subscriptions_apart(self, name: str) -> None:
        source = rx.from_iterable(TALK).pipe(OPERATORS[name])
        assert Recorder(source).items == Recorder(source).items != []
