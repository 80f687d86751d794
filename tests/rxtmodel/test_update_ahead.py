"""A memory update that is computed before it is asked for has the bits that it has afterwards."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.engine import DecodeBatch, HostEngine, MemoryVersion
from rxtmodel.native import NativeDeltaWrite, NativeEncoder
from rxtmodel.native.ahead import RunAhead

from .test_native import MAX_LEN, random_memory, wide_model

MODEL = wide_model()
EOS = MODEL.config.tokens.eos
ENCODER, WRITE = NativeEncoder(MODEL), NativeDeltaWrite(MODEL)
VERSION = MemoryVersion(random_memory(MODEL, 1)[:, 0].contiguous())
MEMORY = VERSION.state(MODEL)
QUERY = [12, 20]


def answering(
    limit: int, *, query: list[int] = QUERY, memory: Any = VERSION
) -> tuple[DecodeBatch, list[int]]:
    """A batch after an answer of ``limit`` tokens, and the whole interaction."""
    batch = DecodeBatch(MODEL, 2, MAX_LEN, lookahead=True, encoder=ENCODER, write=WRITE)
    row = batch.add(query, memory, Sampler(SamplerConfig(), 1))
    batch.limit(row, limit)
    drawn = [batch.step([row])[0] for _ in range(limit)]
    batch.remove(row)
    assert EOS not in drawn
    return batch, [*query, *drawn, EOS]


@pytest.mark.parametrize("limit", [2, 3, 20, MAX_LEN - len(QUERY) - 1])
def test_an_answer_at_its_limit_is_encoded_once(limit: int) -> None:
    batch, ids = answering(limit)
    found = batch.encoded(ids)
    assert found is not None
    assert torch.equal(found, ENCODER.encode(ids))
    assert batch.encoded(ids) is None


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("limit", [2, 20, MAX_LEN - len(QUERY) - 1])
def test_it_is_folded_once_into_the_memory_that_was_read(limit: int, threads: int) -> None:
    before = VERSION.tensor.clone()
    torch.set_num_threads(threads)
    batch, ids = answering(limit)
    encoded = batch.encoded(ids)
    assert encoded is not None
    found = batch.folded(VERSION.tensor, encoded)
    assert found is not None
    torch.set_num_threads(1)
    alone = ENCODER.encode(ids)
    assert torch.equal(encoded, alone)
    assert torch.equal(found, WRITE.fold(before, alone[:, 0]))
    assert torch.equal(VERSION.tensor, before)
    assert batch.folded(VERSION.tensor, encoded) is None


def test_another_memory_or_interaction_gets_nothing_of_it() -> None:
    batch, ids = answering(5)
    encoded = batch.encoded(ids)
    assert encoded is not None
    assert batch.folded(VERSION.tensor.clone(), encoded) is None
    assert batch.folded(VERSION.tensor, encoded.clone()) is None
    assert batch.folded(VERSION.tensor, encoded) is not None


def test_it_is_not_folded_into_a_memory_of_which_only_the_projection_is_known() -> None:
    batch, ids = answering(5, memory=MEMORY)
    encoded = batch.encoded(ids)
    assert encoded is not None
    assert batch.folded(VERSION.tensor, encoded) is None


def test_the_run_after_it_has_nothing_of_it() -> None:
    batch, ids = answering(5)
    encoded = batch.encoded(ids)
    assert encoded is not None
    assert batch.folded(VERSION.tensor, encoded) is not None  # the thread is done
    row = batch.add(QUERY, VERSION, Sampler(SamplerConfig(), 1))
    batch.step([row])
    assert batch._lookahead is not None
    assert batch._lookahead._asked == [row]
    assert batch.encoded(ids) is None
    assert batch.folded(VERSION.tensor, encoded) is None


def ended(eos: int | None = None) -> tuple[RunAhead, list[int]]:
    """A run that its second token ends; ``eos``: what interactions end with, if not that token."""
    batch, query = DecodeBatch(MODEL, 1, MAX_LEN, lookahead=False), [11, 15, 19]
    row = batch.add(query, MEMORY, Sampler(SamplerConfig(), 1))
    said = [*query, *(batch.step([row])[0] for _ in range(3))]
    end = said[-1]
    assert end not in said[:-1]
    batch.remove(row)
    batch.add(query, MEMORY, Sampler(SamplerConfig(), 1))
    batch._native.step(query[-1:])
    run = RunAhead(batch._native, [end], ENCODER, eos=end if eos is None else eos)
    assert run.begin(said[3:4], batch.cache.lengths, 20, said[:4])
    assert [run.take() for _ in range(3)] == [said[4:5], [end], None]
    return run, said


def test_an_answer_that_ends_is_encoded() -> None:
    run, ids = ended()
    found = run.encoded(ids)
    assert found is not None
    assert torch.equal(found, ENCODER.encode(ids))


def test_an_answer_that_goes_on_in_another_part_is_not_encoded() -> None:
    run, ids = ended(EOS)
    assert run.encoded(ids) is None
    assert run.encoded([*ids, EOS]) is None


def test_another_interaction_gets_nothing_of_it() -> None:
    batch, ids = answering(5)
    for other in (ids[:-1], [*ids, EOS], [13, *ids[1:]], [*ids] * 40):
        assert batch.encoded(other) is None
    assert batch.encoded(ids) is not None


def test_an_answer_that_was_stopped_is_not_encoded() -> None:
    batch = DecodeBatch(MODEL, 2, MAX_LEN, lookahead=True, encoder=ENCODER)
    row = batch.add(QUERY, MEMORY, Sampler(SamplerConfig(), 1))
    batch.limit(row, 20)
    drawn = [batch.step([row])[0] for _ in range(3)]
    batch.remove(row)
    assert batch.encoded([*QUERY, *drawn, EOS]) is None


def test_answers_beside_each_other_are_not_encoded() -> None:
    batch = DecodeBatch(MODEL, 2, MAX_LEN, lookahead=True, encoder=ENCODER)
    rows = [batch.add(QUERY, MEMORY, Sampler(SamplerConfig(), 1)) for _ in range(2)]
    for row in rows:
        batch.limit(row, 3)
    drawn = [batch.step(rows)[0] for _ in range(3)]
    assert batch.encoded([*QUERY, *drawn, EOS]) is None


def test_an_interaction_longer_than_the_encoder_takes_is_left_alone() -> None:
    query = [12] * (MAX_LEN - 1)
    batch, ids = answering(2, query=query)
    assert len(ids) > ENCODER.longest
    assert batch.encoded(ids) is None


def test_an_answer_is_encoded_after_it_went_on_by_steps_of_its_own() -> None:
    """Beside another row for a while: the run that ends it began in its middle."""
    batch = DecodeBatch(MODEL, 2, MAX_LEN, lookahead=True, encoder=ENCODER)
    rows = [batch.add(QUERY, MEMORY, Sampler(SamplerConfig(), 1)) for _ in range(2)]
    batch.limit(rows[0], 9)
    drawn = [batch.step(rows[:1])[0] for _ in range(3)]
    drawn += [batch.step(rows)[0] for _ in range(2)]
    drawn += [batch.step(rows[:1])[0] for _ in range(4)]
    ids = [*QUERY, *drawn, EOS]
    found = batch.encoded(ids)
    assert found is not None
    assert torch.equal(found, ENCODER.encode(ids))


@pytest.mark.parametrize("seed", range(4))
def test_turns_in_any_order_have_the_updates_that_they_have_alone(seed: int) -> None:
    """Answers from two memories that end or are stopped, and are remembered at once or late."""
    draw, engine = random.Random(seed), HostEngine(MODEL, 3, MAX_LEN)
    assert engine._encoder is not None
    memories = [VERSION, MemoryVersion(random_memory(MODEL, 1, seed=5)[:, 0].contiguous())]
    owed: list[tuple[list[int], MemoryVersion]] = []
    for _ in range(40):
        query = [draw.randrange(11, MODEL.config.vocab_size) for _ in range(draw.randrange(1, 6))]
        which = draw.randrange(2)
        (row,) = engine.add_all([(query, memories[which], Sampler(SamplerConfig(), 1))])
        limit = draw.randrange(1, 8)
        engine.limit(row, limit)
        drawn = [engine.step([row])[0] for _ in range(draw.choice([limit, draw.randint(1, limit)]))]
        engine.remove(row)
        owed.append(([*query, *drawn, EOS], memories[which]))
        if draw.random() < 0.3:
            memories[1 - which] = MemoryVersion(memories[which].tensor.clone())
        if draw.random() < 0.7:
            draw.shuffle(owed)
            encoded = engine.encode([ids for ids, _ in owed])
            after = engine.attend([memory for _, memory in owed], encoded)
            for (ids, memory), found, version in zip(owed, encoded, after, strict=True):
                assert torch.equal(found, ENCODER.encode(ids))
                assert torch.equal(version.tensor, WRITE.fold(memory.tensor, found[:, 0]))
            memories[which] = after[-1]
            owed.clear()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_encodes_by_itself() -> None:
    torch.set_num_threads(1)  # PyTorch's own threads do not survive a fork
    batch, ids = answering(5)
    child = os.fork()
    if not child:
        os._exit(0 if batch.encoded(ids) is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert batch.encoded(ids) is not None
