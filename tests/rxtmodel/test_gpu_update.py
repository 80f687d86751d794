"""Memory updates on a GPU: kernels beside the model's own modules. Run with ``pytest -m gpu``."""

from __future__ import annotations

import threading

import pytest
import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.engine.device import DeviceBatch
from rxtmodel.engine.memory import MemoryVersion
from rxtmodel.engine.pool import MemoryPool
from rxtmodel.engine.support import why_not_encode, why_not_fold
from rxtmodel.engine.update import Updater

from .gpu import memories_of, model_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
INTERACTIONS = [list(range(20, 20 + n)) for n in (60, 31, 2, 90, 44)]
WAYS = {
    "kernels": {},
    "modules": {"fused": False},
    "compiled": {"fused": False, "compiled": True},
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what the compiler imports
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_updates_together_are_updates_alone(way):
    model = model_of()
    batch = DeviceBatch(model, 4, 64)
    updater = Updater(model, batch.pool, batch.graphs, **WAYS[way])
    memories = memories_of(model, 5)
    found = updater.attend(memories, updater.encode(INTERACTIONS))
    torch.cuda.synchronize()
    with torch.inference_mode():
        for memory, ids, new in zip(memories, INTERACTIONS, found, strict=True):
            encoded = model.encode(torch.tensor([ids], device="cuda"))
            alone = model.attend(memory.tensor[:, None], encoded)[:, 0]
            assert ((new.tensor - alone).norm() / alone.norm()).item() < 1e-2
            assert new.tensor.dtype == torch.float32


@pytest.mark.parametrize(
    "memory",
    [
        {"gate": "linear", "gate_activation": "tanh", "gate_init": 0.7, "slot_ids": True},
        {"gate": "linear", "gate_per_slot": False},
        {"gate": "static", "variant": "interlayer", "gate_activation": "tanh", "gate_init": 0.7},
        {"gate": "elementwise", "variant": "grouped-self-interlayer", "num_groups": 3},
        {"gate": "elementwise", "gate_per_slot": False, "variant": "self"},
        {"gate": "replace", "variant": "self", "gate_self_step": False},
        {"gate": "none", "variant": "simple", "slot_ids": True},
    ],
    ids=lambda memory: ", ".join(map(str, memory.values())),
)
def test_updates_by_kernels_are_those_of_the_modules(memory):
    model = model_of(torch.float16, **memory)
    assert why_not_fold(model) is None
    assert why_not_encode(model) is None
    found = []
    for fused in (False, True):
        pool = MemoryPool(model, 20)
        updater = Updater(model, pool, fused=fused)
        memories = memories_of(model, 5)
        for _ in range(2):
            memories = updater.attend(memories, updater.encode(INTERACTIONS))
        slots = [pool.find(version) for version in memories]
        torch.cuda.synchronize()
        read = [part[slots].float() for layer in pool.layers for part in layer]
        found.append((torch.stack([version.tensor for version in memories]), torch.stack(read)))
    for modules, kernels in zip(*found, strict=True):
        assert ((kernels - modules).norm() / modules.norm()).item() < 1e-2


def test_what_was_encoded_stays_when_others_are_encoded():
    model = model_of()
    updater = Updater(model, MemoryPool(model, 20))
    memories = memories_of(model, 2)
    first = updater.encode(INTERACTIONS[:2])
    torch.cuda.synchronize()
    before = [part.tensor.clone() for part in first]
    expected = [version.tensor for version in updater.attend(memories, first)]
    for more in (100, 200):  # of the same sizes
        updater.encode([[token + more for token in ids] for ids in INTERACTIONS[:2]])
    torch.cuda.synchronize()
    assert all(torch.equal(part.tensor, value) for part, value in zip(first, before, strict=True))
    again = updater.attend(memories, first)
    torch.cuda.synchronize()
    assert all(
        torch.equal(version.tensor, value) for version, value in zip(again, expected, strict=True)
    )


@pytest.mark.parametrize("way", ["kernels", "modules"])
def test_what_was_encoded_stays_whatever_is_done_in_other_sizes(way):
    """Graphs share memory to work in."""
    model = model_of()
    updater = Updater(model, MemoryPool(model, 20), max_batch=4, **WAYS[way])
    updater.warm_up()
    memories = memories_of(model, 4)
    sizes = [(count, length) for count in (4, 1, 2, 3) for length in (30, 100, 60)]
    kept = []
    for count, length in sizes:
        some = [list(range(20 + n, 20 + n + length)) for n in range(count)]
        encoded = updater.encode(some)
        torch.cuda.synchronize()
        kept.append((encoded, [part.tensor.clone() for part in encoded]))
    for count, length in reversed(sizes):
        again = updater.encode([list(range(40, 40 + length))] * count)
        updater.attend(memories[:count], again)
    torch.cuda.synchronize()
    for encoded, values in kept:
        for part, value in zip(encoded, values, strict=True):
            assert torch.equal(part.tensor, value)


@pytest.mark.parametrize("way", ["kernels", "modules"])
def test_more_updates_than_a_batch_takes_become_what_each_becomes_alone(way):
    model = model_of()
    updater = Updater(model, MemoryPool(model, 20), max_batch=4, **WAYS[way])
    updater.warm_up()
    memories = memories_of(model, 5)
    some = [*(list(range(20 + n, 110 + n)) for n in range(4)), list(range(20, 25))]
    found = updater.attend(memories, updater.encode(some))
    for memory, ids, new in zip(memories, some, found, strict=True):
        (alone,) = updater.attend([memory], updater.encode([ids]))
        torch.cuda.synchronize()
        assert ((new.tensor - alone.tensor).norm() / alone.tensor.norm()).item() < 1e-2


def test_a_size_may_come_first_when_the_memories_before_are_gone():
    """It is recorded with what their batch left: addresses."""
    model = model_of()
    updater = Updater(model, MemoryPool(model, 20))
    new = updater.attend(memories_of(model, 1), updater.encode([list(range(20, 40))]))
    torch.cuda.synchronize()
    del new
    torch.cuda.empty_cache()
    updater.attend(memories_of(model, 1), updater.encode([list(range(20, 80))]))
    torch.cuda.synchronize()


def test_what_a_version_had_that_is_gone_is_used_again_and_never_before():
    model = model_of()
    batch = DeviceBatch(model, 2, 64, MemoryPool(model, 2))
    updater = Updater(model, batch.pool, batch.graphs)
    memories = memories_of(model, 3)
    expected = [
        updater.attend([memory], updater.encode(INTERACTIONS[:1]))[0].tensor for memory in memories
    ]
    torch.cuda.synchronize()

    def updated(which: int) -> MemoryVersion:
        (new,) = updater.attend([memories[which]], updater.encode(INTERACTIONS[:1]))
        torch.cuda.synchronize()
        assert torch.equal(new.tensor, expected[which])
        return new

    gone = updated(0)
    address = gone.tensor.data_ptr()
    del gone
    again = updated(1)
    assert again.tensor.data_ptr() == address
    kept = again.tensor
    del again
    other = updated(2)
    assert other.tensor.data_ptr() != address, "somebody has it"
    assert torch.equal(kept, expected[1])
    batch.pool.discard(batch.pool.find(other))
    batch.add(list(range(20, 40)), other, Sampler(SamplerConfig(), 1))  # projects it
    del other
    assert not updater._spare, "a step may still read it"


def test_updates_go_on_while_steps_are_recorded():
    model = model_of()
    batch = DeviceBatch(model, 8, 64)
    updater = Updater(model, batch.pool, batch.graphs)
    updater.warm_up(at_once=[1], lengths=[60])
    memories, over, updated = memories_of(model, 1), threading.Event(), []

    def update() -> None:
        try:
            while not over.is_set():
                updated.append(updater.attend(memories, updater.encode(INTERACTIONS[:1])))
        except BaseException as error:
            updated.append(error)

    thread = threading.Thread(target=update)
    thread.start()
    try:
        batch.warm_up(rows=[1, 2, 4, 8], queries=[20, 40])
    finally:
        over.set()
        thread.join()
    torch.cuda.synchronize()
    assert not isinstance(updated[-1], BaseException), updated[-1]


def test_the_first_update_of_a_size_may_come_while_the_device_is_busy():
    """What it is recorded with is not there yet when that is launched."""
    model = model_of()
    memories = memories_of(model, 3)
    quiet, busy = (Updater(model, MemoryPool(model, 20)) for _ in range(2))
    expected = quiet.attend(memories, quiet.encode(INTERACTIONS[:3]))
    encoded = busy.encode(INTERACTIONS[:3])
    torch.cuda.synchronize()
    with busy.graphs.on_stream():
        # What is taken next lies where this lay: read too early, it points nowhere.
        garbage = [torch.full((4,), 1 << 50, device="cuda") for _ in range(2_000)]
        del garbage
        torch.cuda._sleep(10**9)
    found = busy.attend(memories, encoded)
    torch.cuda.synchronize()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.tensor, other.tensor)


def test_a_memory_becomes_the_same_whatever_is_updated_beside_it():
    model = model_of()
    updater = Updater(model, MemoryPool(model, 20))
    memories = memories_of(model, 5)
    kept, beside = [memory.tensor.clone() for memory in memories], []
    for order in ([0, 1, 2, 3, 4], [3, 0, 4, 2, 1], [0, 2, 3, 3, 3]):
        some = [memories[i] for i in order]
        found = updater.attend(some, updater.encode([INTERACTIONS[i] for i in order]))
        torch.cuda.synchronize()
        beside.append(found[order.index(0)].tensor)
    assert all(torch.equal(here, beside[0]) for here in beside)
    for memory, value in zip(memories, kept, strict=True):
        assert torch.equal(memory.tensor, value), "a version never changes"
