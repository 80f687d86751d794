"""Drawing tokens: every setting against plain loops, alone and in a batch."""

from __future__ import annotations

import collections
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rxtmodel import ConfigError, Sampler, SamplerConfig
from rxtmodel.sampler import Rows, draw, keep_probable, rows_of, uniform

PROBABILITIES = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])
LOGITS = PROBABILITIES.log()


def kept(**fields) -> set[int]:
    config = SamplerConfig(temperature=1.0, **fields)
    logits = keep_probable(LOGITS[None], rows_of(config, len(LOGITS)))[0]
    return set(logits.isfinite().nonzero().flatten().tolist())


def frequencies(config: SamplerConfig, draws: int = 4000) -> torch.Tensor:
    """Of first tokens: each by a seed of its own."""
    counts = collections.Counter(Sampler(config, seed).draw(LOGITS) for seed in range(draws))
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
        (0.001, {1}),
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


@pytest.mark.parametrize(
    ("top_p", "expected"), [(0.3, {2}), (0.5, {0, 1, 2, 4}), (0.99, set(range(6)))]
)
def test_top_p_keeps_what_ties_with_the_token_that_crosses_it(top_p, expected):
    logits = torch.tensor([[0.2, 0.2, 0.35, 0.025, 0.2, 0.025]]).log()
    left = keep_probable(logits, Rows(top_p_B=torch.tensor([top_p])))
    assert set(left[0].isfinite().nonzero().flatten().tolist()) == expected


def test_top_p_counts_among_what_top_k_left():
    """Of 0.4 and 0.3 the first is 0.571: it alone reaches 0.55, but not 0.6."""
    assert kept(top_k=2, top_p=0.55) == {1}
    assert kept(top_k=2, top_p=0.6) == {1, 3}


@pytest.mark.parametrize(
    ("min_p", "expected"),
    [(0.0, {0, 1, 2, 3, 4}), (0.13, {1, 2, 3, 4}), (0.3, {1, 3, 4}), (0.8, {1}), (1.0, {1})],
)
def test_min_p_is_a_share_of_the_most_probable(min_p, expected):
    assert kept(min_p=min_p) == expected


def test_what_is_kept_keeps_its_logit():
    config = SamplerConfig(temperature=1.0, top_k=3, top_p=0.9, min_p=0.1)
    logits = keep_probable(LOGITS[None], rows_of(config, 5))[0]
    assert torch.equal(logits[[1, 3, 4]], LOGITS[[1, 3, 4]])


def test_draws_follow_the_probabilities():
    found = frequencies(SamplerConfig(temperature=1.0))
    torch.testing.assert_close(found, PROBABILITIES, atol=0.025, rtol=0)


def test_draws_of_one_answer_follow_them_too():
    sampler = Sampler(SamplerConfig(temperature=1.0), seed=1)
    drawn = torch.tensor([sampler.draw(LOGITS) for _ in range(4000)])
    found = drawn.bincount(minlength=5) / 4000
    torch.testing.assert_close(found, PROBABILITIES, atol=0.025, rtol=0)
    after = drawn[1:][drawn[:-1] == 1].bincount(minlength=5)
    torch.testing.assert_close(after / after.sum(), PROBABILITIES, atol=0.04, rtol=0)


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


def test_a_bias_forbids_and_forces():
    assert Sampler(SamplerConfig(logit_bias={1: -math.inf})).draw(LOGITS) == 3
    assert Sampler(SamplerConfig(logit_bias={0: 3.0})).draw(LOGITS) == 0
    sampler = Sampler(SamplerConfig(temperature=1.0, logit_bias={2: 50.0}), seed=3)
    assert {sampler.draw(LOGITS) for _ in range(50)} == {2}


def test_a_penalty_makes_what_was_said_less_probable():
    """Positive logits are divided and negative ones multiplied: both fall."""
    logits = torch.tensor([2.0, 1.8, -0.1, 1.7])
    sampler = Sampler(SamplerConfig(repetition_penalty=1.2))
    assert [sampler.draw(logits) for _ in range(3)] == [0, 1, 3]
    assert Sampler(SamplerConfig(repetition_penalty=1.2), seen=[0]).draw(logits) == 1
    negative = torch.tensor([-1.0, -1.1])
    assert Sampler(SamplerConfig(repetition_penalty=1.2), seen=[0]).draw(negative) == 1


def test_a_penalty_below_one_repeats():
    logits = torch.tensor([2.0, 1.9])
    assert Sampler(SamplerConfig(repetition_penalty=0.5), seen=[1]).draw(logits) == 1


def test_the_same_seed_draws_the_same():
    def draws(seed: int | None) -> list[int]:
        sampler = Sampler(SamplerConfig(temperature=1.0), seed)
        return [sampler.draw(LOGITS) for _ in range(40)]

    assert draws(3) == draws(3)
    assert len({tuple(draws(seed)) for seed in (3, 4, -3, 2**63 + 3, 2**40)}) == 5
    assert draws(None) != draws(None)


def test_drawing_leaves_the_global_generator_and_the_logits_alone():
    state, logits = torch.get_rng_state(), LOGITS.clone()
    config = SamplerConfig(
        temperature=1.0, top_k=2, top_p=0.5, min_p=0.1, repetition_penalty=2.0, logit_bias={0: 1.0}
    )
    Sampler(config, seed=1).draw(logits)
    Sampler(config).draw(logits)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits, LOGITS)


def test_numbers_of_a_seed_are_spread_evenly():
    seeds, counts = torch.arange(200).repeat_interleave(50), torch.arange(50).repeat(200)
    numbers = uniform(seeds, counts)
    assert 0 <= numbers.min() and numbers.max() < 1
    assert len(numbers.unique()) > 9990
    for part in (numbers, numbers[seeds == 7], numbers[counts == 7]):
        shares = torch.histc(part, 4, 0, 1) / len(part)
        assert (shares - 0.25).abs().max() < 3 * (0.1875 / len(part)) ** 0.5


def test_numbers_of_a_seed_never_change():
    """A saved seed has to draw the same in later versions."""
    found = uniform(torch.tensor([0, 1, -1, 2**62]), torch.tensor([0, 1, 2, 3]))
    torch.testing.assert_close(
        found,
        torch.tensor(
            [0.2817612886428833, 0.3681895136833191, 0.7408050298690796, 0.7448459267616272]
        ),
        atol=0,
        rtol=0,
    )


def plain_loops(logits, config: SamplerConfig, seen: set[int], number: float) -> int:
    """The same in Python, float64, one token at a time."""
    logits = [float(x) for x in logits]
    for token in seen:
        x = logits[token]
        by = config.repetition_penalty
        logits[token] = x / by if x > 0 else x * by
    for token, bias in config.logit_bias.items():
        logits[token] += bias
    if config.temperature == 0:
        return max(range(len(logits)), key=lambda i: (logits[i], -i))
    logits = [x / config.temperature for x in logits]
    left = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    if config.top_k:
        least = logits[left[min(config.top_k, len(left)) - 1]]
        left = [i for i in left if logits[i] >= least]
    highest = max(logits[i] for i in left)
    weight = {i: math.exp(logits[i] - highest) for i in left}
    total, before, reached = sum(weight.values()), 0.0, []
    for i in left:
        if before / total < config.top_p:
            reached.append(i)
        before += weight[i]
    reached = [i for i in left if logits[i] >= logits[reached[-1]]]
    left = [i for i in reached if weight[i] >= config.min_p * max(weight.values())]
    total, sum_so_far = sum(weight[i] for i in left), 0.0
    for i in sorted(left):
        sum_so_far += weight[i]
        if sum_so_far > number * total:
            return i
    raise AssertionError("no token was reached")


configs = st.builds(
    SamplerConfig,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.integers(0, 9),
    top_p=st.sampled_from([0.2, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.4]),
    repetition_penalty=st.sampled_from([0.8, 1.0, 1.5]),
    logit_bias=st.dictionaries(st.integers(0, 6), st.sampled_from([-math.inf, -1.0, 2.0])),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(configs, min_size=1, max_size=5), st.integers(0, 2**31), st.booleans())
def test_a_batch_draws_what_each_row_draws_alone_and_what_plain_loops_draw(rows, seed, tied):
    """Rows of a batch have settings of their own; neutral ones stand for what one leaves out."""
    generator = torch.Generator().manual_seed(seed)
    count, size = len(rows), 8
    logits = torch.randn(count, size, generator=generator) * 3
    logits = logits.round() if tied else logits
    seen = torch.rand(count, size, generator=generator) < 0.3
    seeds = torch.arange(count) + seed
    numbers = uniform(seeds, torch.zeros(count, dtype=torch.int64))
    bias = torch.zeros(count, size)
    for row, config in enumerate(rows):
        for token, value in config.logit_bias.items():
            bias[row, token] = value
    together = draw(
        logits,
        Rows(
            temperature_B=torch.tensor([c.temperature for c in rows]),
            top_k_B=torch.tensor([c.top_k for c in rows]),
            top_p_B=torch.tensor([c.top_p for c in rows]),
            min_p_B=torch.tensor([c.min_p for c in rows]),
            penalty_B=torch.tensor([c.repetition_penalty for c in rows]),
            seen_BV=seen,
            bias_BV=bias,
        ),
        numbers,
    )
    for row, config in enumerate(rows):
        said = set(seen[row].nonzero().flatten().tolist())
        alone = Sampler(config, int(seeds[row]), seen=said).draw(logits[row])
        assert alone == int(together[row])
        assert alone == plain_loops(logits[row], config, said, float(numbers[row]))


def test_rows_that_want_nothing_are_greedy():
    assert draw(torch.stack((LOGITS, -LOGITS)), Rows()).tolist() == [1, 0]


@pytest.mark.parametrize("seen", [[-1], ["a"], [True], [0, 1.0]])
def test_what_was_seen_must_be_ids(seen):
    with pytest.raises(ConfigError, match=f"seen must hold ids of tokens, got {seen[-1]!r}"):
        Sampler(SamplerConfig(repetition_penalty=2.0), seen=seen)


def test_what_was_seen_must_be_in_the_vocabulary():
    with pytest.raises(ConfigError, match="seen names token 5 of 5"):
        Sampler(SamplerConfig(repetition_penalty=2.0), seen=[1, 5]).draw(LOGITS)


@pytest.mark.parametrize("seed", ["a", 1.5, True])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(ConfigError, match=f"seed must be a whole number or None, got {seed!r}"):
        Sampler(SamplerConfig(temperature=1.0), seed)


@pytest.mark.parametrize("config", [SamplerConfig(), SamplerConfig(temperature=1.0)])
def test_logits_of_several_rows_are_refused(config):
    """Of two rows the largest is at a place that is no token."""
    with pytest.raises(ValueError, match=r"of one row, \[V\], got \[2, 5\]"):
        Sampler(config).draw(torch.stack((LOGITS, LOGITS + 1)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graph_on_a_gpu_draws_what_a_cpu_draws():
    """Captured, so that nothing in it waits for the host or depends on a value."""
    size, count = 2048, 64
    logits = torch.randn(count, size) * 3
    rows = Rows(
        temperature_B=torch.linspace(0, 2, count),
        top_k_B=torch.arange(count) % 50,
        top_p_B=torch.linspace(0.5, 1, count),
        min_p_B=torch.linspace(0, 0.1, count),
        penalty_B=torch.linspace(0.8, 1.5, count),
        seen_BV=torch.rand(count, size) < 0.1,
        bias_BV=torch.randn(count, size),
    )
    seeds, steps = torch.arange(count), torch.zeros(count, dtype=torch.int64)
    on_gpu = Rows(*(part.cuda() for part in rows))
    given, places = logits.cuda(), (seeds.cuda(), steps.cuda())
    draw(given, on_gpu, uniform(*places))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = draw(given, on_gpu, uniform(*places))
    same = 0
    for step in range(20):
        logits = torch.randn(count, size) * 3
        given.copy_(logits)
        places[1].fill_(step)
        graph.replay()
        same += int((drawn.cpu() == draw(logits, rows, uniform(seeds, steps + step))).sum())
    # Sums in another order: a number next to a border may fall on its other side.
    assert same >= 20 * count - 2
