"""Numbers on their way to a device and back, on a CPU; for a GPU see ``test_gpu_engine``."""

from __future__ import annotations

import ctypes
import struct

import pytest
import torch

from rxtmodel import BackendUnavailable
from rxtmodel.engine import handover
from rxtmodel.engine.graphs import put, put_rows
from rxtmodel.engine.handover import Inbox, Outbox


def test_what_is_put_into_an_inbox_stands_in_its_tensor():
    tensor = torch.ones(2, 3, dtype=torch.int64)
    inbox = Inbox(tensor, None)
    put(inbox.open(), 0, "q", (1, -2, 1 << 40, 4, 5, 6))
    inbox.send()
    assert tensor.tolist() == [[1, -2, 1 << 40], [4, 5, 6]]


def test_numbers_of_several_types_lie_one_behind_the_other():
    tensor = torch.zeros(8 * 4 + 4 * 2, dtype=torch.uint8)
    inbox = Inbox(tensor, None)
    at = put_rows(inbox.open(), [(7, 8), (9,)], (2, 2), "q")
    assert put(inbox.open(), at, "f", (0.5, -1.0)) == tensor.nbytes
    assert struct.unpack("4q2f", bytes(tensor.tolist())) == (7, 8, 9, 0, 0.5, -1.0)


def test_a_place_is_written_to_as_a_whole():
    """Arrays of ctypes take slices byte by byte, milliseconds for a batch of interactions."""
    assert isinstance(Inbox(torch.zeros(8, dtype=torch.uint8), None).open(), memoryview)


def test_rows_that_were_longer_before_leave_nothing_behind():
    tensor = torch.zeros(2, 3, dtype=torch.int32)
    inbox = Inbox(tensor, None)
    put_rows(inbox.open(), [(1, 2, 3), (4, 5, 6)], (2, 3))
    put_rows(inbox.open(), [(9,)], (2, 3))
    assert tensor.tolist() == [[9, 0, 0], [0, 0, 0]]


def test_a_letter_says_what_stood_there_when_it_was_fetched():
    tensor = torch.tensor([1, 2], dtype=torch.int32)
    letter = Outbox(tensor, None).fetch()
    tensor += 5
    assert letter.read() == letter.read() == [1, 2]


def test_a_machine_without_the_driver_is_told_so():
    def missing(name: str):
        raise OSError(f"{name}: no such file")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handover.ctypes, "PyDLL", missing)
        with pytest.raises(BackendUnavailable, match='cuNothing.*no such file.*device="cpu"'):
            handover._function("cuNothing")


class Event:
    """Of a device that does nothing until it is told to."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.cuda_event = self.when = len(device.given)

    def synchronize(self) -> None:
        self.device.work(self.when)


class Device:
    """A queue on a CPU whose copies are done late: ``work`` does those given before a time."""

    stream = None

    def __init__(self) -> None:
        self.given: list[tuple[int, int, int]] = []
        self.done = 0
        self.events: list[Event] = []

    def enter(self) -> None:
        pass

    def copy(self, into: int, source: int, size: int) -> None:
        self.given.append((into, source, size))

    def event(self) -> Event:
        self.events.append(Event(self))
        return self.events[-1]

    def record(self, event: Event) -> None:
        event.cuda_event = event.when = len(self.given)

    def work(self, until: int | None = None) -> None:
        end = len(self.given) if until is None else until
        for into, source, size in self.given[self.done : end]:
            ctypes.memmove(into, source, size)
        self.done = max(self.done, end)


@pytest.fixture
def device(monkeypatch) -> Device:
    found, empty = Device(), torch.empty

    def function(name: str, *_: object, gives: bool = False):
        if name == "cuEventQuery":
            return lambda when: 0 if when <= found.done else handover._NOT_READY
        assert name == "cuEventSynchronize" and gives
        return lambda when: found.work(when)

    monkeypatch.setattr(handover, "_function", function)
    monkeypatch.setattr(torch, "empty", lambda size, dtype, pin_memory: empty(size, dtype=dtype))
    return found


def test_fillings_on_their_way_keep_memory_of_their_own(device):
    """The ninth waits for the first: so many may be on their way."""
    tensor = torch.zeros(4, dtype=torch.int32)
    inbox, outbox = Inbox(tensor, device), Outbox(tensor, device)
    letters = []
    for number in range(12):
        assert device.done <= max(0, 2 * (number - handover._MOST))
        put(inbox.open(), 0, "i", [number] * 4)
        inbox.send()
        letters.append(outbox.fetch())
    assert len(inbox._slots) == handover._MOST
    for number in (11, 0, 5, *range(12)):
        assert letters[number].read() == [number] * 4


def test_a_letter_that_nobody_read_gives_its_memory_back_when_the_copy_is_over(device):
    tensor = torch.ones(2, dtype=torch.int32)
    outbox = Outbox(tensor, device)
    first = outbox.fetch()
    del first
    second = outbox.fetch()
    assert len(outbox._free) == 1, "its copy is still to come"
    assert second.read() == [1, 1]
    third = outbox.fetch()
    assert len(outbox._free) == 1, "one of both is used again"
    assert third.read() == [1, 1]


def test_memory_of_the_host_is_let_go_when_nothing_is_copied_any_more(device):
    outbox = Outbox(torch.ones(2, dtype=torch.int32), device)
    letter = outbox.fetch()
    del outbox, letter
    assert device.done == len(device.given) == 1
