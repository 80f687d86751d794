"""Mixtures of experts: both ways of computing them, and a balance that is reached by training."""

from __future__ import annotations

import pytest
import torch

from rxtmodel import Balance, ConfigError, ExpertsConfig, SqaLM, StackConfig
from rxtmodel.config import LmConfig
from rxtmodel.experts import Experts

DIM = 8


def build(**fields) -> Experts:
    config = ExpertsConfig(**{"num_experts": 6, "top_k": 2, "bias": "local", **fields})
    experts = Experts(StackConfig(ff_dim=5, experts=config), DIM)
    for p in experts.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return experts


def test_few_tokens_and_many_get_the_same_from_each_expert():
    """Three tokens gather their experts' matrices; forty are sorted by expert."""
    experts, x = build().double(), torch.randn(40, DIM, dtype=torch.float64)
    every = experts(x)
    for start in range(0, 40, 3):
        part = slice(start, start + 3)
        torch.testing.assert_close(experts(x[part]), every[part])


def test_a_token_does_not_depend_on_the_others():
    experts, x = build(num_shared=2), torch.randn(2, 20, DIM)
    changed = x.clone()
    changed[1] = 100 * torch.randn(20, DIM)
    torch.testing.assert_close(experts(x)[0], experts(changed)[0])


@pytest.mark.parametrize("count", [2, 40], ids=["few", "many"])
@pytest.mark.parametrize("fields", [{}, {"num_shared": 2}, {"num_shared": 1, "bias": "global"}])
def test_experts_are_differentiated_rightly(double, count, fields):
    experts = build(**fields).double()
    x = torch.randn(count, DIM, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(experts, [x], fast_mode=True)


def load(experts: Experts, x: torch.Tensor) -> torch.Tensor:
    """Share of selections of each expert."""
    chosen = experts._route(x).topk(experts.config.top_k).indices
    return torch.bincount(chosen.flatten(), minlength=6).float() / chosen.numel()


def collapsed() -> tuple[Experts, torch.Tensor]:
    """A router that sends nearly every token to the same two experts."""
    experts, x = build(), torch.randn(512, DIM)
    with torch.no_grad():
        x[:, 0] = 1.0
        experts.router.weight.mul_(0.3)
        experts.router.weight[:2, 0] += 4.0
    return experts, x


def imbalance(experts: Experts, x: torch.Tensor) -> torch.Tensor:
    balance = Balance()
    experts(x, balance)
    return balance.loss()


def test_the_loss_sees_a_collapse():
    experts, x = collapsed()
    before = float(imbalance(experts, x).detach())
    with torch.no_grad():
        experts.router.weight.zero_()
        experts.router.weight.normal_(std=1e-3)
    assert before > 2.5
    assert float(imbalance(experts, x).detach()) == pytest.approx(1.0, abs=0.02)


def test_training_on_the_loss_balances_a_collapsed_router():
    experts, x = collapsed()
    assert load(experts, x)[:2].sum() > 0.95
    optimiser = torch.optim.Adam(experts.router.parameters(), lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        imbalance(experts, x).backward()
        optimiser.step()
    assert imbalance(experts, x) < 1.1
    assert load(experts, x).max() < 0.30
    assert load(experts, x).min() > 0.05


def test_the_loss_is_the_formula_over_all_tokens():
    experts, x = build(), torch.randn(30, DIM)
    p = experts._route(x).detach()
    expected = 0.0
    for e in range(6):
        selected = sum(int(e in row.topk(2).indices) for row in p)
        expected += 6 * selected / 60 * float(p[:, e].mean())
    assert float(imbalance(experts, x).detach()) == pytest.approx(expected, rel=1e-5)


def test_shared_gates_are_drawn_to_equal_shares():
    experts, x = build(num_shared=4), torch.randn(30, DIM)
    share = experts._shared_weights(x).detach()
    alone = imbalance(experts, x).detach()
    experts.shared_gate.weight.data.zero_()
    even = imbalance(experts, x).detach()
    assert float(alone - even) == pytest.approx(float((share - 0.25).abs().mean()), rel=1e-4)


def test_padding_takes_no_part_in_the_balance():
    experts, x = build(num_shared=2), torch.randn(2, 6, DIM)
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    whole, cut = Balance(mask), Balance()
    experts(x, whole)
    experts(torch.cat((x[0], x[1, :2]))[None], cut)
    torch.testing.assert_close(whole.loss(), cut.loss())


def test_a_mask_of_a_tokenizer_is_taken_as_truth():
    experts, x = build(num_shared=2), torch.randn(2, 6, DIM)
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    whole, numbers = Balance(mask), Balance(mask.long())
    experts(x, whole)
    experts(x, numbers)
    assert torch.equal(whole.loss(), numbers.loss())


def test_a_mask_that_does_not_fit_is_refused():
    with pytest.raises(TypeError, match=r"got torch.float32; use mask.bool\(\)"):
        Balance(torch.ones(2, 6))
    with pytest.raises(ValueError, match="mask of 5 tokens does not fit 12 tokens"):
        build()(torch.randn(2, 6, DIM), Balance(torch.ones(1, 5, dtype=torch.bool)))


@pytest.mark.parametrize("fields", [{}, {"num_shared": 2}])
def test_where_all_is_padding_nothing_is_left_to_balance(fields):
    experts, x = build(**fields), torch.randn(2, 6, DIM)
    balance = Balance(torch.zeros(2, 6, dtype=torch.bool))
    experts(x, balance)
    balance.loss().backward()
    assert float(balance.loss().detach()) == 1.0
    assert not experts.router.weight.grad.any()


def test_a_model_without_experts_has_nothing_to_balance():
    model = SqaLM(LmConfig(vocab_size=20, embed_dim=8, head_dim=4, num_layers=1, ff_dim=8))
    balance = Balance()
    model.hidden(torch.randint(0, 20, (1, 4)), balance=balance)
    with pytest.raises(ValueError, match="no layer of this model has experts"):
        balance.loss()


def test_every_layer_with_experts_takes_part_in_the_balance():
    from .published_samples import BETA, tiny

    model, balance = tiny(BETA), Balance()
    model.hidden(torch.randint(11, 24, (1, 4)), model.initial_memory(), balance=balance)
    assert len(balance.losses) == 4 + 1 + 2


def test_a_router_may_compute_in_a_type_of_its_own():
    experts, x = build(router_dtype="bfloat16"), torch.randn(50, DIM)
    logits = (x.bfloat16() @ experts.router.weight.bfloat16().T).float()
    torch.testing.assert_close(experts._route(x), logits.softmax(-1))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"top_k": 7}, "top_k=7 must not exceed num_experts=6"),
        ({"bias": "loud"}, "bias must be one of.*'loud'"),
        ({"num_shared": -1}, "num_shared must be a whole number >= 0, got -1"),
        ({"router_dtype": "int8"}, "router_dtype must be one of.*'int8'"),
    ],
)
def test_experts_that_cannot_be_are_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        build(**fields)
