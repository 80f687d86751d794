"""What the engine for GPUs does on the host, on a CPU: its device does everything at once."""

from __future__ import annotations

import contextlib
import ctypes

import pytest
import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.engine import handover, update
from rxtmodel.engine.gpu import DeviceEngine
from rxtmodel.engine.graphs import Graphs
from rxtmodel.engine.host import HostEngine
from rxtmodel.engine.memory import MemoryVersion

from .tiny import random_ids, random_memory, tiny_model

LENGTHS = (3, 8, 5)


class Event:
    over = True

    def wait(self) -> None:
        pass


class Queue:
    """Copies at once, and keeps an account of who waits for whom."""

    stream = None

    def __init__(self) -> None:
        self.waits: list[object] = []

    def copy(self, into: int, source: int, size: int) -> None:
        ctypes.memmove(into, source, size)

    def event(self, *, now: bool = True) -> Event:
        return Event()

    def record(self, event: Event) -> None:
        assert isinstance(event, Event)

    def wait(self, event: Event) -> None:
        self.waits.append(event)

    def follow(self, other: Queue) -> None:
        self.waits.append(other)


@pytest.fixture(autouse=True)
def device(monkeypatch) -> None:
    empty = torch.empty

    def begin(graphs: Graphs, _: torch.device) -> None:
        graphs.queue, graphs._graphs = Queue(), {}

    def run(graphs: Graphs, key, work, quiet=None):
        if key in graphs._graphs:
            return graphs._graphs[key]()
        if quiet is not None:
            quiet()
        graphs._graphs[key] = work
        work()
        return None

    def pinned(*size, pin_memory: bool = False, **given):
        return empty(*size, **given)

    monkeypatch.setattr(torch, "empty", pinned)
    monkeypatch.setattr(handover, "_HostMemory", lambda size, device: handover._CPUMemory(size))
    monkeypatch.setattr(update, "goes_first", lambda queue, event: None)
    monkeypatch.setattr(Graphs, "__init__", begin)
    monkeypatch.setattr(Graphs, "run", run)
    monkeypatch.setattr(Graphs, "has", lambda graphs, key: key in graphs._graphs)
    monkeypatch.setattr(Graphs, "on_stream", lambda graphs: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)


@pytest.mark.parametrize("variant", ["interlayer", "delta", "self-interlayer"])
def test_answers_and_memories_are_those_of_the_engine_for_cpus(variant):
    model = tiny_model(variant)
    engine, host = DeviceEngine(model, 4, 8), HostEngine(model, 4, 8, native=False)
    memories = [MemoryVersion(part) for part in random_memory(model, 3).unbind(1)]
    ids = [random_ids(count, seed=count).tolist() for count in LENGTHS]
    sampler = SamplerConfig()
    for more in range(3):
        said = [each[more % len(each) :] + each[: more % len(each)] for each in ids]
        new = engine.attend(memories, engine.encode(said))
        expected = host.attend(memories, host.encode(said))
        for one, other in zip(new, expected, strict=True):
            torch.testing.assert_close(one.tensor, other.tensor, atol=1e-5, rtol=1e-4)
        answers = []
        for each, known in ((engine, new), (host, expected)):
            queries = [(s[:4], m, Sampler(sampler, 0)) for s, m in zip(said, known, strict=True)]
            rows = each.add_all(queries)
            tokens = [each.step(rows), each.step(rows[1:]), each.step(rows)]
            answers.append(tokens)
            for row in rows:
                each.remove(row)
        assert answers[0] == answers[1]
        del new, expected, known, queries, one, other  # tensors of versions are used again


def test_updates_wait_for_steps_before_they_write_where_these_read():
    model = tiny_model("interlayer")
    engine = DeviceEngine(model, 4, 8)
    memories = [MemoryVersion(part) for part in random_memory(model, 3).unbind(1)]
    engine.attend(memories, engine.encode([[1, 2]] * 3))
    assert engine.batch.graphs.queue in engine.updater.graphs.queue.waits


def test_a_size_whose_recording_failed_begins_anew():
    model = tiny_model("interlayer")
    engine = DeviceEngine(model, 4, 8)
    fold, made = engine.updater.fold, []
    inputs, work = fold.inputs, fold.work

    def failing(*_: object) -> None:
        raise RuntimeError("out of memory")

    def counted(count: int, length: int):
        made.append((count, length))
        return inputs(count, length)

    fold.inputs, fold.work = counted, failing
    memories = [MemoryVersion(part) for part in random_memory(model, 2).unbind(1)]
    encoded = engine.encode([[1, 2]] * 2)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.attend(memories, encoded)
    engine.updater.graphs._graphs.clear()  # what failed was not recorded
    fold.work = work
    assert len(engine.attend(memories, encoded)) == 2
    assert len(made) == 2 and made[0] == made[1]
