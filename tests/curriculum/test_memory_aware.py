"""The memory-aware stage against living through each dialogue alone, a turn at a time."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from curriculum.batch import DialogueBatch
from curriculum.optim import build_optimisers
from curriculum.stages.memory_aware import MemoryAwareStage

from .tiny import FIRST, SHAPE, VARIANTS, batch, tiny_model

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def whole(ids: torch.Tensor) -> torch.Tensor:
    """Ids [W] without padding, as a batch of one."""
    return ids[ids != 0].long()[None]


def lived(model, turns_TW: torch.Tensor) -> list[torch.Tensor]:
    """The memories of one dialogue, before the first turn and after each."""
    memory = model.initial_memory()
    states = [memory]
    for turn in turns_TW:
        memory = model.attend(memory, model.encode(whole(turn)))
        states.append(memory)
    return states


def plain_loss(model, b: DialogueBatch) -> tuple[float, float]:
    """Mean cross-entropy and accuracy over all scored tokens, probe by probe."""
    losses, right = [], []
    for row, turns in enumerate(b.turns_BTW):
        states = lived(model, turns)
        for r, state in enumerate(b.states_R.tolist()):
            for ids, scored in zip(b.probes_BRPW[row, r], b.targets_BRPW[row, r], strict=True):
                text = whole(ids)
                logits = model(text[:, :-1], states[state])[0]
                for t in range(1, text.shape[1]):
                    if scored[t]:
                        losses.append(F.cross_entropy(logits[t - 1], text[0, t]).item())
                        right.append(logits[t - 1].argmax().item() == text[0, t].item())
    return sum(losses) / len(losses), sum(right) / len(right)


@every_variant
def test_states_are_those_of_living_turn_by_turn(variant):
    model, b = tiny_model(variant).requires_grad_(False), batch()
    states = MemoryAwareStage(model).memory_states(b.turns_BTW)
    assert states.shape == (5, model.config.num_layers, 3, 6, 16)
    for row in range(3):
        expected = torch.stack(lived(model, b.turns_BTW[row]))[:, :, 0]
        torch.testing.assert_close(states[:, :, row], expected, atol=2e-5, rtol=1e-4)


@every_variant
def test_the_loss_is_the_mean_over_all_scored_tokens(variant):
    model, b = tiny_model(variant).requires_grad_(False), batch()
    output = MemoryAwareStage(model)(b)
    loss, accuracy = plain_loss(model, b)
    assert output.loss.item() == pytest.approx(loss, abs=1e-4)
    assert output.token_accuracy.item() == pytest.approx(accuracy, abs=1e-6)


def test_a_probe_that_fills_its_row_is_scored_once():
    """Its last token is the last of the row, where the positions that are looked at are clamped."""
    model, b = tiny_model().requires_grad_(False), batch()
    width = int((b.probes_BRPW != 0).sum(-1).max())
    probes, targets = b.probes_BRPW[..., :width], b.targets_BRPW[..., :width]
    assert targets[..., -1].any()
    full = dataclasses.replace(b, probes_BRPW=probes, targets_BRPW=targets)
    expected, _ = plain_loss(model, b)
    assert MemoryAwareStage(model)(full).loss.item() == pytest.approx(expected, abs=1e-4)


def test_tokens_beyond_the_longest_answer_are_not_scored():
    model, b = tiny_model().requires_grad_(False), batch()
    cut = b.targets_BRPW & (b.targets_BRPW.cumsum(-1) <= 2)
    expected, _ = plain_loss(model, dataclasses.replace(b, targets_BRPW=cut))
    found = MemoryAwareStage(model, max_answer=2)(b).loss.item()
    assert found == pytest.approx(expected, abs=1e-4)


def other_ids(ids: torch.Tensor) -> torch.Tensor:
    """Other words in the same places."""
    return torch.where(ids >= FIRST, FIRST + (ids - FIRST + 7) % 50, ids)


@every_variant
def test_a_later_turn_changes_no_earlier_state(variant):
    stage, b = MemoryAwareStage(tiny_model(variant)).requires_grad_(False), batch()
    changed = b.turns_BTW.clone()
    changed[:, 2] = other_ids(changed[:, 2])
    before, after = stage.memory_states(b.turns_BTW), stage.memory_states(changed)
    assert torch.equal(before[:3], after[:3])
    assert not torch.allclose(before[3], after[3])
    assert not torch.allclose(before[4], after[4])


@every_variant
def test_one_dialogue_has_no_part_in_another(variant):
    """Neither in its states nor, through gradients, in its loss."""
    stage, b = MemoryAwareStage(tiny_model(variant)).requires_grad_(False), batch()
    changed = dataclasses.replace(b, turns_BTW=b.turns_BTW.clone())
    changed.turns_BTW[0] = other_ids(changed.turns_BTW[0])
    only_last = b.targets_BRPW.clone()
    only_last[:2] = False
    losses = []
    for one in (b, changed):
        losses.append(stage(dataclasses.replace(one, targets_BRPW=only_last)).loss)
        states = stage.memory_states(one.turns_BTW)
        if one is b:
            first = states
    assert torch.equal(*losses)
    assert torch.equal(first[:, :, 1:], states[:, :, 1:])
    assert not torch.allclose(first[-1, :, 0], states[-1, :, 0])


def test_a_probe_is_answered_but_not_remembered():
    stage, b = MemoryAwareStage(tiny_model()).requires_grad_(False), batch()
    changed = b.probes_BRPW.clone()
    changed[:, 0] = other_ids(changed[:, 0])
    last = b.targets_BRPW.clone()
    last[:, :-1] = False
    losses = [
        stage(dataclasses.replace(b, probes_BRPW=p, targets_BRPW=last)).loss
        for p in (b.probes_BRPW, changed)
    ]
    assert torch.equal(*losses)


@every_variant
def test_the_loss_reaches_every_weight(variant):
    model = tiny_model(variant, **({} if variant == "delta" else {"slot_ids": True}))
    MemoryAwareStage(model)(batch()).loss.backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("variant", ["delta", "self-interlayer"])
def test_the_gradient_crosses_every_update(variant):
    """What is asked at the end teaches how the first turn was encoded."""
    model, b = tiny_model(variant), batch()
    seen = []
    encode = model.encode

    def watched(ids, mask):
        seen.append(encode(ids, mask))
        seen[-1].retain_grad()
        return seen[-1]

    model.encode = watched
    last = b.targets_BRPW.clone()
    last[:, :-1] = False
    MemoryAwareStage(model)(dataclasses.replace(b, targets_BRPW=last)).loss.backward()
    per_turn = seen[0].grad.unflatten(1, (4, 3)).abs().sum(dim=(0, 2, 3, 4))
    assert (per_turn > 0).all()


@pytest.mark.parametrize("muon", [True, False], ids=["muon", "adamw"])
def test_a_few_dozen_steps_learn_a_batch_by_heart(muon):
    model, b = tiny_model(), batch(shape=dataclasses.replace(SHAPE, dialogues=2))
    stage = MemoryAwareStage(model)
    optimisers = build_optimisers(model, torch.tensor(0.02), muon=muon, weight_decay=0.0)
    losses = []
    for _ in range(50):
        loss = stage(b).loss
        model.zero_grad()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 3.5
    assert losses[-1] < 0.25 * losses[0]
