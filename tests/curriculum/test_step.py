"""A step of several micro-batches, shared by ranks; and steps that go wrong."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

from curriculum.trainer import TrainingDiverged

from .test_trainer import CONFIG, state, trainer

SHARED = dataclasses.replace(CONFIG, micro_batches=2)


def test_two_ranks_share_a_step_and_reach_the_weights_of_one(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert trainer(alone, SHARED).run()
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29517",
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(together)], env=environment | {"RANK": str(rank)}
        )
        for rank in range(2)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    one, two = state(alone), state(together)
    assert one["step"] == two["step"]
    for name, weight in one["model"].items():
        torch.testing.assert_close(weight, two["model"][name], rtol=1e-3, atol=1e-5)


def test_micro_batches_that_the_ranks_cannot_share_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 micro-batches cannot be shared by 3 ranks"):
        trainer(tmp_path, SHARED, ranks=3)


def test_an_update_with_a_gradient_that_is_not_finite_is_skipped(tmp_path):
    run = trainer(tmp_path)
    run.stage.model.embedding.weight.register_hook(
        lambda grad: grad * float("nan") if run.step == 1 else grad
    )
    assert run.run()
    assert all(p.isfinite().all() for p in run.stage.model.parameters())


def test_a_diverged_run_says_so_and_keeps_its_last_checkpoint(tmp_path):
    run = trainer(tmp_path)
    run.save()
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with torch.no_grad():
        run.stage.model.embedding.weight.fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="the loss is nan at step 1, 1 updates were skipped"):
        run.run()
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not (tmp_path / "log.jsonl").exists()


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    trainer(Path(sys.argv[1]), SHARED, rank=distributed.get_rank(), ranks=2).run()
    distributed.destroy_process_group()
