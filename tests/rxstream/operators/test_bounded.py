"""bounded: the operator form of a log behind any observable."""

from __future__ import annotations

import pytest
from reactivex import operators as ops
from reactivex.subject import Subject

from rxstream.operators import bounded
from rxstream.testing import Recorder


def test_it_stands_inside_a_pipe() -> None:
    subject: Subject[int] = Subject()
    recorder = Recorder(subject.pipe(bounded(4), ops.map(str)))
    subject.on_next(1)
    subject.on_completed()
    assert recorder.items == ["1"] and recorder.ended


def test_at_the_end_of_a_pipe_it_can_be_read() -> None:
    subject: Subject[int] = Subject()
    reader = subject.pipe(ops.map(str), bounded(4, "latest")).blocking()
    for n in range(9):
        subject.on_next(n)
    subject.on_completed()
    assert [getattr(item, "skipped", item) for item in reader] == [8, "8"]


def test_a_capacity_below_one_is_refused_when_the_pipe_is_built() -> None:
    with pytest.raises(ValueError, match="capacity"):
        bounded(0)
