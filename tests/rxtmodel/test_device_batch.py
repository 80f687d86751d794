"""The batch of the GPU's engine, on a CPU, where its work is done at once instead of replayed."""

from __future__ import annotations

import random

import pytest
import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.engine.decode import DecodeBatch
from rxtmodel.engine.device import DeviceBatch
from rxtmodel.engine.memory import MemoryVersion
from rxtmodel.engine.pool import MemoryPool

from .tiny import VOCAB, random_memory, tiny_model

SAMPLING = (
    SamplerConfig(),
    SamplerConfig(temperature=0.8, top_p=0.9),
    SamplerConfig(temperature=1.0, top_k=5, repetition_penalty=1.3, logit_bias={12: 2.0, 15: -1.0}),
    SamplerConfig(temperature=0.9, min_p=0.1),
    SamplerConfig(repetition_penalty=1.5),
)
MODEL = tiny_model("self-interlayer")
MEMORIES = [MemoryVersion(part) for part in random_memory(MODEL, 4).unbind(1)]


def ids(length: int, seed: int = 0) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(11, VOCAB) for _ in range(length)]


def live_through(batch, seed: int, *, projected: bool) -> dict[int, list[int]]:
    """Answers that join, pause and leave at random; what each of them said."""
    draw, live, said = random.Random(seed), {}, {}
    for _ in range(60):
        if len(live) < 6 and draw.random() < 0.35:
            name = len(said)
            query, memory = ids(draw.randrange(1, 18), name), draw.choice(MEMORIES)
            sampler = Sampler(draw.choice(SAMPLING), name, seen=query)
            state = memory.state(MODEL) if projected else memory
            live[name], said[name] = batch.add(query, state, sampler), []
        for name in [name for name in live if draw.random() < 0.06]:
            batch.remove(live.pop(name))
        chosen = [n for n in live if draw.random() < 0.8 and batch.room(live[n]) > 0]
        tokens = batch.step([live[name] for name in chosen])
        for name, token in zip(chosen, tokens, strict=True):
            said[name].append(token)
    return said


@pytest.mark.parametrize("lookahead", [False, True], ids=["in time", "one step ahead"])
@pytest.mark.parametrize("seed", range(4))
def test_answers_that_come_and_go_say_what_the_batch_of_a_cpu_says(seed, lookahead):
    expected = live_through(DecodeBatch(MODEL, 6, 30), seed, projected=True)
    device = DeviceBatch(MODEL, 6, 30, lookahead=lookahead)
    assert sum(map(len, expected.values())) > 60
    assert live_through(device, seed, projected=False) == expected


def test_special_tokens_are_drawn_by_the_rows_that_allow_them():
    """The same on both engines, beside rows that do not, and in a row that once did."""
    wanting = {6: 900.0, 10: 800.0, 12: 700.0}
    configs = [
        SamplerConfig(logit_bias=wanting),
        SamplerConfig(logit_bias=wanting, allowed=(10,)),
        SamplerConfig(allowed=(6, 10), logit_bias={6: 900.0}, repetition_penalty=1.1),
        SamplerConfig(temperature=1.0, allowed=(6, 7, 10)),
        SamplerConfig(),
    ]
    said = []
    for batch in (DecodeBatch(MODEL, 6, 30), DeviceBatch(MODEL, 6, 30)):
        for again in range(2):
            chosen = configs if not again else configs[::-1]
            rows = []
            for i, config in enumerate(chosen):
                memory = MEMORIES[i % 4]
                state = memory.state(MODEL) if isinstance(batch, DecodeBatch) else memory
                rows.append(batch.add(ids(5, i), state, Sampler(config, i)))
            said.append([batch.step(rows) for _ in range(6)])
            for row in rows:
                batch.remove(row)
    assert said[:2] == said[2:]
    assert said[0][0][:3] == [12, 10, 6]
    assert all(step[4] > 10 or step[4] == 3 for step in said[0])


def test_queries_of_different_length_are_added_at_once():
    batch = DeviceBatch(MODEL, 6, 40)
    queries = [(ids(n, n), MEMORIES[n % 4], Sampler(SamplerConfig())) for n in (1, 17, 3, 30)]
    together = batch.step(batch.add_all(queries))
    alone = []
    for query in queries:
        row = batch.add(*query)
        alone += batch.step([row])
        batch.remove(row)
    assert together == alone


def test_a_row_reads_up_to_its_last_place_and_no_further():
    batch = DeviceBatch(MODEL, 2, 20)
    row = batch.add(ids(18), MEMORIES[0], Sampler(SamplerConfig()))
    for room in (3, 2, 1):
        assert batch.room(row) == room
        batch.step([row])
    assert batch.room(row) == 0


def test_a_row_is_not_launched_beyond_its_limit():
    batch = DeviceBatch(MODEL, 2, 30)
    row = batch.add(ids(5), MEMORIES[0], Sampler(SamplerConfig()))
    batch.limit(row, 3)
    found = [batch.step([row]) for _ in range(3)]
    assert not row.ahead
    assert batch.room(row) == 30 - 4 - 3
    other = batch.add(ids(5), MEMORIES[0], Sampler(SamplerConfig()))
    assert [batch.step([other]) for _ in range(3)] == found
    assert len(other.ahead) == 1


def test_what_fills_up_a_batch_stays_where_it_is():
    """Three answers in a bucket of four, for many more steps than a row has places."""
    batch = DeviceBatch(MODEL, 4, 16)
    rows = [batch.add(ids(2, i), MEMORIES[0], Sampler(SamplerConfig(), i)) for i in range(3)]
    for step in range(60):
        for i, row in enumerate(rows):
            if batch.room(row) < 2:
                batch.remove(row)
                rows[i] = batch.add(ids(2, step), MEMORIES[0], Sampler(SamplerConfig(), i))
        batch.step(rows)
    assert batch.rows.pos[batch.rows.nobody].item() == 0


def test_what_does_not_fit_is_refused_and_leaves_nothing_behind():
    batch = DeviceBatch(MODEL, 2, 20, MemoryPool(MODEL, 1))
    greedy = Sampler(SamplerConfig())
    with pytest.raises(IndexError, match="1 to 20 tokens, got 21"):
        batch.add(ids(21), MEMORIES[0], greedy)
    with pytest.raises(IndexError, match="3 answers need rows, 2 are free"):
        batch.add_all([(ids(3), MEMORIES[0], greedy)] * 3)
    with pytest.raises(IndexError, match="all 1 memory slots"):
        batch.add_all([(ids(3), MEMORIES[0], greedy), (ids(3), MEMORIES[1], greedy)])
    rows = batch.add_all([(ids(3), MEMORIES[1], greedy)] * 2)
    assert len(batch.step(rows)) == 2


def test_a_row_that_has_ended_takes_no_part():
    batch = DeviceBatch(MODEL, 2, 20)
    row = batch.add(ids(3), MEMORIES[0], Sampler(SamplerConfig()))
    batch.step([row])
    batch.remove(row)
    with pytest.raises(ValueError, match="has ended"):
        batch.step([row])
    with pytest.raises(ValueError, match="has ended"):
        batch.remove(row)


def test_kernels_that_cannot_run_the_model_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="not on a CUDA device"):
        DeviceBatch(MODEL, 2, 20, fused=True)


def test_conversations_on_one_version_share_its_slot():
    pool = MemoryPool(MODEL, 3)
    batch = DeviceBatch(MODEL, 6, 20, pool)
    greedy = Sampler(SamplerConfig())
    rows = batch.add_all([(ids(3), MEMORIES[0], greedy)] * 4)
    assert pool.num_free == 2
    for row in rows:
        batch.remove(row)
    assert pool.find(MEMORIES[0]) is not None, "kept for the next query"


def test_slots_go_to_whoever_needs_them_and_back_when_a_version_is_gone():
    pool = MemoryPool(MODEL, 2)
    first, second, third = (MemoryVersion(part) for part in random_memory(MODEL, 3).unbind(1))
    a, b = pool.take(first), pool.take(second)
    assert {a, b} == {0, 1}
    assert pool.take(third) is None, "both are read"
    pool.release(a)
    assert pool.take(third) == a, "the one that nobody reads"
    assert pool.find(first) is None
    del third
    assert pool.num_free == 0, "a row still reads it"
    pool.release(a)
    assert pool.num_free == 1
    del second
    pool.release(b)
    assert pool.num_free == 2


def test_one_version_that_is_read_twice_is_free_after_both():
    pool = MemoryPool(MODEL, 1)
    version = MemoryVersion(torch.zeros(MODEL.config.memory_shape))
    slot = pool.take(version)
    assert pool.find(version) == slot
    pool.release(slot)
    assert pool.take(MEMORIES[0]) is None
    pool.release(slot)
    assert pool.take(MEMORIES[0]) == slot


def test_a_memory_whose_projection_failed_is_projected_the_next_time(monkeypatch):
    """A slot that was taken and never written holds somebody else's memory, or none."""
    batch = DeviceBatch(MODEL, 2, 20)
    query = (ids(5), MEMORIES[0], Sampler(SamplerConfig()))

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(batch.pool, "write", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            batch.add(*query)
    assert batch.pool.num_free == batch.pool.size
    again, other = batch.add(*query), DeviceBatch(MODEL, 2, 20)
    assert batch.step([again]) == other.step([other.add(*query)])


def test_what_one_answer_may_not_say_the_next_in_its_row_may():
    batch = DeviceBatch(MODEL, 1, 20)
    mute = SamplerConfig(logit_bias=dict.fromkeys(range(11, VOCAB - 1), float("-inf")))
    row = batch.add(ids(4), MEMORIES[0], Sampler(mute))
    batch.step([row])
    batch.remove(row)
    plain = (ids(4), MEMORIES[0], Sampler(SamplerConfig(temperature=0.7), 5))
    fresh = DeviceBatch(MODEL, 1, 20)
    row, other = batch.add(*plain), fresh.add(*plain)
    assert [batch.step([row]) for _ in range(8)] == [fresh.step([other]) for _ in range(8)]


def test_sizes_that_were_prepared_change_no_answer():
    def said(batch: DeviceBatch) -> list[int]:
        queries = [(ids(n, n), MEMORIES[n % 4], Sampler(SAMPLING[n % 5], n)) for n in (3, 9, 1)]
        rows = batch.add_all(queries)
        return [token for _ in range(6) for token in batch.step(rows)]

    prepared = DeviceBatch(MODEL, 6, 32)
    prepared.warm_up()
    with torch.inference_mode():
        assert prepared.rows.pos.tolist() == [0] * 7, "nobody's row stays at its first place"
    assert said(prepared) == said(DeviceBatch(MODEL, 6, 32))
