"""Numbers on their way to a device and back, on a CPU; for a GPU see ``test_gpu_engine``."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING

import pytest
import torch

from rxtmodel import BackendUnavailable
from rxtmodel.engine import driver, handover
from rxtmodel.engine.graphs import put, put_rows
from rxtmodel.engine.handover import Drawn, Inbox, Outbox

if TYPE_CHECKING:
    from collections.abc import Callable


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


def write(drawn: Drawn, numbers: list[int]) -> None:
    """As a kernel does."""
    for place, number in enumerate(numbers):
        drawn.places_PB[drawn.turn_B[place], place] = number
    drawn.turn_B.add_(1).remainder_(len(drawn.places_PB))


def test_a_letter_says_what_was_written_by_the_launch_before_it():
    outbox = Outbox(2, torch.device("cpu"), None)
    letters = []
    for number in range(10):
        outbox.make_room()
        write(outbox.drawn, [number, -number])
        letters.append(outbox.fetch())
    assert [letter.read() for letter in letters] == [[n, -n] for n in range(10)]


def test_a_part_of_the_rows_is_written_where_the_host_expects_it():
    outbox = Outbox(4, torch.device("cpu"), None)
    for first in (10, 20):
        for some in (slice(2), slice(2, 4)):
            part = outbox.drawn.part(some)
            turn = int(part.turn_B[0])
            part.places_PB[turn] = torch.tensor([first + some.stop, first])
            part.turn_B.add_(1)
        assert outbox.fetch().read() == [first + 2, first, first + 4, first]


def test_what_a_recording_wrote_counts_for_nothing():
    outbox = Outbox(1, torch.device("cpu"), None)
    for _ in range(3):
        write(outbox.drawn, [9])
    outbox.make_room()
    write(outbox.drawn, [4])
    assert outbox.fetch().read() == [4]


def test_a_launch_that_was_given_up_does_not_shift_the_answers_after_it():
    outbox = Outbox(1, torch.device("cpu"), None)
    outbox.make_room()
    write(outbox.drawn, [1])
    before = outbox.fetch()
    outbox.make_room()
    write(outbox.drawn, [2])  # an interrupt comes before it is fetched
    for number in (3, 4, 5, 6, 7):
        outbox.make_room()
        write(outbox.drawn, [number])
        assert outbox.fetch().read() == [number]
    assert before.read() == [1]


def test_a_machine_without_the_driver_is_told_so():
    def missing(name: str):
        raise OSError(f"{name}: no such file")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver.ctypes, "PyDLL", missing)
        with pytest.raises(BackendUnavailable, match='cuNothing.*no such file.*device="cpu"'):
            driver.function("cuNothing")


class Event:
    """Of a device that does nothing until it is told to."""

    def __init__(self, device: Device, when: int) -> None:
        self.device, self.when = device, when

    @property
    def over(self) -> bool:
        return self.when <= self.device.done

    def wait(self) -> None:
        self.device.work(self.when)


class Device:
    """A queue on a CPU whose work is done late: ``work`` does what was given before a time."""

    stream = None

    def __init__(self) -> None:
        self.given: list[Callable[[], object]] = []
        self.done = 0
        self.freed_at: list[int] = []

    def copy(self, into: int, source: int, size: int) -> None:
        self.given.append(lambda: ctypes.memmove(into, source, size))

    def write(self, outbox: Outbox, tensor: torch.Tensor) -> None:
        """What stands in the tensor by then."""
        drawn = outbox.drawn  # the outbox itself may be let go
        self.given.append(lambda: write(drawn, tensor.tolist()))

    def event(self, *, now: bool = True) -> Event:
        return Event(self, len(self.given) if now else 0)

    def record(self, event: Event) -> None:
        event.when = len(self.given)

    def work(self, until: int | None = None) -> None:
        end = len(self.given) if until is None else until
        for each in self.given[self.done : end]:
            each()
        self.done = max(self.done, end)


class Memory(handover._CPUMemory):
    """Tells the device when it is let go."""

    def __init__(self, size: int, device: Device) -> None:
        super().__init__(size)
        self.device = device

    def free(self) -> None:
        self.device.freed_at.append(self.device.done)


@pytest.fixture
def device(monkeypatch) -> Device:
    found, empty = Device(), torch.empty
    monkeypatch.setattr(handover, "_HostMemory", lambda size, _: Memory(size, found))
    monkeypatch.setattr(torch, "empty", lambda size, dtype, pin_memory: empty(size, dtype=dtype))
    return found


def test_fillings_on_their_way_keep_memory_of_their_own(device):
    """The ninth waits for the first: so many may be on their way."""
    tensor, said = torch.zeros(4, dtype=torch.int32), []
    inbox = Inbox(tensor, device)
    for number in range(12):
        assert device.done <= max(0, 2 * (number - handover._MOST))
        put(inbox.open(), 0, "i", [number] * 4)
        inbox.send()
        device.given.append(lambda: said.append(tensor.tolist()))
    assert len(inbox._slots) == handover._MOST
    device.work()
    assert said == [[number] * 4 for number in range(12)]


def test_letters_are_read_at_any_time_and_in_any_order(device):
    """And before the device writes there again."""
    tensor, letters = torch.zeros(4, dtype=torch.int32), []
    inbox, outbox = Inbox(tensor, device), Outbox(4, torch.device("cpu"), device)
    for number in range(12):
        outbox.make_room()
        assert device.done <= max(0, 2 * (number - handover._TURNS + 1))
        put(inbox.open(), 0, "i", [number] * 4)
        inbox.send()
        device.write(outbox, tensor)
        letters.append(outbox.fetch())
    for number in (11, 0, 5, *range(12)):
        assert letters[number].read() == [number] * 4


def test_what_nobody_reads_any_more_keeps_nobody_waiting(device):
    tensor = torch.ones(2, dtype=torch.int32)
    outbox = Outbox(2, torch.device("cpu"), device)
    for _ in range(3 * handover._TURNS):
        outbox.make_room()
        device.write(outbox, tensor)
        letter = outbox.fetch()
    assert device.done == 0
    assert letter.read() == [1, 1]


def test_memory_of_the_host_is_let_go_when_nothing_is_written_any_more(device):
    outbox = Outbox(2, torch.device("cpu"), device)
    device.write(outbox, torch.ones(2, dtype=torch.int32))
    letter = outbox.fetch()
    del outbox
    assert not device.freed_at, "somebody may still read"
    del letter
    assert device.freed_at == [1]
