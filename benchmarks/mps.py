"""NVIDIA's Multi-Process Service, for as long as something is measured through it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTROL = "nvidia-cuda-mps-control"
_PATIENCE = 60.0


def why_not() -> str | None:
    """Why there is none; None where there may be."""
    return None if shutil.which(_CONTROL) else f"there is no {_CONTROL} here"


@contextmanager
def shared() -> Iterator[None]:
    """Processes that are started meanwhile share the device through a service of their own.

    Raises RuntimeError where it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="mps") as folder:
        places = {f"CUDA_MPS_{name}_DIRECTORY": folder for name in ("PIPE", "LOG")}
        before = {name: os.environ.get(name) for name in places}
        os.environ.update(places)
        try:
            _control("-d")
            try:
                yield
            finally:
                _control(given="quit\n")
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def _control(*arguments: str, given: str = "") -> None:
    done = subprocess.run(
        [_CONTROL, *arguments], input=given, text=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, timeout=_PATIENCE, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{_CONTROL} {' '.join(arguments) or given.strip()}: {done.stderr}")
