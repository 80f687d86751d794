"""What many tests of streams want."""

from __future__ import annotations

import pytest

from rxstream.hooks import hooks


@pytest.fixture
def unhandled(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    errors: list[BaseException] = []
    monkeypatch.setattr(hooks, "on_unhandled", errors.append)
    return errors
