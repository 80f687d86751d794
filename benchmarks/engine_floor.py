"""What a step of a decoder cannot be faster than, on the GPU at hand."""

from __future__ import annotations

import functools
import statistics
from typing import TYPE_CHECKING

import torch
from torch.nn import Linear
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxtmodel import ReactiveTransformer


def gpu_ms(work: Callable[[], object], repeat: int = 10) -> float:
    """Milliseconds of GPU time of one call; the median of five runs of ``repeat``."""
    work()
    torch.cuda.synchronize()
    times = []
    for _ in range(5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeat):
            work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / repeat)
    return statistics.median(times)


@functools.cache
def bandwidth() -> float:
    """Bytes a second that a copy on the device reads and writes."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = gpu_ms(lambda: target.copy_(source)) / 1e3
    return 2 * source.numel() / seconds


def floor_ms(model: ReactiveTransformer, rows: int, tokens: int) -> float:
    """Weights once; of every row its memory's keys and values and ``tokens`` of its cache."""
    weights = sum(linear.weight.numel() for linear in _linears(model))
    config = model.config
    memory = sum(part.numel() for layer in _state(model) for part in layer)
    cache = 2 * config.num_causal_layers * config.attention.num_kv_heads * config.head_dim * tokens
    size = model.embedding.weight.element_size()
    return size * (weights + rows * (memory + cache)) / bandwidth() * 1e3


def products_ms(model: ReactiveTransformer, rows: int) -> float:
    """The matrix products of a step alone, as one graph."""
    dtype = model.embedding.weight.dtype
    joined: list[torch.Tensor] = []
    for layer in model.decoder:
        own, read = layer.attention, layer.memory_read.attention
        joined.append(torch.cat([p.weight for p in (own.q_proj, own.k_proj, own.v_proj)]))
        joined += [own.out_proj.weight, read.q_proj.weight, read.out_proj.weight]
        joined += [layer.ff.gate_up.weight, layer.ff.down.weight]
    joined.append(model.embedding.weight if model.head is None else model.head.weight)
    inputs = [torch.randn(rows, w.shape[1], device="cuda", dtype=dtype) for w in joined]

    def work() -> None:
        for x, weight in zip(inputs, joined, strict=True):
            F.linear(x, weight)

    with torch.inference_mode():
        work()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return gpu_ms(graph.replay)


@functools.cache
def rate() -> float:
    """Operations a second of a large product in bfloat16."""
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / (gpu_ms(lambda: a @ b) / 1e3)


def update_floor_ms(model: ReactiveTransformer, count: int, tokens: int) -> float:
    """Of ``count`` updates by interactions of ``tokens``: products, or what has to be moved."""
    layers, slots, width = model.config.memory_shape
    encoder = sum(m.weight.numel() for m in model.encoder.modules() if isinstance(m, Linear))
    own, write = model.encoder[0].attention, model.memory_write
    of_token = [write.attention.k_proj, write.attention.v_proj]
    of_slot = [write.attention.q_proj, write.attention.out_proj]
    attended = slots * tokens * write.attention.q_proj.weight.shape[2]
    if write.variant != "simple":
        pre = write.pre_attention
        of_slot += [pre.q_proj, pre.k_proj, pre.v_proj, pre.out_proj]
        attended += slots * slots * pre.q_proj.weight.shape[2]
    read = sum(part.numel() for layer in _state(model) for part in layer)
    products = tokens * encoder + layers * tokens**2 * 2 * len(own.q_proj.weight)
    products += tokens * sum(linear.weight.numel() for linear in of_token)
    products += slots * sum(linear.weight.numel() for linear in of_slot)
    products += layers * attended * 2 + read * width
    moved = 8 * layers * slots * width + model.embedding.weight.element_size() * read
    return count * max(2 * products / rate(), moved / bandwidth()) * 1e3


def _linears(model: ReactiveTransformer) -> list[Linear]:
    """Of a decoding step: the head, and the decoder but for the memory's keys and values."""
    found = [
        module
        for name, module in model.decoder.named_modules()
        if isinstance(module, Linear)
        and not name.endswith(("memory_read.attention.k_proj", "memory_read.attention.v_proj"))
    ]
    return [*found, *([] if model.head is None else [model.head])]


def _state(model: ReactiveTransformer) -> list[tuple[torch.Tensor, ...]]:
    with torch.inference_mode():
        return model.project_memory(model.initial_memory())
