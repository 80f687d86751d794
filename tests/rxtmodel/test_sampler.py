"""Drawing tokens: greedy, temperature, top-k, top-p, seeds, and the template's ids."""

from __future__ import annotations

import collections

import pytest
import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.sampler import keep_probable
from rxtmodel.template import (
    ANSWER,
    BOS,
    EOS,
    PAD,
    QUERY,
    SPECIAL_TOKENS,
    interaction_ids,
    query_ids,
)

PROBABILITIES = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])
LOGITS = PROBABILITIES.log()


def kept(**settings) -> set[int]:
    logits = keep_probable(LOGITS.clone(), SamplerConfig(temperature=1.0, **settings))
    return set(logits.isfinite().nonzero().flatten().tolist())


def frequencies(config: SamplerConfig, draws: int = 4000) -> torch.Tensor:
    sampler = Sampler(config, seed=1)
    counts = collections.Counter(sampler.draw(LOGITS) for _ in range(draws))
    return torch.tensor([counts[i] / draws for i in range(len(LOGITS))])


def test_temperature_zero_takes_the_most_probable_token():
    sampler = Sampler(SamplerConfig())
    assert sampler.greedy
    assert [sampler.draw(LOGITS) for _ in range(5)] == [1] * 5


def test_by_default_every_token_is_kept():
    assert kept() == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [(1, {1}), (2, {1, 3}), (4, {1, 2, 3, 4}), (5, {0, 1, 2, 3, 4}), (99, {0, 1, 2, 3, 4})],
)
def test_top_k_keeps_the_most_probable(top_k, expected):
    assert kept(top_k=top_k) == expected


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.0, {1}),
        (0.39, {1}),
        (0.41, {1, 3}),
        (0.69, {1, 3}),
        (0.71, {1, 3, 4}),
        (0.96, {0, 1, 2, 3, 4}),
        (1.0, {0, 1, 2, 3, 4}),
    ],
)
def test_top_p_keeps_the_token_that_crosses_it(top_p, expected):
    assert kept(top_p=top_p) == expected


def test_top_p_counts_among_what_top_k_left():
    """Of 0.4 and 0.3 the first is 0.571: it alone reaches 0.55, but not 0.6."""
    assert kept(top_k=2, top_p=0.55) == {1}
    assert kept(top_k=2, top_p=0.6) == {1, 3}


def test_what_is_kept_keeps_its_logit():
    logits = keep_probable(LOGITS.clone(), SamplerConfig(temperature=1.0, top_k=3, top_p=0.9))
    assert torch.equal(logits[[1, 3, 4]], LOGITS[[1, 3, 4]])


def test_draws_follow_the_probabilities():
    found = frequencies(SamplerConfig(temperature=1.0))
    torch.testing.assert_close(found, PROBABILITIES, atol=0.025, rtol=0)


def test_temperature_flattens_and_sharpens():
    for temperature in (0.5, 2.0):
        expected = (LOGITS / temperature).softmax(-1)
        found = frequencies(SamplerConfig(temperature=temperature))
        torch.testing.assert_close(found, expected, atol=0.025, rtol=0)


def test_kept_tokens_share_what_the_others_had():
    expected = torch.tensor([0, 0.4, 0, 0.3, 0.15]) / 0.85
    found = frequencies(SamplerConfig(temperature=1.0, top_k=3))
    torch.testing.assert_close(found, expected, atol=0.025, rtol=0)
    assert found[0] == found[2] == 0


def test_a_token_that_is_forbidden_is_never_drawn():
    logits = LOGITS.clone()
    logits[1] = -torch.inf
    sampler = Sampler(SamplerConfig(temperature=5.0), seed=0)
    assert 1 not in {sampler.draw(logits) for _ in range(500)}


def test_the_same_seed_draws_the_same():
    def draws(seed: int | None) -> list[int]:
        sampler = Sampler(SamplerConfig(temperature=1.0), seed)
        return [sampler.draw(LOGITS) for _ in range(40)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)
    assert draws(None) != draws(None)


def test_drawing_leaves_the_global_generator_and_the_logits_alone():
    state, logits = torch.get_rng_state(), LOGITS.clone()
    Sampler(SamplerConfig(temperature=1.0, top_k=2, top_p=0.5), seed=1).draw(logits)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits, LOGITS)


def test_an_interaction_begins_with_what_the_decoder_was_given():
    assert query_ids([20, 21]) == [BOS, QUERY, 20, 21, ANSWER]
    assert interaction_ids([20, 21], [22]) == [BOS, QUERY, 20, 21, ANSWER, 22, EOS]


def test_the_ids_of_special_tokens_are_their_places():
    assert [SPECIAL_TOKENS[i] for i in (PAD, BOS, EOS, QUERY, ANSWER)] == [
        "[PAD]",
        "[BOS]",
        "[EOS]",
        "[Q]",
        "[A]",
    ]
    assert len(set(SPECIAL_TOKENS)) == 11
