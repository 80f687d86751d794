"""to_msgpack and from_msgpack: the same events on the other side, or a ValueError."""

from __future__ import annotations

import msgpack
import pytest
import reactivex as rx
from reactivex.subject import Subject

from rxstream.events import Gap
from rxstream.operators import from_msgpack, to_msgpack
from rxstream.testing import Recorder
from rxstream.testing.grammar import spell


def test_events_come_out_as_they_went_in() -> None:
    events = [*spell("XQSTACFKUDE"), Gap(skipped=2)]
    recorder = Recorder(rx.from_iterable(events).pipe(to_msgpack(), from_msgpack()))
    assert recorder.items == events and recorder.ended


def test_each_event_is_one_value_of_plain_types() -> None:
    (data,) = Recorder(rx.of(spell("T")[0]).pipe(to_msgpack())).items
    assert msgpack.unpackb(data)["kind"] == "token"


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", msgpack.packb(7), msgpack.packb({"kind": "no"}), msgpack.packb({1: 2})]
)
def test_bytes_that_are_no_event_end_the_stream(data: bytes) -> None:
    subject: Subject[bytes] = Subject()
    recorder = Recorder(subject.pipe(from_msgpack()))
    subject.on_next(data)
    assert isinstance(recorder.error, ValueError) and "not an event" in str(recorder.error)


def test_what_is_no_event_ends_the_stream_of_bytes() -> None:
    assert Recorder(rx.of(7).pipe(to_msgpack())).error is not None
