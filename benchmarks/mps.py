"""NVIDIA's Multi-Process Service, for as long as something is measured through it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTROL = "nvidia-cuda-mps-control"
_PATIENCE = 60.0


@contextmanager
def shared() -> Iterator[None]:
    """Processes that are started meanwhile share the device through a service of their own.

    Raises MpsFailed where it does not start; it ends whatever happens.
    """
    with tempfile.TemporaryDirectory(prefix="mps", ignore_cleanup_errors=True) as folder:
        places = {f"CUDA_MPS_{name}_DIRECTORY": folder for name in ("PIPE", "LOG")}
        before = {name: os.environ.get(name) for name in places}
        os.environ.update(places)
        try:
            _control("-d")
            yield
        finally:
            with suppress(MpsFailed):
                # One that did not start in time may have started. Those it serves have ended.
                _control(given="quit -t 10\n")
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


class MpsFailed(RuntimeError):
    """The service cannot be had; the message says why."""


def _control(*arguments: str, given: str = "") -> None:
    what = " ".join((_CONTROL, *arguments)) + (f" told {given.strip()}" if given else "")
    try:
        done = subprocess.run(
            [_CONTROL, *arguments], input=given, text=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MpsFailed(f"{what}: {error}") from error
    if done.returncode:
        raise MpsFailed(f"{what}: {done.stderr.strip() or f'status {done.returncode}'}")
