"""The number in the model card is the number that the bundled model reaches."""

from __future__ import annotations

import re

import pytest

from adapters.model import DEFAULT_MODEL, MODELS, load_model

from .score import TEST_SET, exchanges

TOLERANCE = 2
"""Questions: kernels differ between processors, and an answer can turn on the last bit."""


@pytest.mark.slow
def test_hand_written_dialogues_are_answered_as_the_model_card_says() -> None:
    card = (MODELS / DEFAULT_MODEL / "README.md").read_text()
    stated = re.search(rf"{TEST_SET.name}.*?(\d+) of (\d+)", card)
    assert stated is not None, "the model card does not state the figure"
    asked = [e for e in exchanges(load_model()) if e.right is not None]
    right = sum(bool(e.right) for e in asked)
    assert len(asked) == int(stated[2])
    assert abs(right - int(stated[1])) <= TOLERANCE
