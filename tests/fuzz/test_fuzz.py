"""The committed corpus, and a short run of the fuzzer; ``python -m tests.fuzz`` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ..profiles import budget
from .__main__ import CORPUS, corpus, run_one
from .targets import TARGETS, seeds

INPUTS = budget(30_000, 1_000_000)


@pytest.mark.parametrize("target", TARGETS)
def test_whole_inputs_are_read(target: str) -> None:
    reader, _ = TARGETS[target]
    if target == "events":
        reader(seeds()[target][0])
    else:
        for data in seeds()[target]:
            reader(data)


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_that_once_failed_or_are_hostile_raise_only_what_they_may(target: str) -> None:
    assert len(corpus(target)) > len(seeds()[target])
    for data in corpus(target):
        run_one(target, data)


def test_mutated_inputs_raise_only_what_they_may_in_bounded_time_and_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", str(INPUTS), "1"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no failure" in done.stdout
    assert CORPUS.is_dir()
