"""Steps that are computed before they are asked for change nothing but the time."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path

import pytest
import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.engine import DecodeBatch, HostEngine
from rxtmodel.engine.lookahead import worth_it
from rxtmodel.native.ahead import RunAhead

from .test_native import MAX_LEN, random_memory, wide_model

MODEL = wide_model()
EOS = MODEL.config.tokens.eos
GREEDY = SamplerConfig()


def batch_of(rows: int, *, lookahead: bool, model=MODEL) -> DecodeBatch:
    batch = DecodeBatch(model, rows, MAX_LEN, lookahead=lookahead)
    assert batch.why_not_native is None
    return batch


def live_through(batch: DecodeBatch, seed: int) -> tuple[dict[int, list[int]], dict[int, int]]:
    """Answers that join, pause, change their order and leave at random: their tokens, and their
    room at the end."""
    draw, model = random.Random(seed), batch.model
    memories = [model.project_memory(random_memory(model, 1, seed=n)) for n in range(4)]
    live, said, room = {}, {}, {}
    for _ in range(120):
        if len(live) < batch.cache.max_rows and draw.random() < 0.2:
            name, query = len(said), [draw.randrange(11, model.config.vocab_size) for _ in range(9)]
            drawn = SamplerConfig(temperature=0.7) if draw.random() < 0.2 else GREEDY
            live[name] = batch.add(query, draw.choice(memories), Sampler(drawn, name))
            said[name] = []
            if draw.random() < 0.5:
                batch.limit(live[name], draw.randrange(1, 20))
        for name in [name for name in live if draw.random() < 0.1]:
            room[name] = batch.room(live[name])
            batch.remove(live.pop(name))
        chosen = [n for n in live if draw.random() < 0.95 and batch.room(live[n]) > 0]
        if draw.random() < 0.1:
            draw.shuffle(chosen)
        for name, token in zip(chosen, batch.step([live[n] for n in chosen]), strict=True):
            said[name].append(token)
    assert len(said) > 5
    return said, room


@pytest.mark.parametrize("seed", range(6))
def test_answers_that_come_and_go_have_the_tokens_that_they_have_step_by_step(seed: int) -> None:
    rows = 1 + seed
    assert live_through(batch_of(rows, lookahead=True), seed) == live_through(
        batch_of(rows, lookahead=False), seed
    )


def test_a_step_is_made_before_it_is_asked_for() -> None:
    batch = batch_of(1, lookahead=True)
    memory = MODEL.project_memory(random_memory(MODEL, 1))
    row = batch.add([12, 20], memory, Sampler(GREEDY, 1))
    first = batch.step([row])
    assert batch._lookahead.run.take() is not None  # nobody has asked for it yet
    batch = batch_of(1, lookahead=True)
    row = batch.add([12, 20], memory, Sampler(GREEDY, 1))
    batch.step([row])
    alone = batch_of(1, lookahead=False)
    other = alone.add([12, 20], memory, Sampler(GREEDY, 1))
    expected = [alone.step([other]) for _ in range(6)]
    assert [first, *(batch.step([row]) for _ in range(5))] == expected


def test_no_more_than_two_steps_are_made_before_they_are_asked_for() -> None:
    run, _ = begun(most=20, ends=())
    assert all(run.take() for _ in range(3))
    other = batch_of(2, lookahead=False)
    memory = MODEL.project_memory(random_memory(MODEL, 1))
    rows = [other.add([12, 20], memory, Sampler(GREEDY, 1)) for _ in range(2)]
    for _ in range(12):  # as long as the thread would take for as many
        other.step(rows)
    run.halt()
    left = 0
    while run.take() is not None:
        left += 1
    assert left <= 2


def begun(most: int, ends: tuple[int, ...] = (EOS,)) -> tuple[RunAhead, DecodeBatch]:
    batch = batch_of(2, lookahead=False)
    memory = MODEL.project_memory(random_memory(MODEL, 1))
    rows = [batch.add([12, 20], memory, Sampler(GREEDY, 1)) for _ in range(2)]
    batch.step(rows)
    run = RunAhead(batch._native, ends)
    assert run.begin([row.pending for row in rows], batch.cache.lengths[:2], most)
    return run, batch


def test_a_run_ends_after_its_last_step() -> None:
    run, _ = begun(most=3)
    assert [run.take() is None for _ in range(5)] == [False] * 3 + [True] * 2


def test_a_run_ends_with_the_first_row_that_ends() -> None:
    run, batch = begun(most=20)
    drawn = run.take()
    run.halt()
    ends = RunAhead(batch._native, [drawn[1]])
    assert ends.begin([row.pending for row in batch.rows], batch.cache.lengths[:2], 20)
    assert [ends.take() for _ in range(3)] == [drawn, None, None]


def test_a_row_is_not_computed_beyond_its_limit() -> None:
    batch = batch_of(1, lookahead=True)
    row = batch.add([12, 20], MODEL.project_memory(random_memory(MODEL, 1)), Sampler(GREEDY, 1))
    batch.limit(row, 3)
    for _ in range(3):
        batch.step([row])
    batch._settle()
    assert not row.ahead
    assert batch.cache.lengths == [4]  # one token of the query, three steps


@pytest.mark.parametrize("config", [SamplerConfig(temperature=1.0), SamplerConfig(allowed=(6,))])
def test_what_python_draws_is_not_computed_ahead(config: SamplerConfig) -> None:
    batch = batch_of(1, lookahead=True)
    memory = MODEL.project_memory(random_memory(MODEL, 1))
    row = batch.add([12, 20], memory, Sampler(config, 1))
    batch.step([row])
    batch._settle()
    assert not row.ahead
    assert batch.cache.lengths == [2]


def test_an_ended_row_takes_its_steps_with_it() -> None:
    batch = batch_of(2, lookahead=True)
    memory = MODEL.project_memory(random_memory(MODEL, 1))
    rows = [batch.add([12, token], memory, Sampler(GREEDY, 1)) for token in (20, 21)]
    batch.step(rows)
    batch.remove(rows[0])
    alone = batch_of(1, lookahead=False)
    other = alone.add([12, 21], memory, Sampler(GREEDY, 1))
    alone.step([other])
    assert [batch.step([rows[1]]) for _ in range(5)] == [alone.step([other]) for _ in range(5)]
    with pytest.raises(ValueError, match="ended"):
        batch.step([rows[0]])


def native_threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed in /proc")
def test_the_thread_ends_with_its_batch() -> None:
    gc.collect()
    before = native_threads()
    run, batch = begun(most=20)
    (begun_here,) = native_threads() - before  # those of earlier tests may end meanwhile
    run.take()
    del run, batch
    gc.collect()
    assert begun_here not in native_threads()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_goes_on_by_itself() -> None:
    """The thread is not there: what it had made is, and the rest is computed."""
    torch.set_num_threads(1)  # PyTorch's own threads do not survive a fork
    batch = batch_of(1, lookahead=True)
    memory = MODEL.project_memory(random_memory(MODEL, 1))
    row = batch.add([12, 20], memory, Sampler(GREEDY, 1))
    batch.step([row])
    read, write = os.pipe()
    child = os.fork()
    if not child:
        said = [batch.step([row])[0] for _ in range(8)]
        os.write(write, bytes(str(said), "ascii"))
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        found = answer.read()
    os.waitpid(child, 0)
    assert found == str([batch.step([row])[0] for _ in range(8)])


def test_it_takes_a_second_processor(monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert not worth_it()
    assert HostEngine(MODEL, 1, MAX_LEN).batch._lookahead is None
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert HostEngine(MODEL, 1, MAX_LEN).batch._lookahead is not None
