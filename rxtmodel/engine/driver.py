"""The driver of a device, called without giving the interpreter away.

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
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import BackendUnavailable

if TYPE_CHECKING:
    import torch

_NOT_READY = 600
_WITHOUT_TIMING = 2
_MPS_ENABLED = 133


@functools.cache
def function(name: str, *arguments: Any, gives: bool = False) -> Any:
    """Of the driver; it keeps the interpreter unless it ``gives`` it to others."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        found = (ctypes.CDLL if gives else ctypes.PyDLL)(library)[name]
    except (OSError, AttributeError) as error:
        raise BackendUnavailable(
            f"the engine for GPUs needs the driver of CUDA, {library} with {name} ({error}); load "
            'the model with device="cpu"'
        ) from error
    found.argtypes = arguments
    return found


def call(name: str, status: int) -> None:
    """Raises RuntimeError where a function of the driver says so."""
    if status:
        raise RuntimeError(f"{name} failed with status {status} of the driver")


def through_mps(index: int) -> bool:
    """Whether kernels of other processes run on device ``index`` beside those of this one, by
    NVIDIA's Multi-Process Service. Of a driver that cannot say so: no."""
    device, found, number = ctypes.c_int(), ctypes.c_int(), ctypes.POINTER(ctypes.c_int)
    call("cuDeviceGet", function("cuDeviceGet", number, ctypes.c_int)(device, index))
    ask = function("cuDeviceGetAttribute", number, ctypes.c_int, ctypes.c_int)
    return not ask(found, _MPS_ENABLED, device) and bool(found.value)


class _Here(threading.local):
    known = False


_here = _Here()


class Context:
    """Of a device, and of its streams and events."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        pointer, address = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
        self._own = pointer()
        call(
            "cuStreamGetCtx",
            function("cuStreamGetCtx", pointer, address)(stream.cuda_stream, self._own),
        )
        self._push = function("cuCtxPushCurrent_v2", pointer)
        self._pop = function("cuCtxPopCurrent_v2", address)
        self._current = function("cuCtxGetCurrent", address)
        self._set = function("cuCtxSetCurrent", pointer)

    def known(self) -> None:
        """A thread that has not called the device yet gets a context, which calls need."""
        if not _here.known:
            found = ctypes.c_void_p()
            call("cuCtxGetCurrent", self._current(found))
            if not found:
                call("cuCtxSetCurrent", self._set(self._own))
            _here.known = True

    def __enter__(self) -> None:
        """Makes it that of the thread, whichever device that is at."""
        call("cuCtxPushCurrent", self._push(self._own))

    def __exit__(self, *_: object) -> None:
        call("cuCtxPopCurrent", self._pop(ctypes.c_void_p()))


class Event:
    """A moment of a queue: when all that it was given until then is over. See ``Queue.event``."""

    __slots__ = ("_context", "handle")

    def __init__(self, context: Context) -> None:
        self._context, self.handle = context, ctypes.c_void_p()
        create = function("cuEventCreate", ctypes.POINTER(ctypes.c_void_p), ctypes.c_uint)
        with context:
            call("cuEventCreate", create(self.handle, _WITHOUT_TIMING))

    @property
    def over(self) -> bool:
        """Whether nothing of it is left to do."""
        self._context.known()
        status = function("cuEventQuery", ctypes.c_void_p)(self.handle)
        if status != _NOT_READY:
            call("cuEventQuery", status)
        return not status

    def wait(self) -> None:
        """The only call that lets others have the interpreter."""
        if not self.over:
            gives = function("cuEventSynchronize", ctypes.c_void_p, gives=True)
            call("cuEventSynchronize", gives(self.handle))

    def __del__(self) -> None:
        with suppress(Exception):  # of half an event, or when Python ends
            if self.handle:
                with self._context:
                    function("cuEventDestroy_v2", ctypes.c_void_p)(self.handle)


class Queue:
    """What one stream of a device is given to do, in this order. From any thread."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.stream = stream
        self._handle, self._context = stream.cuda_stream, Context(stream)
        self._launch = function("cuGraphLaunch", pointer, pointer)
        self._copy = function("cuMemcpyAsync", pointer, pointer, size, pointer)
        self._record = function("cuEventRecord", pointer, pointer)
        self._wait = function("cuStreamWaitEvent", pointer, pointer, ctypes.c_uint)
        self._mark, self._lock = self.event(), threading.Lock()

    def launch(self, graph: torch.cuda.CUDAGraph) -> None:
        """Replay ``graph``."""
        self._call(self._launch, graph.raw_cuda_graph_exec(), self._handle)

    def copy(self, into: int, source: int, size: int) -> None:
        """Bytes from one address to another; memory of the host must be pinned."""
        self._call(self._copy, into, source, size, self._handle)

    def event(self, *, now: bool = True) -> Event:
        """A new one, that comes after all so far; or, not ``now``, after nothing yet."""
        event = Event(self._context)
        if now:
            self.record(event)
        return event

    def record(self, event: Event) -> None:
        """Have an event come after all so far, instead."""
        self._call(self._record, event.handle, self._handle)

    def wait(self, event: Event) -> None:
        """What is given from now on comes after ``event``."""
        self._call(self._wait, self._handle, event.handle, 0)

    def follow(self, other: Queue) -> None:
        """What is given from now on comes after all that ``other`` was given so far."""
        with self._lock:
            other.record(self._mark)
            self.wait(self._mark)

    def _call(self, function: Any, *arguments: Any) -> None:
        self._context.known()
        if status := function(*arguments):
            call(function.__name__, status)
