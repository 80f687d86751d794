"""Threads of C that share out rows, tokens and layers: they change nothing but the time."""

from __future__ import annotations

import ctypes
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.engine import DecodeBatch
from rxtmodel.native import NativeDeltaWrite, NativeEncoder

from .test_native import MAX_LEN, wide_model
from .tiny import random_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, STEPS = 12, 5
MODEL = wide_model(ff_dim=64)
TASKS = Path("/proc/self/task")
LIBC = ctypes.CDLL(None)
HELPERS = min(2, len(os.sched_getaffinity(0)) - 1) if hasattr(os, "sched_getaffinity") else 2
"""As there are processors for, beside the thread that calls."""
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


def helpers(count: int) -> list[int]:
    """Threads, the first one first; a step may be over before they have begun to run."""
    found: list[int] = []
    while len(found) < count:
        tasks = sorted(int(task) for task in os.listdir(TASKS))
        found = [task for task in tasks if name_of(task) == "rxt-helper"]
    return found


def name_of(task: int) -> str:
    try:
        return (TASKS / str(task) / "comm").read_text().strip()
    except OSError:  # it ended meanwhile
        return ""


def wait_until_asleep(thread: int) -> None:
    while (TASKS / str(thread) / "stat").read_text().rpartition(")")[2].split()[0] != "S":
        os.sched_yield()


@listed
def test_helpers_that_fell_asleep_are_woken_and_are_the_same_ones(alone: list[bytes]) -> None:
    answers = Answers()
    said = [answers.step()]
    first = helpers(HELPERS)
    for _ in range(STEPS - 1):
        for helper in first:
            wait_until_asleep(helper)
        said.append(answers.step())
    assert said == alone
    assert helpers(HELPERS) == first


@pytest.mark.parametrize("count", [6, 13, 17, 40, 59])
@pytest.mark.parametrize("variant", ["delta", "interlayer"])
def test_a_prompt_is_read_the_same_by_three_threads_as_by_one(variant: str, count: int) -> None:
    model = wide_model(variant, ff_dim=64)
    state = model.project_memory(random_memory(model, 1))

    def read() -> tuple[bytes, bytes]:
        batch = DecodeBatch(model, 2, MAX_LEN, lookahead=False)
        query = [11 + i * 7 % 13 for i in range(count)]
        for _ in range(2):
            batch.add(query, state, Sampler(SamplerConfig()))
        cache = batch.cache.k.numpy().tobytes() + batch.cache.v.numpy().tobytes()
        return cache, batch._native.logits_BV[0].numpy().tobytes()

    by_three = [read() for _ in range(5)]
    torch.set_num_threads(1)
    assert {*by_three} == {read()}


@pytest.mark.parametrize("count", [6, 13, 17, 40, 59])
def test_an_interaction_is_remembered_the_same_by_three_threads_as_by_one(count: int) -> None:
    encoder, write = NativeEncoder(MODEL), NativeDeltaWrite(MODEL)
    ids, memory = [11 + i * 7 % 13 for i in range(count)], random_memory(MODEL, 1)[:, 0]

    def remembered() -> tuple[bytes, bytes]:
        encoded = encoder.encode(ids)
        known = write.fold(memory, encoded[:, 0])
        return encoded.numpy().tobytes(), known.numpy().tobytes()

    by_three = [remembered() for _ in range(5)]
    torch.set_num_threads(1)
    assert {*by_three} == {remembered()}


def test_steps_on_two_threads_at_once_are_those_of_each_alone(alone: list[bytes]) -> None:
    """Helpers are with one of them at a time."""
    both, begin = [Answers(), Answers()], Barrier(2)

    def steps(answers: Answers) -> list[bytes]:
        begin.wait()
        return answers.steps()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(steps, both)) == [alone, alone]


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="threads are placed by glibc")
def test_helpers_keep_away_from_the_processor_of_the_thread_that_calls() -> None:
    two = set(sorted(os.sched_getaffinity(0))[:2])
    if len(two) < 2:
        pytest.skip("there is one processor")
    torch.set_num_threads(2)

    def moved_to_its_helper() -> int:
        os.sched_setaffinity(0, two)  # of this thread
        answers, seen = Answers(), 0
        helper = helpers(1)[0]
        for _ in range(20):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(helper))})
            os.sched_setaffinity(0, two)
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
        os.write(write, bytes([same and (not TASKS.exists() or len(helpers(HELPERS)) == HELPERS)]))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    assert found == b"\x01"
    assert [answers.step() for _ in range(STEPS - 1)] == alone[1:]
