"""Memory updates of many conversations at once, on a CPU, beside the same ones by themselves."""

from __future__ import annotations

from collections import deque

import pytest
import torch

from rxtmodel.engine.host import HostEngine
from rxtmodel.engine.memory import MemoryVersion
from rxtmodel.engine.pool import MemoryPool
from rxtmodel.engine.update import Updater

from .tiny import VARIANTS, random_ids, random_memory, tiny_model

LENGTHS = (3, 9, 1, 20, 14)


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_together_are_updates_alone(variant):
    model = tiny_model(variant)
    memories = [MemoryVersion(part) for part in random_memory(model, len(LENGTHS)).unbind(1)]
    before = [memory.tensor.clone() for memory in memories]
    interactions = [random_ids(n, seed=n).tolist() for n in LENGTHS]
    alone = HostEngine(model, 1, 8)
    expected = alone.attend(memories, alone.encode(interactions))
    updater = Updater(model, max_batch=4)
    found = updater.attend(memories, updater.encode(interactions))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.tensor, other.tensor, rtol=1e-5, atol=1e-5)
    for memory, value in zip(memories, before, strict=True):
        assert torch.equal(memory.tensor, value), "a version never changes"


def test_interactions_that_were_encoded_apart_are_folded_together():
    model = tiny_model("interlayer")
    memories = [MemoryVersion(part) for part in random_memory(model, 3).unbind(1)]
    interactions = [random_ids(n, seed=n).tolist() for n in (5, 11, 7)]
    updater = Updater(model)
    apart = [updater.encode([ids])[0] for ids in reversed(interactions)][::-1]
    found = updater.attend(memories, apart)
    expected = updater.attend(memories, updater.encode(interactions))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.tensor, other.tensor, rtol=1e-5, atol=1e-5)


def test_a_new_version_is_projected_where_there_is_room():
    model = tiny_model("self")
    pool = MemoryPool(model, 4)
    memories = [MemoryVersion(part) for part in random_memory(model, 3).unbind(1)]
    updater = Updater(model, pool)
    new = updater.attend(memories, updater.encode([[12, 13, 14]] * 3))
    slots = [pool.find(version) for version in new]
    assert sorted(slot for slot in slots if slot is not None) == [0, 1], "half of them, for rows"
    for version, slot in zip(new, slots, strict=True):
        if slot is None:
            continue
        for layer, slabs in zip(version.state(model), pool.layers, strict=True):
            for part, slab in zip(layer, slabs, strict=True):
                torch.testing.assert_close(slab[slot], part[0])


def test_queries_find_slots_however_many_updates_are_under_way():
    model = tiny_model("self")
    pool = MemoryPool(model, 4)
    versions = [MemoryVersion(part) for part in random_memory(model, 8).unbind(1)]
    held = [pool.take(version, beside=True) for version in versions[:4]]
    assert held == [0, 1, None, None]
    assert [pool.take(version) for version in versions[4:6]] == [2, 3]
    for slot in held[:2]:
        pool.release(slot)
    assert pool.take(versions[6], beside=True) in (0, 1)


class Broken(RuntimeError):
    pass


def test_an_update_that_fails_leaves_no_slot_behind(monkeypatch):
    model = tiny_model("self")
    pool = MemoryPool(model, 4)
    memories = [MemoryVersion(part) for part in random_memory(model, 2).unbind(1)]
    updater = Updater(model, pool)
    encoded = updater.encode([[12, 13], [14]])

    def fail(*_: object) -> None:
        raise Broken

    with monkeypatch.context() as patch:
        patch.setattr(pool, "write", fail)
        with pytest.raises(Broken):
            updater.attend(memories, encoded)
    assert pool.num_free == 4
    assert len(updater.attend(memories, encoded)) == 2


def test_sizes_that_were_prepared_leave_no_memory_behind():
    model = tiny_model("self")
    pool = MemoryPool(model, 4)
    updater = Updater(model, pool, max_batch=2)
    updater.warm_up()
    assert pool.num_free == 4
    sizes = {(count, length) for count in (1, 2) for length in (32, model.config.max_seq_len)}
    assert {key[1:] for key in updater._inputs} == sizes


@pytest.mark.parametrize("lengths", [(41, 5), (5, 41)])
def test_an_interaction_that_is_too_long_is_refused(lengths):
    with pytest.raises(IndexError, match=r"41 tokens, the model takes 40; cut it off"):
        Updater(tiny_model("self")).encode([[12] * length for length in lengths])


def test_the_tensor_of_a_version_that_is_gone_goes_where_it_was_told_unless_somebody_has_it():
    spare = deque()
    version = MemoryVersion(torch.zeros(1), None, None, spare)
    del version
    assert len(spare) == 1
    version = MemoryVersion(torch.ones(1), None, None, spare)
    kept = version.tensor
    del version
    assert len(spare) == 1 and kept.item() == 1
