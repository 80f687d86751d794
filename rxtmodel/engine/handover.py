"""Handing work to a device without giving the interpreter away.

Whoever calls PyTorch lets another thread have the interpreter meanwhile, and then waits for its own
turn. A step is some ten such calls of a few microseconds; beside threads that update memories,
store versions and serve subscribers they took milliseconds. The calls here keep the interpreter;
only who waits for the device gives it away.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from ..errors import BackendUnavailable

if TYPE_CHECKING:
    from torch import Tensor

_NOT_READY = 600
_MOST = 8
"""Fillings of one tensor that may be on their way at once."""


@functools.cache
def _function(name: str, *arguments: Any, gives: bool = False) -> Any:
    """Of the driver; it keeps the interpreter unless it ``gives`` it to others."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        function = (ctypes.CDLL if gives else ctypes.PyDLL)(library)[name]
    except (OSError, AttributeError) as error:
        raise BackendUnavailable(
            f"the engine for GPUs needs the driver of CUDA, {library} with {name} ({error}); load "
            'the model with device="cpu"'
        ) from error
    function.argtypes = arguments
    return function


class _Here(threading.local):
    known = False


_here = _Here()


class Queue:
    """What one stream of a device is given to do, in this order. From any thread."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.stream = stream
        self._handle = stream.cuda_stream
        self._launch = _function("cuGraphLaunch", pointer, pointer)
        self._copy = _function("cuMemcpyAsync", pointer, pointer, size, pointer)
        self._record = _function("cuEventRecord", pointer, pointer)
        self._wait = _function("cuStreamWaitEvent", pointer, pointer, ctypes.c_uint)
        self._mark, self._lock = self.event(), threading.Lock()

    def launch(self, graph: torch.cuda.CUDAGraph) -> None:
        """Replay ``graph``."""
        self._call(self._launch, graph.raw_cuda_graph_exec(), self._handle)

    def copy(self, into: int, source: int, size: int) -> None:
        """Bytes from one address to another; memory of the host must be pinned."""
        self._call(self._copy, into, source, size, self._handle)

    def event(self) -> torch.cuda.Event:
        """A new one, that comes after all so far."""
        event = torch.cuda.Event()
        event.record(self.stream)
        return event

    def record(self, event: torch.cuda.Event) -> None:
        """Have an event of ``event()`` come after all so far, instead."""
        self._call(self._record, event.cuda_event, self._handle)

    def wait(self, event: torch.cuda.Event) -> None:
        """What is given from now on comes after ``event``."""
        self._call(self._wait, self._handle, event.cuda_event, 0)

    def follow(self, other: Queue) -> None:
        """What is given from now on comes after all that ``other`` was given so far."""
        with self._lock:
            other.record(self._mark)
            self.wait(self._mark)

    def enter(self) -> None:
        """A thread that has not called the runtime yet has no context for the driver's calls."""
        if not _here.known:
            with torch.cuda.device(self.stream.device):
                self.stream.query()
            _here.known = True

    def _call(self, function: Any, *arguments: Any) -> None:
        self.enter()
        if status := function(*arguments):
            raise RuntimeError(f"{function.__name__} failed with status {status} of the driver")


class _Slot:
    """Pinned memory of the host, and when what was last copied from or to it is over."""

    __slots__ = ("_event", "_memory", "_queue", "address", "place")

    def __init__(self, size: int) -> None:
        self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        self.address = self._memory.data_ptr()
        self.place = _bytes_at(self.address, size)
        self._queue: Queue | None = None
        self._event: torch.cuda.Event | None = None

    def used(self, queue: Queue) -> None:
        """The queue was given a copy from or to it."""
        self._queue = queue
        if self._event is None:
            self._event = queue.event()
        else:
            queue.record(self._event)

    @property
    def over(self) -> bool:
        """Whether nothing is copied any more."""
        if self._event is None or self._queue is None:
            return True
        self._queue.enter()
        status = _function("cuEventQuery", ctypes.c_void_p)(self._event.cuda_event)
        if status not in (0, _NOT_READY):
            raise RuntimeError(f"cuEventQuery failed with status {status} of the driver")
        return not status

    def wait(self) -> None:
        """The only call that lets others have the interpreter."""
        if not self.over:
            assert self._event is not None
            gives = _function("cuEventSynchronize", ctypes.c_void_p, gives=True)
            if status := gives(self._event.cuda_event):
                raise RuntimeError(f"cuEventSynchronize failed with status {status} of the driver")

    def __del__(self) -> None:
        # PyTorch, which gives this memory to the next who asks, does not know of the copy.
        with suppress(Exception):
            if self._event is not None:
                self._event.synchronize()


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
        if not self._slots or (not self._slots[0].over and len(self._slots) < _MOST):
            self._slots.appendleft(_Slot(self._size))
        self._slots[0].wait()
        return self._slots[0].place

    def send(self) -> None:
        """What is launched on the queue from now on finds it in the tensor."""
        if self._queue is not None:
            slot = self._slots[0]
            self._queue.copy(self._address, slot.address, self._size)
            slot.used(self._queue)
            self._slots.rotate(-1)


class Outbox:
    """A tensor of int32 numbers, of which the host gets what stands there at one time."""

    def __init__(self, tensor: Tensor, queue: Queue | None) -> None:
        self.tensor, self._queue = tensor, queue
        self._free: deque[_Slot] = deque()

    def fetch(self) -> Letter:
        """What stands there when all that was launched so far is done."""
        queue, tensor = self._queue, self.tensor
        if queue is None:
            return Letter(None, self._free, tensor.tolist())
        # The oldest one: those that nobody has read may still be written to.
        if self._free and self._free[0].over:
            slot = self._free.popleft()
        else:
            slot = _Slot(tensor.nbytes)
        queue.copy(slot.address, tensor.data_ptr(), tensor.nbytes)
        slot.used(queue)
        return Letter(slot, self._free, None)


class Letter:
    """Numbers on their way to the host."""

    __slots__ = ("_back", "_slot", "_values")

    def __init__(self, slot: _Slot | None, back: deque[_Slot], values: list[int] | None) -> None:
        self._slot, self._back, self._values = slot, back, values

    def read(self) -> list[int]:
        """All of them; waits for the copy."""
        if self._values is None:
            assert self._slot is not None
            self._slot.wait()
            self._values = self._slot.place.cast("i").tolist()
            self._return()
        return self._values

    def _return(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._back.append(slot)

    def __del__(self) -> None:
        self._return()


def _bytes_at(address: int, size: int) -> memoryview:
    # Not the array itself: to assign to a slice of that takes 30 ns a byte.
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")
