"""Steps whose blocks wait for each other run beside no other such step, and after updates."""

from __future__ import annotations

import pytest

from rxtmodel.engine import alone as module
from rxtmodel.engine.alone import alone, goes_first


class Event:
    """When what was launched before it was recorded is over."""

    def __init__(self, on: Stream) -> None:
        self.on = on


class Stream:
    """A queue, and its stream."""

    def __init__(self, device_index: int = 0) -> None:
        self.device_index, self.launched, self.stream = device_index, [], self

    def event(self) -> Event:
        self.launched.append("over")
        return Event(self)

    def record(self, event: Event) -> None:
        assert event.on is self
        self.launched.append("over")

    def wait(self, event: Event) -> None:
        self.launched.append(event.on)

    def step(self) -> None:
        with alone(self):
            self.launched.append("step")


@pytest.fixture(autouse=True)
def no_device(monkeypatch):
    monkeypatch.setattr(module, "_last", {})
    monkeypatch.setattr(module, "_first", {})


def test_a_stream_alone_waits_for_nobody():
    stream = Stream()
    stream.step()
    stream.step()
    assert stream.launched == ["step", "over", "step", "over"]


def test_a_step_waits_for_the_last_one_of_another_stream():
    one, two = Stream(), Stream()
    one.step()
    two.step()
    one.step()
    assert two.launched == [one, "step", "over"]
    assert one.launched == ["step", "over", two, "step", "over"]


def test_devices_do_not_wait_for_each_other():
    one, two = Stream(0), Stream(1)
    one.step()
    two.step()
    assert two.launched == ["step", "over"]


def test_a_launch_that_failed_is_waited_for_all_the_same():
    """Part of it may be on the device."""
    one, two = Stream(), Stream()
    with pytest.raises(RuntimeError), alone(one):
        raise RuntimeError("half of it")
    two.step()
    assert two.launched == [one, "step", "over"]


def test_updates_that_were_launched_go_before_the_next_step_and_hold_up_no_other():
    updates, steps = Stream(), Stream()
    goes_first(updates, Event(updates))
    goes_first(updates, Event(updates))
    steps.step()
    steps.step()
    assert steps.launched == [updates, "step", "over", "step", "over"]


def test_updates_of_another_device_hold_nobody_up():
    updates, steps = Stream(1), Stream(0)
    goes_first(updates, Event(updates))
    steps.step()
    assert steps.launched == ["step", "over"]
