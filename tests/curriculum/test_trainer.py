"""A run that is stopped and resumed is the run that was never stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from curriculum.dialogue_data import BatchShape
from curriculum.dialogues import Mix
from curriculum.optim import build_optimisers, trapezoid
from curriculum.stages.memory_aware import MemoryAwareStage
from curriculum.trainer import Phase, Progress, TrainConfig, Trainer

from .tiny import batch, encode, tiny_model

MIX = Mix(max_facts=2)
PHASES = (
    Phase(steps=3, mix=MIX, shape=BatchShape(dialogues=3, turns=2, states=1, probes=2)),
    Phase(steps=3, mix=MIX, shape=BatchShape(dialogues=2, turns=4, states=2, probes=1)),
)
CONFIG = TrainConfig(phases=PHASES, lr=0.01, warmup=2)


def trainer(folder: Path, config: TrainConfig = CONFIG, **settings) -> Trainer:
    options = {"log_every": 1, "save_every": 1e9, **settings}
    stage = MemoryAwareStage(tiny_model())
    return Trainer(stage, config, encode, folder=folder, device=torch.device("cpu"), **options)


def log(folder: Path) -> list[dict]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]


def state(folder: Path) -> dict:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_same(one, other) -> None:
    """To the last bit, however deep."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one == other


@pytest.fixture(scope="module", params=[True, False], ids=["muon", "adamw"])
def uninterrupted(request, tmp_path_factory) -> tuple[Path, TrainConfig]:
    folder = tmp_path_factory.mktemp("whole")
    config = dataclasses.replace(CONFIG, muon=request.param)
    assert trainer(folder, config).run()
    return folder, config


def test_a_run_stopped_after_every_step_is_the_same_run(uninterrupted, tmp_path):
    whole, config = uninterrupted
    stops = []
    for attempt in range(6):
        part = trainer(tmp_path, config)
        assert part.resume() == (attempt > 0)
        stops.append(part.run(seconds=0))
    assert stops == [False] * 5 + [True]
    assert log(tmp_path) == log(whole)
    assert_same(state(tmp_path), state(whole))


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_run_interrupted_from_the_keyboard_is_the_same_run(uninterrupted, tmp_path, step):
    whole, config = uninterrupted

    def interrupt(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, config).run(report=interrupt)
    again = trainer(tmp_path, config)
    assert again.resume()
    assert again.step == step
    assert again.run()
    assert log(tmp_path) == log(whole)
    assert_same(state(tmp_path), state(whole))


def test_how_batches_are_prepared_changes_nothing(uninterrupted, tmp_path):
    whole, config = uninterrupted
    trainer(tmp_path, config, workers=1, log_every=100).run()
    assert_same(state(tmp_path), state(whole))


def test_a_trainer_step_is_forward_backward_clip_update(tmp_path):
    config = dataclasses.replace(CONFIG, phases=(Phase(steps=1, mix=MIX, shape=PHASES[0].shape),))
    found = trainer(tmp_path, config)
    found.run()
    model = tiny_model()
    lr = torch.tensor(config.lr * trapezoid(0, 1, warmup=2, decay=config.decay))
    optimisers = build_optimisers(model, lr, muon=True, weight_decay=config.weight_decay)
    loss = MemoryAwareStage(model)(batch(shape=PHASES[0].shape, max_facts=2)).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    for optimiser in optimisers:
        optimiser.step()
    for name, p in found.stage.model.named_parameters():
        torch.testing.assert_close(p, model.get_parameter(name), atol=1e-4, rtol=1e-3)
    assert log(tmp_path)[0]["loss"] == pytest.approx(loss.item(), abs=2e-5)


def test_every_step_is_logged_and_reported(tmp_path):
    reported: list[Progress] = []
    trainer(tmp_path).run(report=reported.append)
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == [p.step for p in reported] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in lines] == [round(p.loss, 5) for p in reported]
    factors = [trapezoid(s, 6, warmup=2, decay=0.4) for s in range(6)]
    assert [line["lr"] for line in lines] == pytest.approx([0.01 * f for f in factors], abs=1e-7)
    assert all(p.steps == 6 and p.steps_per_second > 0 for p in reported)
    assert all(0 <= line["token_accuracy"] <= 1 for line in lines)


def test_a_rare_log_has_the_last_step_of_every_phase(tmp_path):
    trainer(tmp_path, log_every=100).run()
    assert [line["step"] for line in log(tmp_path)] == [3, 6]


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path):
    fresh = trainer(tmp_path / "new" / "folder")
    assert not fresh.resume()
    assert fresh.step == 0


def test_a_complete_run_stays_as_it_is(tmp_path):
    trainer(tmp_path).run()
    before, lines = state(tmp_path), log(tmp_path)
    again = trainer(tmp_path)
    again.resume()
    assert again.run(seconds=0)
    for part in ("step", "model"):
        assert_same(state(tmp_path)[part], before[part])
    assert log(tmp_path) == lines


def test_a_crash_while_saving_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    trainer(tmp_path).run(seconds=0)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def half(_state, path) -> None:
        Path(path).write_bytes(before[: len(before) // 2])
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        broken = trainer(tmp_path)
        broken.resume()
        with pytest.raises(OSError, match="no space left"):
            broken.run(seconds=0)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    again = trainer(tmp_path)
    assert again.resume()
    assert again.step == 1
    assert again.run()
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "log.jsonl"}


def test_checkpoints_are_written_on_the_way(tmp_path):
    seen = []

    def look(progress: Progress) -> None:
        exists = (tmp_path / "checkpoint.pt").exists()
        seen.append(state(tmp_path)["step"] if exists else None)

    trainer(tmp_path, save_every=0).run(report=look)
    assert seen == [None, 1, 2, 3, 4, 5]


def test_the_seed_decides_the_run(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        config = dataclasses.replace(CONFIG, seed=seed)
        trainer(tmp_path / name, config).run(seconds=0)
    assert log(tmp_path / "a") != log(tmp_path / "b")
