"""Work of a fixed shape, recorded once as a CUDA graph and replayed with one launch."""

from __future__ import annotations

import functools
import gc
import struct
import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..template import PAD
from .driver import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from contextlib import AbstractContextManager

_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Not cuDNN: it prepares for tens of milliseconds at every length that it has not seen."""

_recording = threading.Lock()
"""One recording at a time in the process; each waits for the whole device."""


def round_up(count: int, limit: int, least: int = 1) -> int:
    """The bucket of ``count``: the next power of two, between ``least`` and ``limit``."""
    return min(limit, max(least, 1 << (count - 1).bit_length()))


def buckets(limit: int, least: int = 1) -> list[int]:
    """All that ``round_up`` gives, the largest first: what it compiles others often need, too."""
    return sorted({round_up(count, limit, least) for count in range(1, limit + 1)}, reverse=True)


def put(place: memoryview, at: int, code: str, numbers: Sequence[float]) -> int:
    """Write numbers of a ``struct`` type from byte ``at`` on; where the next ones begin.

    PyTorch reads lists seven times as slowly.
    """
    layout = _format(code, len(numbers))
    layout.pack_into(place, at, *numbers)
    return at + layout.size


def put_rows(
    place: memoryview, rows: Sequence[Sequence[int]], shape: tuple[int, int], code: str = "i"
) -> int:
    """Write rows of numbers, with ``PAD`` to ``shape``; where what comes next begins."""
    count, width = shape
    size = struct.calcsize(code) * width
    assert PAD == 0
    place[: count * size] = bytes(count * size)
    for index, row in enumerate(rows):
        put(place, index * size, code, row)
    return count * size


@contextmanager
def _no_garbage() -> Iterator[None]:
    """What a collection ends may call the device, which spoils a recording on its thread."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@functools.lru_cache(maxsize=2048)
def _format(code: str, count: int) -> struct.Struct:
    return struct.Struct(f"{count}{code}")


class Graphs:
    """Graphs by key, on one stream. On a CPU the work is simply done."""

    def __init__(self, device: torch.device) -> None:
        self.queue = Queue(torch.cuda.Stream(device)) if device.type == "cuda" else None
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Any]] = {}
        # They run one after the other: one may work where another did. So what one returns is gone
        # when another one runs.
        self._pool = None if self.queue is None else torch.cuda.graph_pool_handle()

    @property
    def stream(self) -> torch.cuda.Stream | None:
        """The queue's."""
        return None if self.queue is None else self.queue.stream

    def run(
        self, key: Hashable, work: Callable[[], Any], quiet: Callable[[], object] | None = None
    ) -> Any:
        """Replay the graph of ``key``; the first time, record ``work``.

        ``work`` reads and writes the same tensors at each call, and returns the same; what it
        returns holds until another graph runs. Before it is recorded it runs for real, after
        ``quiet`` has turned its inputs to nobody's rows; without ``quiet`` they are nobody's
        already.
        """
        if self.queue is None:
            return work()
        if key not in self._graphs:
            if quiet is not None:
                quiet()
            self._graphs[key] = self._record(work)
            return None
        graph, result = self._graphs[key]
        self.queue.launch(graph)
        return result

    def follow(self, other: Graphs) -> None:
        """What is launched from now on comes after all that was launched on ``other`` so far.

        Never while that one records: what waits for it would become part of the recording.
        """
        if self.queue is not None and other.queue is not None:
            with _recording:
                self.queue.follow(other.queue)

    def on_stream(self) -> AbstractContextManager[Any]:
        """What is launched inside comes after all that was launched there before."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def has(self, key: Hashable) -> bool:
        """Whether ``run`` replays: else it only records, and has to be called again."""
        return self.queue is None or key in self._graphs

    def _record(self, work: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
        stream, graph = self.stream, torch.cuda.CUDAGraph()
        assert stream is not None
        # Inputs may have been made just now, on the stream of whoever asks: read before it has
        # come that far, they are anything, and places of memories no places at all.
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with _recording, torch.cuda.stream(stream), sdpa_kernel(_FUSED), _no_garbage():
            for _ in range(2):  # kernels are compiled, libraries take their workspaces
                work()
            stream.synchronize()
            with torch.cuda.graph(
                graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
            ):
                result = work()
        return graph, result
