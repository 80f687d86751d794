"""The key/value cache under several tokens at once, wherever the rows stand."""

from __future__ import annotations

import pytest
import torch

from rxtmodel.cache import KVCache
from rxtmodel.layout import arrange

from .tiny import VARIANTS, random_ids, random_memory, tiny_model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("arranged", [False, True])
@pytest.mark.parametrize("parts", [[9], [1, 8], [4, 5], [3, 1, 4, 1], [1] * 9])
@torch.inference_mode()
def test_a_text_may_be_read_in_any_parts(variant, arranged, parts):
    """Several tokens after others see all of those, and none that comes later."""
    model = tiny_model(variant, num_layers=2).requires_grad_(False)
    ids, memory = random_ids(3, 9), random_memory(model, 3)
    expected = model.hidden(ids, memory)
    if arranged:
        arrange(model)
    cache, state = KVCache(model.config, 3, 9), model.project_memory(memory)
    cache.lengths = [0, 0, 0]
    found = []
    for part in ids.split(parts, dim=1):
        cache.begin(0, 3, part.shape[1])
        found.append(model.prefill(part, state, cache))
        cache.advance(part.shape[1])
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=2e-5, rtol=1e-4)


def test_rows_of_different_length_take_one_token_at_a_time():
    cache = KVCache(tiny_model().config, 2, 9)
    cache.lengths = [3, 5]
    with pytest.raises(ValueError, match=r"rows of \[3, 5\] tokens cannot take 2 more at once"):
        cache.begin(0, 2, 2)
    cache.begin(0, 2, 1)
    cache.advance(1)
    assert cache.lengths == [4, 6]
