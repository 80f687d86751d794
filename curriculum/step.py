"""One training step: eager, or on a GPU the whole of it replayed as one CUDA graph."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from .batch import DialogueBatch
    from .stages.memory_aware import MemoryAwareStage, StageOutput

_WARMUP_STEPS = 3


class TrainStep:
    """Forward, backward, clip, update. The optimisers' learning rate is a tensor set by the caller.

    On a GPU the first batch of a shape is run eagerly a few times on scratch copies of nothing:
    parameters and optimiser state are saved before the warm-up and restored after it, so that the
    captured run starts where an eager one would.
    """

    def __init__(
        self,
        stage: MemoryAwareStage,
        optimisers: Sequence[torch.optim.Optimizer],
        *,
        clip: float,
        device: torch.device,
    ) -> None:
        self._stage, self._optimisers, self._clip = stage, optimisers, clip
        self._device = device
        self._params = [p for p in stage.parameters() if p.requires_grad]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._input: DialogueBatch | None = None
        self._output: StageOutput | None = None

    def __call__(self, batch: DialogueBatch) -> StageOutput:
        """Train on one batch; the result stays on the device and is valid until the next call."""
        if self._device.type != "cuda":
            return self._eager(batch.to(self._device))
        if self._input is None or self._input.turns_BTW.shape != batch.turns_BTW.shape:
            self._capture(batch)
        for f in fields(batch):
            getattr(self._input, f.name).copy_(getattr(batch, f.name), non_blocking=True)
        self._graph.replay()
        return self._output

    def _eager(self, batch: DialogueBatch) -> StageOutput:
        with self._precision():
            output = self._stage(batch)
        for p in self._params:
            p.grad = None
        output.loss.backward()
        nn.utils.clip_grad_norm_(self._params, self._clip, foreach=True)
        for optimiser in self._optimisers:
            optimiser.step()
        return type(output)(output.loss.detach(), output.token_accuracy)

    def _precision(self) -> AbstractContextManager:
        if self._device.type != "cuda":
            return nullcontext()
        # The weight cache of autocast must not outlive a replay: weights change under it.
        return torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False)

    def _capture(self, batch: DialogueBatch) -> None:
        self._graph = self._output = None
        self._input = batch.to(self._device)
        saved = self._state()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARMUP_STEPS):
                self._eager(self._input)
        torch.cuda.current_stream().wait_stream(stream)
        self._restore(saved)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = self._eager(self._input)
        # Capturing records, it does not run: state is still what was restored.

    def _state(self) -> tuple[list[Tensor], list[dict[int, dict[str, Tensor]]]]:
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
