"""One training step over micro-batches: eager, or on a GPU two CUDA graphs with nothing between.

::

    for each micro-batch:   forward, backward      (graph 1)      gradients add up in one buffer
    sum over the ranks                             (all-reduce)   when there is more than one
    clip, update                                   (graph 2)

The result does not depend on how the micro-batches of a step are spread over ranks, but for the
order of a sum.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from .batch import DialogueBatch
    from .stages.memory_aware import MemoryAwareStage, StageOutput

_WARMUP_STEPS = 3

# Without cuDNN: it is chosen first on recent GPUs, plans anew for each shape, and is the suspect in
# a run that ended in NaN (docs/experiments.md).
_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@dataclass(slots=True)
class StepResult:
    """Means over the micro-batches of this rank, on the device; valid until the next step."""

    loss: Tensor
    token_accuracy: Tensor
    grad_norm: Tensor
    """Of this step, before clipping."""
    skipped: Tensor
    """How many updates were skipped so far because a gradient was not finite."""


class TrainStep:
    """Forward, backward, clip, update. The optimisers' learning rate is a tensor set by the caller.

    Capturing a graph needs a few real steps before it; parameters and optimiser state are put back
    afterwards, so that a captured run starts where an eager one would.

    Args:
        ranks: processes that share a step; each brings as many micro-batches.
    """

    def __init__(
        self,
        stage: MemoryAwareStage,
        optimisers: Sequence[torch.optim.Optimizer],
        *,
        clip: float,
        device: torch.device,
        ranks: int = 1,
    ) -> None:
        self._stage, self._optimisers, self._clip = stage, optimisers, clip
        self._device, self._ranks = device, ranks
        self._params = [p for p in stage.parameters() if p.requires_grad]
        self._skipped = torch.zeros((), device=device)
        self._grad_norm = torch.zeros((), device=device)
        # All gradients are views of one buffer: one memset, one all-reduce.
        self._grads = torch.zeros(sum(p.numel() for p in self._params), device=device)
        offset = 0
        for p in self._params:
            p.grad = self._grads[offset : offset + p.numel()].view_as(p)
            offset += p.numel()
        self._captured: tuple[torch.cuda.CUDAGraph, torch.cuda.CUDAGraph] | None = None
        self._input: DialogueBatch | None = None
        self._output: StageOutput | None = None

    def __call__(self, batches: Sequence[DialogueBatch]) -> StepResult:
        """Train on the micro-batches of one step."""
        graphed = self._device.type == "cuda"
        if graphed and self._captured is None:
            self._capture(batches[0])
        self._grads.zero_()
        loss = torch.zeros((), device=self._device)
        accuracy = torch.zeros((), device=self._device)
        for batch in batches:
            output = self._replay(batch) if graphed else self._backward(batch.to(self._device))
            loss += output.loss
            accuracy += output.token_accuracy
        count = len(batches)
        if self._ranks > 1:
            distributed.all_reduce(self._grads)
        self._grads /= count * self._ranks
        if graphed:
            self._captured[1].replay()
        else:
            self._update()
        return StepResult(loss / count, accuracy / count, self._grad_norm, self._skipped)

    def _replay(self, batch: DialogueBatch) -> StageOutput:
        for f in fields(batch):
            getattr(self._input, f.name).copy_(getattr(batch, f.name), non_blocking=True)
        self._captured[0].replay()
        return self._output

    def _backward(self, batch: DialogueBatch) -> StageOutput:
        with self._precision(), sdpa_kernel(_BACKENDS):
            output = self._stage(batch)
        output.loss.backward()
        return type(output)(output.loss.detach(), output.token_accuracy)

    def _update(self) -> None:
        norm = nn.utils.clip_grad_norm_(self._params, self._clip, foreach=True)
        # One gradient that is not finite would end the run: clipping has spread it to all of them,
        # so all become zero and the optimisers go on with their momentum.
        self._grad_norm.copy_(norm)
        self._skipped += (~norm.isfinite()).float()
        self._grads.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        for optimiser in self._optimisers:
            optimiser.step()

    def _precision(self) -> AbstractContextManager:
        if self._device.type != "cuda":
            return nullcontext()
        # The weight cache of autocast must not outlive a replay: weights change under it.
        return torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False)

    def _capture(self, batch: DialogueBatch) -> None:
        self._input = batch.to(self._device)
        saved = self._state()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARMUP_STEPS):
                self._backward(self._input)
                self._update()
        torch.cuda.current_stream().wait_stream(stream)
        self._restore(saved)
        self._skipped.zero_()
        backward, update = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # Capturing records, it does not run: state stays what was restored. Thread-local mode,
        # since a watchdog thread of torch.distributed may query events meanwhile.
        with torch.cuda.graph(backward, capture_error_mode="thread_local"):
            self._output = self._backward(self._input)
        with torch.cuda.graph(update, capture_error_mode="thread_local"):
            self._update()
        self._captured = backward, update

    def _state(self) -> tuple[list[Tensor], list[dict]]:
        weights = [p.detach().clone() for p in self._params]
        return weights, [_copy(optimiser.state) for optimiser in self._optimisers]

    def _restore(self, saved: tuple[list[Tensor], list[dict]]) -> None:
        weights, states = saved
        with torch.no_grad():
            for p, old in zip(self._params, weights, strict=True):
                p.copy_(old)
            for optimiser, old in zip(self._optimisers, states, strict=True):
                for p, values in optimiser.state.items():
                    for name, value in values.items():
                        before = old.get(p, {}).get(name)
                        value.zero_() if before is None else value.copy_(before)


def _copy(state: dict) -> dict:
    return {p: {k: v.clone() for k, v in values.items()} for p, values in state.items()}


def compile_layers(stage: MemoryAwareStage) -> None:
    """Compile what is run at one fixed shape in a phase; parameter names stay as they are."""
    model = stage.model
    for layer in (*model.encoder, *model.decoder):
        layer.compile(dynamic=False)
    if hasattr(model.memory_write, "prepare"):
        model.memory_write.prepare = torch.compile(model.memory_write.prepare, dynamic=False)
