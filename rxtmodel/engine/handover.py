"""Numbers that host and device hand over to each other, neither waiting for the other."""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import torch

from .driver import call, function

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from .driver import Event, Queue

_MOST = 8
"""Fillings of one tensor that may be on their way at once."""
_TURNS = 4
"""Launches whose numbers the host need not have read when the next one is given."""
_PORTABLE, _MAPPED = 1, 2


class _Slot:
    """Pinned memory of the host, and when what was last copied from it is over."""

    __slots__ = ("_memory", "address", "copied", "place")

    def __init__(self, size: int, queue: Queue) -> None:
        self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self.address = self._memory.data_ptr()
        self.place = _bytes_at(self.address, size)
        self.copied = queue.event(now=False)

    def __del__(self) -> None:
        # PyTorch, which gives this memory to the next who asks, does not know of the copy.
        with suppress(Exception):
            self.copied.wait()


class Inbox:
    """A tensor that the host fills again and again, without waiting for the device.

    Args:
        tensor: contiguous.
        queue: on which it is read; None: on a CPU.
    """

    def __init__(self, tensor: Tensor, queue: Queue | None) -> None:
        self.tensor, self._queue = tensor, queue
        self._address, self._size = tensor.data_ptr(), tensor.nbytes
        self._slots: deque[_Slot] = deque()

    def open(self) -> memoryview:
        """Memory to write all of it into, before ``send``."""
        if self._queue is None:
            return _bytes_at(self._address, self._size)
        if not self._slots or (not self._slots[0].copied.over and len(self._slots) < _MOST):
            self._slots.appendleft(_Slot(self._size, self._queue))
        self._slots[0].copied.wait()
        return self._slots[0].place

    def send(self) -> None:
        """What is launched on the queue from now on finds it in the tensor."""
        if self._queue is not None:
            slot = self._slots[0]
            self._queue.copy(self._address, slot.address, self._size)
            self._queue.record(slot.copied)
            self._slots.rotate(-1)


class Drawn(NamedTuple):
    """Where the device leaves what the host is to know, by turns: into ``places_PB[turn_B[b], b]``,
    and the turn goes on by one. On a GPU these places are memory of the host."""

    places_PB: Tensor
    turn_B: Tensor

    def part(self, some: slice) -> Drawn:
        """Of some rows."""
        return Drawn(self.places_PB[:, some], self.turn_B[some])


class Outbox:
    """Int32 numbers, as many at every launch, that the device writes and the host reads later.

    They are written where the host reads them: a copy after each launch, before the next, took
    10 microseconds of the device.
    """

    def __init__(self, count: int, device: torch.device, queue: Queue | None) -> None:
        self._queue, self._turn, size = queue, 0, 4 * _TURNS * count
        self._memory = _CPUMemory(size) if queue is None else _HostMemory(size, device)
        self._numbers = _bytes_at(self._memory.address, size).cast("i")
        places = self._memory.tensor.view(torch.int32).view(_TURNS, count)
        self.drawn = Drawn(places, torch.zeros(count, dtype=torch.int32, device=device))
        self._lost = True
        """Whether the device may be at another turn: from a launch until it is fetched."""
        self._letters: list[Callable[[], Letter | None]] = [lambda: None] * _TURNS
        self._launched: list[Event] = []
        if queue is not None:
            self._launched = [queue.event(now=False) for _ in range(_TURNS)]

    def make_room(self) -> None:
        """Just before a launch: what is still to be read where it writes is read now."""
        if self._lost:  # a recording has written, or a launch was given up half-way
            for living in self._letters:
                if (letter := living()) is not None:
                    letter.read()
            with torch.cuda.stream(None if self._queue is None else self._queue.stream):
                self.drawn.turn_B.zero_()
            self._turn = 0
        elif (letter := self._letters[self._turn]()) is not None:
            letter.read()
        self._lost = True

    def fetch(self) -> Letter:
        """What the launch just given to the queue writes."""
        letter, turn = Letter(self, self._turn), self._turn
        self._letters[turn], self._turn = weakref.ref(letter), (turn + 1) % _TURNS
        if self._queue is None:
            letter.read()
        else:
            self._queue.record(self._launched[turn])
        self._lost = False
        return letter

    def numbers(self, turn: int) -> list[int]:
        """Those of a turn; waits for them."""
        if self._launched:
            self._launched[turn].wait()
        count = len(self._numbers) // _TURNS
        return self._numbers[turn * count : (turn + 1) * count].tolist()

    def __del__(self) -> None:
        with suppress(Exception):  # of half an outbox, or when Python ends
            if self._queue is not None:
                self._queue.event().wait()
            self._memory.free()


class Letter:
    """Numbers on their way to the host."""

    __slots__ = ("__weakref__", "_outbox", "_turn", "_values")

    def __init__(self, outbox: Outbox, turn: int) -> None:
        self._outbox: Outbox | None = outbox
        self._turn, self._values = turn, []

    def read(self) -> list[int]:
        """All of them; waits until they are there."""
        if self._outbox is not None:
            self._values = self._outbox.numbers(self._turn)
            self._outbox = None
        return self._values


class _CPUMemory:
    """Memory that both sides are anyway."""

    def __init__(self, size: int) -> None:
        self.tensor = torch.zeros(size, dtype=torch.uint8)
        self.address = self.tensor.data_ptr()

    def free(self) -> None:
        """It goes with the tensor."""


class _HostMemory:
    """Memory of the host that kernels of a device can write, as a tensor of that device.

    Not PyTorch's pinned memory: what it hands out may belong to any other device.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        pointer, address = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
        allocate = function("cuMemHostAlloc", address, ctypes.c_size_t, ctypes.c_uint, gives=True)
        found = pointer()
        with torch.cuda.device(device):
            torch.cuda.current_stream().query()  # this thread has a context from now on
            call(f"cuMemHostAlloc of {size} bytes", allocate(found, size, _PORTABLE | _MAPPED))
            self.address = found.value or 0
            try:
                self.tensor = torch.as_tensor(_Seen(self.address, size), device=device)
                assert self.tensor.data_ptr() == self.address, "it was copied"
            except BaseException:
                self.free()
                raise

    def free(self) -> None:
        """When nobody writes there any more."""
        call("cuMemFreeHost", function("cuMemFreeHost", ctypes.c_void_p, gives=True)(self.address))


class _Seen:
    """Bytes at an address, for PyTorch."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (size,), "typestr": "|u1", "data": (address, False), "version": 2,
        }  # fmt: skip


def _bytes_at(address: int, size: int) -> memoryview:
    # Not the array itself: to assign to a slice of that takes 30 ns a byte.
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")
