"""Threads of C that share the rows of a step, wait for the next one, and end with the batch."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.engine import DecodeBatch

from .test_native import MAX_LEN, wide_model
from .tiny import random_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, STEPS = 12, 5
MODEL = wide_model(ff_dim=64)
TASKS = Path("/proc/self/task")
LIBC = ctypes.CDLL(None)
listed = pytest.mark.skipif(not TASKS.exists(), reason="threads are listed in /proc")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class Answers:
    """Rows of one batch, of which each step is shared out; the logits that they are drawn from."""

    def __init__(self) -> None:
        self.batch = DecodeBatch(MODEL, ROWS, MAX_LEN, lookahead=False)
        assert self.batch.why_not_native is None
        state = MODEL.project_memory(random_memory(MODEL, 1))
        queries = [[11 + (n * 5 + i) % 13 for i in range(9)] for n in range(ROWS)]
        self.rows = [self.batch.add(ids, state, Sampler(SamplerConfig())) for ids in queries]
        self.batch.step(self.rows)  # the first tokens were drawn with the queries

    def step(self) -> bytes:
        self.batch.step(self.rows)
        return self.batch._native.logits_BV[:ROWS].numpy().tobytes()

    def steps(self) -> list[bytes]:
        return [self.step() for _ in range(STEPS)]


@pytest.fixture
def alone(threads: None) -> list[bytes]:
    """By one thread."""
    torch.set_num_threads(1)
    said = Answers().steps()
    torch.set_num_threads(3)
    assert len({*said}) == STEPS
    return said


def native_threads() -> set[str]:
    return set(os.listdir(TASKS))


def begun() -> tuple[Answers, set[str], bytes]:
    """Answers after their first step, and the threads that began with it."""
    gc.collect()
    answers, before = Answers(), native_threads()
    first = answers.step()
    helpers = native_threads() - before
    assert len(helpers) == 2
    return answers, helpers, first


def wait_until_asleep(thread: str) -> None:
    while (TASKS / thread / "stat").read_text().rpartition(")")[2].split()[0] != "S":
        os.sched_yield()


@listed
def test_helpers_that_fell_asleep_are_woken_and_are_the_same_ones(alone: list[bytes]) -> None:
    answers, helpers, first = begun()
    said = [first]
    for _ in range(STEPS - 1):
        for helper in helpers:
            wait_until_asleep(helper)
        said.append(answers.step())
        assert helpers <= native_threads()
    assert said == alone


@listed
def test_helpers_end_with_their_batch() -> None:
    answers, helpers, _ = begun()
    del answers
    gc.collect()
    assert not helpers & native_threads()


def test_fewer_rows_than_before_are_shared_by_fewer_threads(alone: list[bytes]) -> None:
    answers = Answers()
    said = answers.steps()
    for row in answers.rows[1:]:
        answers.batch.remove(row)
    answers.batch.step(answers.rows[:1])
    assert said == alone


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here")
def test_one_processor_between_all_threads_gives_the_same(alone: list[bytes]) -> None:
    def crowded() -> list[bytes]:
        # Of this thread, and of those that it starts.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        return Answers().steps()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(crowded).result() == alone


@pytest.mark.skipif(sys.platform != "linux", reason="threads are placed on Linux")
def test_helpers_keep_away_from_the_processor_of_the_thread_that_calls() -> None:
    everywhere = os.sched_getaffinity(0)
    if len(everywhere) < 2:
        pytest.skip("there is one processor")
    torch.set_num_threads(2)

    def moved_to_its_helper() -> int:
        answers, before, seen = Answers(), native_threads(), 0
        answers.step()
        (helper,) = map(int, native_threads() - before)
        for _ in range(20):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(helper))})
            os.sched_setaffinity(0, everywhere)
            here = LIBC.sched_getcpu()
            answers.step()
            if LIBC.sched_getcpu() == here:
                assert here not in os.sched_getaffinity(helper)
                seen += 1
        return seen

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(moved_to_its_helper).result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_helpers_of_its_own(alone: list[bytes]) -> None:
    answers = Answers()
    answers.step()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        same = [answers.step() for _ in range(STEPS - 1)] == alone[1:]
        del answers
        gc.collect()
        os.write(write, bytes([same]))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    assert found == b"\x01"
    assert [answers.step() for _ in range(STEPS - 1)] == alone[1:]
