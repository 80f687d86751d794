"""The tests are tested: each of these mistakes in the package is noticed by the tests it names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .catalog import MUTANTS, OWN, SPECIFIED
from .forge import ROOT, Stale, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_source(mutant) -> None:
    path = ROOT / "rxstream" / mutant.file
    compile(mutated(mutant, path.read_text()), str(path), "exec")


def test_a_mutant_that_does_not_fit_any_more_is_an_error() -> None:
    with pytest.raises(Stale, match="0 times"):
        mutated(MUTANTS[0], "")
    with pytest.raises(Stale, match="2 times"):
        mutated(MUTANTS[0], MUTANTS[0].old * 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_all_mutants_are_killed() -> None:
    assert len(SPECIFIED) == 9 and len(OWN) >= 10
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants.forge"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    print(done.stdout)
