"""An interaction that is encoded before it is asked for has the bits that it has afterwards."""

from __future__ import annotations

import os
import random

import pytest
import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.engine import DecodeBatch, HostEngine, MemoryVersion
from rxtmodel.native import NativeEncoder
from rxtmodel.native.ahead import RunAhead

from .test_native import MAX_LEN, random_memory, wide_model

MODEL = wide_model()
EOS = MODEL.config.tokens.eos
ENCODER = NativeEncoder(MODEL)
MEMORY = MODEL.project_memory(random_memory(MODEL, 1))
QUERY = [12, 20]


def answering(limit: int, *, query: list[int] = QUERY) -> tuple[DecodeBatch, list[int]]:
    """A batch after an answer of ``limit`` tokens, and the whole interaction."""
    batch = DecodeBatch(MODEL, 2, MAX_LEN, lookahead=True, encoder=ENCODER)
    row = batch.add(query, MEMORY, Sampler(SamplerConfig(), 1))
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
    run = RunAhead(batch._native, [end], ENCODER, end if eos is None else eos)
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
def test_turns_in_any_order_are_encoded_as_by_an_encoder_alone(seed: int) -> None:
    """Answers of two conversations that end, are dropped, and are encoded late, or never."""
    draw, engine = random.Random(seed), HostEngine(MODEL, 3, MAX_LEN)
    assert engine._encoder is not None
    memory = MemoryVersion(random_memory(MODEL, 1)[:, 0])
    owed: list[list[int]] = []
    for _ in range(40):
        query = [draw.randrange(11, MODEL.config.vocab_size) for _ in range(draw.randrange(1, 6))]
        (row,) = engine.add_all([(query, memory, Sampler(SamplerConfig(), 1))])
        limit = draw.randrange(1, 8)
        engine.limit(row, limit)
        drawn = [engine.step([row])[0] for _ in range(draw.choice([limit, draw.randint(1, limit)]))]
        engine.remove(row)
        owed.append([*query, *drawn, EOS])
        if draw.random() < 0.7:
            draw.shuffle(owed)
            for ids, found in zip(owed, engine.encode(owed), strict=True):
                assert torch.equal(found, ENCODER.encode(ids))
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
