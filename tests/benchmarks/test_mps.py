"""The service by which processes share a device; its control program is a script here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import mps

SCRIPT = """#!/bin/sh
echo "$1 $(cat) in $CUDA_MPS_PIPE_DIRECTORY" >> {log}
[ "$1" != "-d" ] || exit {status}
"""


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the program writes what it is told."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    monkeypatch.setenv("CUDA_MPS_LOG_DIRECTORY", "/of/the/user")
    return install(tmp_path, 0)


def install(folder: Path, status: int) -> Path:
    log, program = folder / "log", folder / "nvidia-cuda-mps-control"
    program.write_text(SCRIPT.format(log=log, status=status))
    program.chmod(0o755)
    return log


def told(log: Path) -> list[str]:
    return [line.split(" in ")[0].strip() for line in log.read_text().splitlines()]


def test_a_service_lives_as_long_as_it_is_measured_through(control: Path) -> None:
    with mps.shared():
        folder = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
        assert os.environ["CUDA_MPS_LOG_DIRECTORY"] == folder and Path(folder).is_dir()
        assert told(control) == ["-d"]
    assert told(control) == ["-d", "quit -t 10"]
    assert all(line.endswith(folder) for line in control.read_text().splitlines())
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ and not Path(folder).exists()
    assert os.environ["CUDA_MPS_LOG_DIRECTORY"] == "/of/the/user"


def test_it_ends_where_what_is_measured_fails(control: Path) -> None:
    with pytest.raises(ZeroDivisionError), mps.shared():
        raise ZeroDivisionError
    assert told(control) == ["-d", "quit -t 10"]


def test_one_that_does_not_start_is_told(tmp_path: Path, control: Path) -> None:
    install(tmp_path, 3)
    with pytest.raises(mps.MpsFailed, match="nvidia-cuda-mps-control -d: status 3"), mps.shared():
        pytest.fail("measured without it")
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_one_that_starts_too_slowly_is_ended(
    tmp_path: Path, control: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = subprocess.run

    def slow(command: list[str], **options: object) -> object:
        run(command, **options)  # type: ignore[call-overload]
        if "-d" in command:
            raise subprocess.TimeoutExpired(command, 60.0)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(mps.subprocess, "run", slow)
    with pytest.raises(mps.MpsFailed, match="timed out"), mps.shared():
        pytest.fail("measured without it")
    assert told(control) == ["-d", "quit -t 10"]


def test_where_there_is_none_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(mps.MpsFailed, match="No such file.*nvidia-cuda-mps-control"), mps.shared():
        pytest.fail("measured without it")
