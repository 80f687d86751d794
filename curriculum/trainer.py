"""The training loop: phases, schedule, log, checkpoints; resumes to the exact next loss."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .dialogue_data import BatchShape, DialogueBatches, Encode, batches
from .optim import build_optimisers, trapezoid
from .step import TrainStep, compile_layers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .dialogues import Mix
    from .stages.memory_aware import MemoryAwareStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a run with one batch shape and one mix of turns."""

    steps: int
    shape: BatchShape
    mix: Mix


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides the result of a run, besides the model."""

    phases: tuple[Phase, ...]
    lr: float = 2e-3
    warmup: int = 100
    """Steps of linear warm-up."""
    decay: float = 0.4
    """Share of all steps over which the learning rate falls to 3 %."""
    weight_decay: float = 0.02
    clip: float = 1.0
    micro_batches: int = 1
    """Batches of a step, shared out over the ranks: a multiple of their number."""
    muon: bool = True
    seed: int = 0

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


class TrainingDiverged(Exception):
    """The loss is not a finite number any more. The last checkpoint is from before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is reported every ``log_every`` steps."""

    step: int
    steps: int
    loss: float
    token_accuracy: float
    steps_per_second: float
    grad_norm: float
    """Before clipping, of the reported step."""
    skipped: int
    """Updates skipped in this phase because a gradient was not finite."""


class Trainer:
    """Trains a stage's model on generated dialogues.

    Args:
        folder: checkpoint and log go here; a checkpoint found there is resumed.
        workers: processes that draw batches.
        rank, ranks: this process and how many share the run (``torch.distributed`` is up then).
        log_every: steps between log lines (and synchronisations with the device).
        save_every: seconds between checkpoints.
    """

    def __init__(
        self,
        stage: MemoryAwareStage,
        config: TrainConfig,
        encode: Encode,
        *,
        folder: Path,
        device: torch.device,
        workers: int = 0,
        log_every: int = 50,
        save_every: float = 60.0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if config.micro_batches % ranks:
            raise ValueError(
                f"{config.micro_batches} micro-batches cannot be shared by {ranks} ranks; "
                "run on a number of devices that divides them"
            )
        self.stage, self.config, self.folder = stage, config, folder
        self._encode, self._device, self._workers = encode, device, workers
        self._log_every, self._save_every = log_every, save_every
        self._rank, self._ranks = rank, ranks
        self._lr = torch.tensor(config.lr, device=device)
        self._optimisers = build_optimisers(
            stage.model, self._lr, muon=config.muon, weight_decay=config.weight_decay
        )
        self.step = 0
        self._in_step = False
        folder.mkdir(parents=True, exist_ok=True)
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            compile_layers(stage)

    def run(
        self,
        *,
        report: Callable[[Progress], None] = lambda _: None,
        seconds: float | None = None,
    ) -> bool:
        """Train to the end, or for ``seconds``; True when the run is complete.

        Ctrl-C saves before it is raised again.
        """
        deadline = time.monotonic() + seconds if seconds is not None else None
        try:
            first = 0
            for phase in self.config.phases:
                last = first + phase.steps
                if self.step < last and not self._run_phase(phase, first, last, report, deadline):
                    return self.step == self.config.steps
                first = last
        finally:
            # Half a step is not a state to resume from: the last checkpoint stands.
            if not self._in_step:
                self.save()
        return True

    def _run_phase(
        self,
        phase: Phase,
        first: int,
        last: int,
        report: Callable[[Progress], None],
        deadline: float | None,
    ) -> bool:
        config = self.config
        train = TrainStep(
            self.stage,
            self._optimisers,
            clip=config.clip,
            device=self._device,
            ranks=self._ranks,
        )
        data = DialogueBatches(self._encode, phase.shape, phase.mix, config.seed)
        share, micro = config.micro_batches // self._ranks, config.micro_batches
        mine = [
            step * micro + self._rank * share + part
            for step in range(self.step, last)
            for part in range(share)
        ]
        source = batches(data, mine, workers=self._workers)
        since, counted, saved = time.monotonic(), 0, time.monotonic()
        while self.step < last:
            factor = trapezoid(self.step, config.steps, warmup=config.warmup, decay=config.decay)
            self._lr.fill_(config.lr * factor)
            parts = [next(source) for _ in range(share)]
            self._in_step = True
            output = train(parts)
            self.step += 1
            self._in_step = False
            counted += 1
            if self.step % self._log_every == 0 or self.step == last:
                loss, accuracy = output.loss.item(), output.token_accuracy.item()
                if not math.isfinite(loss):
                    self._in_step = True  # nothing of this is to be saved
                    raise TrainingDiverged(
                        f"the loss is {loss} at step {self.step}, {output.skipped.item():.0f} "
                        f"updates were skipped; {self._checkpoint} is from before that, "
                        f"lower lr={config.lr}"
                    )
                now = time.monotonic()
                progress = Progress(
                    step=self.step,
                    steps=config.steps,
                    loss=loss,
                    token_accuracy=accuracy,
                    steps_per_second=counted / (now - since),
                    grad_norm=output.grad_norm.item(),
                    skipped=int(output.skipped.item()),
                )
                self._log(progress)
                report(progress)
                since, counted = now, 0
                if now - saved > self._save_every:
                    self.save()
                    saved = now
            # Ranks have to agree, which costs a synchronisation: only where there is one anyway.
            reported = self.step % self._log_every == 0
            if (reported or self._ranks == 1) and self._over(deadline):
                return False
        return True

    def _over(self, deadline: float | None) -> bool:
        """Whether the time is up, the same answer on every rank."""
        if deadline is None:
            return False
        late = time.monotonic() > deadline
        if self._ranks == 1:
            return late
        votes = torch.tensor(float(late), device=self._device)
        torch.distributed.all_reduce(votes)
        return votes.item() > 0

    def _log(self, progress: Progress) -> None:
        if self._rank:
            return
        line = {
            "step": progress.step,
            "loss": round(progress.loss, 5),
            "token_accuracy": round(progress.token_accuracy, 5),
            "lr": round(self._lr.item(), 8),
            "grad_norm": round(progress.grad_norm, 4),
            "skipped": progress.skipped,
            "steps_per_second": round(progress.steps_per_second, 2),
        }
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Write everything that the next step depends on; the file is replaced atomically."""
        if self._rank:
            return
        state: dict[str, Any] = {
            "step": self.step,
            "model": self.stage.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
        }
        temporary = self._checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self._checkpoint)

    def resume(self) -> bool:
        """Continue from the folder's checkpoint; False when there is none."""
        if not self._checkpoint.exists():
            return False
        state = torch.load(self._checkpoint, map_location=self._device, weights_only=True)
        self.stage.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
            for group in optimiser.param_groups:
                group["lr"] = self._lr
        self.step = state["step"]
        return True
