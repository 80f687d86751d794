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

BACKENDS: tuple[Backend, ...] = ("sdpa", "flash", "triton")
BATCHES = {
    "64 of 16 to 256 tokens, mini's heads": (64, 256, 8, 4, 32),
    "16 of 256 to 4,096 tokens, heads of 64": (16, 4096, 12, 12, 64),
}
"""Rows, tokens of the longest, query heads, key/value heads, their width."""
NOTES = (
    "rows of different lengths: as an encoder reads interactions; flash: the package flash-attn, "
    "or PyTorch's varlen_attn where it is not installed, and laying keys end to end is in its "
    "time; triton trains as sdpa does",
    "off: from sdpa in float32 on the same values, |difference| / |value|: of what comes out, or "
    "of the gradients of its sum",
)


def table(device: str, *, quick: bool) -> Table:
    """One row for each number of heads, forward and trained, and backend that can be had."""
    out = Table(
        "Rows of different lengths (bf16; medians)", ["rows", "backend", "ms", "over sdpa", "off"]
    )
    kernels = {name: kernel for name in BACKENDS if (kernel := _kernel(name)) is not None}
    for what, (rows, length, *heads) in BATCHES.items():
        q, k, v, mask = _batch(device, *((4, 16) if quick else (rows, length)), *heads)
        for trained in (False, True):
            parts = [x.clone().requires_grad_(trained) for x in (q, k, v)]
            work = {name: _work(kernel, parts, mask) for name, kernel in kernels.items()}
            rounds = in_turns({name: Run(run, device) for name, run in work.items()})
            wide = [x.detach().float().requires_grad_(trained) for x in parts]
            exact = _work(load_kernel("sdpa"), wide, mask)()
            for name, run in work.items():
                off = sum((a.float() - b).norm() ** 2 for a, b in zip(run(), exact, strict=True))
                share = (off / sum(x.norm() ** 2 for x in exact)) ** 0.5
                seconds = statistics.median(times[name] for times in rounds)
                speed = statistics.median(times["sdpa"] / times[name] for times in rounds)
                kind = f"{what}, trained" if trained else what
                out.add(kind, name, seconds * 1e3, speed, float(share))
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


def _work(kernel: Kernel, parts: list[Tensor], mask: Tensor) -> Callable[[], list[Tensor]]:
    """What comes out; of what is trained the gradients of its sum."""

    def work() -> list[Tensor]:
        if not parts[0].requires_grad:
            with torch.inference_mode():
                return [kernel(*parts, mask=mask)]
        return list(torch.autograd.grad(kernel(*parts, mask=mask).sum(), parts))

    return work
