"""Runs the tests of each mutant on a copy of the package: ``python -m tests.mutants.forge``.

Prints for each mutant which tests killed it; the exit status is 1 when one survived. Children are
forked from a process that has imported the tools but not the package, so that twenty mutants take
little more than twenty times their tests.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import anyio  # noqa: F401  imported once for all children
import hypothesis  # noqa: F401
import pytest
import reactivex  # noqa: F401
import trio  # noqa: F401

from .catalog import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
LIMIT = 60
"""Seconds for the tests of one mutant. One that makes them hang counts as survived."""


class Stale(Exception):
    """A change that does not fit the source any more."""


def mutated(mutant: Mutant, source: str) -> str:
    """``source`` with the mistake. Raises Stale unless it fits exactly once."""
    if (found := source.count(mutant.old)) != 1:
        raise Stale(f"{mutant.name!r} fits {mutant.file} {found} times, not once: update it")
    return source.replace(mutant.old, mutant.new)


class _Failed:
    """A plugin of pytest: which tests failed."""

    def __init__(self) -> None:
        self.nodes: list[str] = []
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.nodes.append(report.nodeid.removeprefix("tests/rxstream/"))
        self.passed += report.passed and report.when == "call"


def run(place: Path, tests: list[str]) -> tuple[list[str], int]:
    """Run ``tests`` on the package in ``place``, in a child: which failed, and how many passed."""
    answer, mine = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(mine, json.dumps(_test(place, tests)).encode())
        finally:
            os._exit(0)
    os.close(mine)
    with os.fdopen(answer) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    if not told:
        return [], 0
    nodes, passed = json.loads(told)
    return nodes, passed


def _test(place: Path, tests: list[str]) -> tuple[list[str], int]:
    signal.alarm(LIMIT)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.chdir(place)
    sys.path[:] = [str(place), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
    for name in [n for n in sys.modules if n.partition(".")[0] in ("tests", "rxstream")]:
        del sys.modules[name]
    failed = _Failed()
    # Plain assertions: rewriting them takes longer than the tests do.
    arguments = ["-q", "-p", "no:cacheprovider", "--assert=plain"]
    arguments += ["-W", "ignore::ResourceWarning"]  # a test that fails closes no runtime
    pytest.main([*arguments, *(f"tests/rxstream/{test}" for test in tests)], plugins=[failed])
    import rxstream

    assert Path(rxstream.__file__).is_relative_to(place)
    return failed.nodes, failed.passed


def copy(place: Path) -> None:
    """What the tests need, without anything compiled."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / "rxstream", place / "rxstream", ignore=ignored)
    shutil.copytree(ROOT / "tests" / "rxstream", place / "tests" / "rxstream", ignore=ignored)
    for name in ("tests/__init__.py", "tests/conftest.py", "tests/profiles.py", "pyproject.toml"):
        shutil.copy(ROOT / name, place / name)


def main(mutants: tuple[Mutant, ...] = MUTANTS) -> int:
    """Check all ``mutants``; returns how many survived."""
    sys.dont_write_bytecode = True  # a file that is changed twice in a second would not be noticed
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        copy(place)
        every = sorted({test for mutant in mutants for test in mutant.tests})
        failed, passed = run(place, every)
        if failed or passed != len(every):
            print(f"without any mutant {passed} of {len(every)} pass; failed: {failed}")
            return 1
        for mutant in mutants:
            file = place / "rxstream" / mutant.file
            source = file.read_text()
            file.write_text(mutated(mutant, source))
            killers, _ = run(place, list(mutant.tests))
            file.write_text(source)
            missing = set(mutant.tests) - set(killers)
            survived += bool(missing)
            print(f"{'SURVIVED' if missing else 'killed'}: {mutant.name}", flush=True)
            for test in mutant.tests:
                print(f"    {'NOT by' if test in missing else 'by'} {test}", flush=True)
    print(f"{len(mutants) - survived} of {len(mutants)} mutants killed")
    return survived


if __name__ == "__main__":
    sys.exit(min(1, main()))
