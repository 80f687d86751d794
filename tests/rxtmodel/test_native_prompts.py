"""A prompt's last token, read with those before it, draws what it draws by itself."""

from __future__ import annotations

import pytest
import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.cache import KVCache
from rxtmodel.engine import DecodeBatch
from rxtmodel.native import NativeDecoder

from .test_native import FORMS, MAX_LEN, random_memory, wide_model


@pytest.mark.parametrize("form", FORMS)
def test_it_has_the_logits_that_it_has_alone(form: str) -> None:
    model = wide_model(**FORMS[form])
    state = model.project_memory(random_memory(model, 2))
    banned = torch.zeros(model.config.vocab_size)
    for length in (1, 2, 15, 16, 17, 32, 33, MAX_LEN):
        caches = [KVCache(model.config, 2, MAX_LEN) for _ in range(2)]
        together, alone = (NativeDecoder(model, cache, banned) for cache in caches)
        for cache, decoder in zip(caches, (together, alone), strict=True):
            cache.lengths += [0]
            decoder.use_memory(state)
        ids = [11 + place * 5 % 13 for place in range(length)]
        found = together.read_and_draw(ids, 0)
        if length > 1:
            alone.read(ids[:-1], 0)
        assert [found] == alone.step(ids[-1:])
        assert torch.equal(together.logits_BV[0], alone.logits_BV[0])
        assert caches[0].lengths == caches[1].lengths
        assert torch.equal(caches[0].k, caches[1].k)
        assert torch.equal(caches[0].v, caches[1].v)


def test_a_greedy_answer_has_its_first_token_with_its_prompt() -> None:
    model = wide_model()
    memory = model.project_memory(random_memory(model, 1))
    batch = DecodeBatch(model, 2, MAX_LEN, lookahead=False)
    greedy = batch.add([12, 20], memory, Sampler(SamplerConfig(), 1))
    drawn = batch.add([12, 20], memory, Sampler(SamplerConfig(temperature=1.0), 1))
    assert batch.cache.lengths == [2, 1]
    assert batch.room(greedy) == batch.room(drawn) == MAX_LEN - 1
    (first,) = batch.step([greedy])
    assert batch.cache.lengths == [2, 1]
    plain = DecodeBatch(model, 1, MAX_LEN, native=False)
    assert plain.step([plain.add([12, 20], memory, Sampler(SamplerConfig(), 1))]) == [first]


def test_a_prompt_that_does_not_fit_leaves_nothing_behind() -> None:
    model = wide_model()
    memory = model.project_memory(random_memory(model, 1))
    batch = DecodeBatch(model, 1, MAX_LEN)
    for ids in ([12] * (MAX_LEN + 1), [model.config.vocab_size]):
        with pytest.raises(IndexError):
            batch.add(ids, memory, Sampler(SamplerConfig(), 1))
    assert not batch.rows
    assert not batch.cache.lengths
    full = batch.add([12] * MAX_LEN, memory, Sampler(SamplerConfig(), 1))
    assert len(batch.step([full])) == 1
    assert batch.room(full) == 0
