"""Async tests run on both event loops; torch computes on one thread."""

from __future__ import annotations

import os

import pytest

# The models here are tiny. Threads that wait for one another at each of their products take ten
# times as long when another process wants a core. Set before torch is imported, and for children.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
