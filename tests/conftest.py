"""Async tests run on both event loops; torch computes on one thread; Ctrl-C works."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# The models here are tiny. Threads that wait for one another at each of their products take ten
# times as long when another process wants a core. Set before torch is imported, and for children.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if not Path("/dev/nvidiactl").exists():
    # Kernels run line by line in Python (``test_interpreted_kernels``); read as Triton is imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# In the background of a script SIGINT is ignored, and so it is by the programs that tests start
# and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
