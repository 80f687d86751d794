"""Settings of a sampler: what cannot be is refused where it is made, with its value."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rxtmodel import ConfigError, Sampler, SamplerConfig

LOGITS = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15]).log()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": -1.0}, "temperature must be a number >= 0, got -1.0"),
        ({"temperature": math.nan}, "temperature must be a number >= 0, got nan"),
        ({"temperature": math.inf}, "temperature must be a number >= 0, got inf"),
        ({"temperature": 1e39}, r"temperature must be a number >= 0, got 1e\+39"),
        ({"temperature": "hot"}, "temperature must be a number >= 0, got 'hot'"),
        ({"temperature": None}, "temperature must be a number >= 0, got None"),
        ({"temperature": True}, "temperature must be a number >= 0, got True"),
        ({"top_k": -1}, "top_k must be a whole number >= 0, got -1"),
        ({"top_k": 1.5}, "top_k must be a whole number >= 0, got 1.5"),
        ({"top_p": 0.0}, r"top_p must be a number in \(0, 1\], got 0.0"),
        ({"top_p": 1.1}, r"top_p must be a number in \(0, 1\], got 1.1"),
        ({"top_p": None}, r"top_p must be a number in \(0, 1\], got None"),
        ({"min_p": -0.1}, r"min_p must be a number in \[0, 1\], got -0.1"),
        ({"min_p": "x"}, r"min_p must be a number in \[0, 1\], got 'x'"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be a number > 0, got 0.0"),
        ({"repetition_penalty": "a"}, "repetition_penalty must be a number > 0, got 'a'"),
        ({"logit_bias": None}, "logit_bias must hold numbers by ids of tokens, got None"),
        ({"logit_bias": [1]}, r"logit_bias must hold numbers by ids of tokens, got \[1\]"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias needs ids of tokens, got -1"),
        ({"logit_bias": {"a": 1.0}}, "logit_bias needs ids of tokens, got 'a'"),
        ({"logit_bias": {True: 1.0}}, "logit_bias needs ids of tokens, got True"),
        ({"logit_bias": {3: math.nan}}, "logit_bias of token 3 must be a number or -inf, got nan"),
        ({"logit_bias": {3: math.inf}}, "logit_bias of token 3 must be a number or -inf, got inf"),
        ({"logit_bias": {3: 1e39}}, r"logit_bias of token 3 must be a number .* got 1e\+39"),
        ({"logit_bias": {3: "x"}}, "logit_bias of token 3 must be a number or -inf, got 'x'"),
        ({"allowed": ("a",)}, r"allowed must be a tuple of ids of tokens, got \('a',\)"),
        ({"allowed": (-1,)}, r"allowed must be a tuple of ids of tokens, got \(-1,\)"),
        ({"allowed": 5}, "allowed must be a tuple of ids of tokens, got 5"),
        ({"allowed": None}, "allowed must be a tuple of ids of tokens, got None"),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_its_value(fields, words):
    with pytest.raises(ConfigError, match=words):
        SamplerConfig(**fields)


def test_a_bias_beyond_the_vocabulary_is_refused():
    with pytest.raises(ConfigError, match="logit_bias names token 5 of 5"):
        Sampler(SamplerConfig(logit_bias={5: 1.0})).draw(LOGITS)


def test_a_bias_that_leaves_no_token_is_refused():
    """Else the first one would be drawn, which was forbidden like all others."""
    every = dict.fromkeys(range(5), -math.inf)
    with pytest.raises(ConfigError, match="logit_bias forbids all 5 tokens"):
        Sampler(SamplerConfig(logit_bias=every)).draw(LOGITS)
    assert Sampler(SamplerConfig(logit_bias=every | {2: -9.0})).draw(LOGITS) == 2


def test_tokens_that_are_banned_anyway_count_among_those_that_a_bias_forbids():
    config = SamplerConfig(logit_bias=dict.fromkeys(range(3), -math.inf))
    config.check_vocabulary(5, banned=(3,))
    with pytest.raises(ConfigError, match="logit_bias forbids all 5 tokens"):
        config.check_vocabulary(5, banned=(3, 4))
    SamplerConfig(logit_bias=config.logit_bias, allowed=(4,)).check_vocabulary(5, banned=(3, 4))


@pytest.mark.parametrize("top_k", [2**31, 2**32 + 1, 10**30])
def test_more_than_any_vocabulary_has_keeps_all(top_k):
    config = SamplerConfig(temperature=1.0, top_k=top_k)
    assert config == SamplerConfig(temperature=1.0)
    assert len({Sampler(config, seed).draw(LOGITS) for seed in range(200)}) == 5


@pytest.mark.parametrize("temperature", [1e-6, 1e-38, 1e-40, 1e-50])
def test_a_temperature_that_leaves_no_other_token_a_chance_is_greedy(temperature):
    config = SamplerConfig(temperature=temperature)
    assert config == SamplerConfig() and Sampler(config).draw(LOGITS) == 1


def test_a_bias_that_is_changed_later_changes_nothing():
    given = {0: 3.0}
    config = SamplerConfig(logit_bias=given)
    given[0] = -3.0
    assert Sampler(config).draw(LOGITS) == 0


def test_numbers_and_ids_of_arrays_are_taken_as_those_of_python():
    config = SamplerConfig(temperature=np.float32(0.5), top_p=np.float64(0.9), allowed=[5])
    assert (config.temperature, config.top_p, config.allowed) == (0.5, 0.9, (5,))
    assert type(config.temperature) is float
    penalty = SamplerConfig(repetition_penalty=1.2)
    for seen in ([1, 2], np.array([1, 2]), torch.tensor([1, 2])):
        assert Sampler(penalty, 3, seen=seen).seen == (1, 2)
    with pytest.raises(ConfigError, match="ids of tokens"):
        Sampler(penalty, 3, seen=np.array([0.5]))
