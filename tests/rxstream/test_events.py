"""Events are values: they compare, hash, pickle and travel, and cannot be changed."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from rxstream.errors import GenerationError, MemoryUpdateError, QueryRejected
from rxstream.events import (
    LETTERS,
    TERMINAL,
    ErrorInfo,
    Failed,
    Gap,
    Token,
    error_of,
)
from rxstream.testing.grammar import spell
from rxstream.wire import from_wire, to_wire

EVERY = spell("XQSTACFKUDE")


def test_every_letter_is_spelled_by_one_kind() -> None:
    assert "".join(LETTERS[event.kind] for event in EVERY) == "XQSTACFKUDE"
    assert len(LETTERS) == len(EVERY)
    assert {LETTERS[kind] for kind in TERMINAL} == set("XCFKDE")


@pytest.mark.parametrize("event", EVERY, ids=lambda event: event.kind)
class TestEachEvent:
    def test_survives_pickle_copy_and_the_wire(self, event) -> None:
        assert pickle.loads(pickle.dumps(event)) == event
        assert copy.deepcopy(event) == event
        assert from_wire(to_wire(event)) == event

    def test_cannot_be_changed(self, event) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.seq = 7
        with pytest.raises((AttributeError, TypeError)):
            event.other = 7

    def test_is_equal_by_value_and_can_be_hashed(self, event) -> None:
        twin = dataclasses.replace(event)
        assert twin == event and hash(twin) == hash(event)
        assert dataclasses.replace(event, seq=99) != event

    def test_on_the_wire_is_plain(self, event) -> None:
        wire = to_wire(event)
        assert wire["kind"] == event.kind
        plain = (str, int, float, bool, list, dict, type(None))
        assert all(type(value) in plain for value in wire.values())


def test_a_token_takes_its_fields_by_name_only_and_shows_them() -> None:
    token = Token(conversation="c", interaction="i", seq=3, index=1, id=42, text="é")
    assert (token.channel, token.logprob, token.at) == ("answer", None, 0)
    assert "text='é'" in repr(token)
    with pytest.raises(TypeError):
        Token("c", "i", 3, 1, 42, "é")  # type: ignore[misc]
    match token:
        case Token(text=text):
            assert text == "é"


def test_a_gap_travels_too() -> None:
    assert from_wire(to_wire(Gap(skipped=3))) == Gap(skipped=3)


@pytest.mark.parametrize(
    ("wire", "told"),
    [
        ({}, "kind is None"),
        ({"kind": "tokken"}, "tokken"),
        ({"kind": ["token"]}, "kind is"),
        ({"kind": "token"}, "missing"),
        ({**to_wire(spell("F")[0]), "error": "broken"}, "failed"),
        ({**to_wire(spell("A")[0]), "usage": {"query_tokens": 1}}, "answer_tokens"),
        ({**to_wire(spell("A")[0]), "token_ids": None}, "answer_completed"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(wire, told) -> None:
    with pytest.raises(ValueError, match="not an event") as caught:
        from_wire(wire)
    assert told in str(caught.value)


def test_fields_of_a_newer_version_are_ignored() -> None:
    (token,) = spell("T")
    assert from_wire({**to_wire(token), "colour": "blue"}) == token


def test_error_info_keeps_the_exception_here_and_its_description_everywhere() -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as error:
        info = ErrorInfo.of(error)
        assert info.exception is error
    assert (info.type, info.message) == ("ZeroDivisionError", "by zero")
    assert "test_error_info" in info.traceback_text
    elsewhere = pickle.loads(pickle.dumps(info))
    assert elsewhere == info and elsewhere.exception is None
    assert hash(elsewhere) == hash(info)


@pytest.mark.parametrize(
    ("letter", "error"),
    [("X", QueryRejected), ("F", GenerationError), ("E", MemoryUpdateError)],
)
def test_rejection_and_failure_end_a_stream_with_their_error(letter, error) -> None:
    assert type(error_of(spell(letter)[0])) is error


def test_other_events_do_not_end_a_stream_with_an_error() -> None:
    assert [error_of(event) for event in spell("QSTACKUD")] == [None] * 8


def test_the_error_of_a_stream_has_the_original_as_its_cause() -> None:
    cause = ZeroDivisionError("by zero")
    event = Failed(
        conversation="c", interaction="i", seq=1, error=ErrorInfo.of(cause), phase="decode"
    )
    error = error_of(event)
    assert error is not None and error.__cause__ is cause
    assert str(error) == "decode: ZeroDivisionError: by zero"
