"""Rows of different lengths: padded, or laid end to end, by each backend."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rxtmodel.backends import load_kernel
from rxtmodel.errors import BackendUnavailable

from .device_run import Run, in_turns
from .report import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxtmodel.backends import Backend, Kernel

BACKENDS: tuple[Backend, ...] = ("eager", "sdpa", "flash", "triton")
BATCHES = {
    "64 of 16 to 256 tokens, mini's heads": (64, 256, 8, 4, 32),
    "16 of 256 to 4,096 tokens, heads of 64": (16, 4096, 12, 12, 64),
}
"""Rows, tokens of the longest, query heads, key/value heads, their width."""
NOTES = (
    "rows of different lengths: as an encoder reads interactions; flash: the package flash-attn, "
    "or PyTorch's varlen_attn where it is not installed, and laying keys end to end is in its time",
    "off: from eager in float32 on the same values, of all that exists, |difference| / |value|",
)


def table(device: str, *, quick: bool) -> Table:
    """One row for each number of heads, forward and trained, and backend that can be had."""
    out = Table(
        "Rows of different lengths (bf16; medians)", ["rows", "backend", "ms", "over sdpa", "off"]
    )
    kernels = {name: kernel for name in BACKENDS if (kernel := _kernel(name)) is not None}
    for what, (rows, length, *heads) in BATCHES.items():
        q, k, v, mask = _batch(device, *((4, 16) if quick else (rows, length)), *heads)
        exact = load_kernel("eager")(q.float(), k.float(), v.float(), mask=mask)
        for backward in (False, True):
            parts = [x.clone().requires_grad_(backward) for x in (q, k, v)]
            rounds = in_turns(
                {
                    name: Run(_work(kernel, parts, mask, backward), device)
                    for name, kernel in kernels.items()
                }
            )
            for name, kernel in kernels.items():
                off = (kernel(*parts, mask=mask).detach() - exact) * mask[:, :, 0, :, None]
                share = off.norm() / (exact * mask[:, :, 0, :, None]).norm()
                seconds = statistics.median(times[name] for times in rounds)
                speed = statistics.median(times["sdpa"] / times[name] for times in rounds)
                kind = f"{what}, trained" if backward else what
                out.add(kind, name, seconds * 1e3, speed, share.item())
    return out


def _kernel(name: Backend) -> Kernel | None:
    try:
        return load_kernel(name)
    except BackendUnavailable:
        return None


def _batch(
    device: str, rows: int, length: int, heads: int, groups: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys and values as a projection leaves them, and which keys exist."""
    generator = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    q, k, v = (
        torch.randn(rows, length, n, width, generator=generator).to(device, dtype).transpose(1, 2)
        for n in (heads, groups, groups)
    )
    counts = torch.randint(length // 16, length + 1, (rows, 1), generator=generator)
    mask = torch.arange(length) < counts
    return q, k, v, mask[:, None, None].to(device)


def _work(
    kernel: Kernel, parts: list[Tensor], mask: Tensor, backward: bool
) -> Callable[[], object]:
    def work() -> None:
        with torch.set_grad_enabled(backward):
            out = kernel(*parts, mask=mask)
            if backward:
                out.sum().backward()

    return work
