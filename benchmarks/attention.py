"""What fewer query heads save: one attention layer and a whole model, at long sequences, on a GPU.

Head counts out of 16, as sparse query attention was published with
(https://arxiv.org/abs/2510.01817, table 3). Times are of the GPU, by events around the work.
"""

from __future__ import annotations

import functools
import statistics
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rxtmodel import AttentionConfig, LmConfig, SqaLM
from rxtmodel.attention import Attention
from rxtmodel.backends import load_kernel

from . import attention_ragged
from .device_run import Run, in_turns
from .measure import NeedsGpu
from .report import Check, Report, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxtmodel.backends import Backend

    from .measure import Settings

KINDS = {
    "MHA": (16, 16), "GQA": (16, 4), "MQA": (16, 1), "SQA": (8, 4), "sSQA": (8, 8), "xSQA": (4, 4),
}  # fmt: skip
"""Query heads and key/value heads, of 16."""
LENGTHS = (32_768, 131_072, 200_000)
WIDTHS = {"16 channels a head": 256, "128 channels a head": 2048}
TARGETS = {
    ("layer", "xSQA"): (3.2, 3.8, 3.9),
    ("layer", "SQA"): (1.8, 1.95, 1.98),
    ("model", "xSQA"): (2.9, 3.6, 3.75),
}
"""Speed over GQA at each of the lengths, heads of 16 channels, forward."""


def run(settings: Settings) -> Report:
    """Measure; see the module."""
    if not settings.quick and not torch.cuda.is_available():
        raise NeedsGpu(
            "the case attention needs a CUDA device; --quick shows on a CPU that it runs"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    report = Report("attention", "fewer query heads at long sequences")
    lengths = (64, 96, 128) if settings.quick else LENGTHS
    columns = ["what", "tokens", "GQA ms", *KINDS, "xSQA ms", "launched in"]
    table = Table(
        "Speed over GQA 16/4 (bf16, causal, batch 1; in the same round, medians)", columns
    )
    for place, length in enumerate(lengths):
        for name, width in WIDTHS.items():
            for backward in (False, True):
                made = functools.partial(_layer, width, length, device, backward)
                kind = "layer, forward" + (" and backward" if backward else "")
                found = _row(table, f"{kind}, {name}", length, made, device)
                if width == 256 and not backward:
                    _check(report, "layer", place, length, found)
        found = _row(table, "model of 8 layers, forward", length, _model(length, device), device)
        _check(report, "model", place, length, found)
    report.tables = [table, attention_ragged.table(device, quick=settings.quick)]
    report.notes = [
        f"device: {torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}",
        "layer: projections and attention, no RoPE; of heads of 16 channels forward by the kernel "
        "of backend triton, else by PyTorch's, for all head counts alike. Model: embedding, 8 "
        "layers of width 256 with RoPE and SwiGLU 768, norm, head over 10,000 tokens",
        "the limit is 2 for SQA and sSQA and 4 for xSQA: attention is all of the work only in the "
        "limit of long sequences",
        "launched in: ms that the host takes to launch xSQA; where they are no less than its own, "
        "it is the host that was measured",
        *attention_ragged.NOTES,
    ]
    return report


def _row(
    table: Table,
    what: str,
    length: int,
    made: Callable[[tuple[int, int]], Callable[[], object]],
    device: str,
) -> dict[str, float]:
    runs = {kind: Run(made(heads), device) for kind, heads in KINDS.items()}
    rounds = in_turns(runs)
    speed = {
        kind: statistics.median(times["GQA"] / times[kind] for times in rounds) for kind in KINDS
    }
    gqa, xsqa = (statistics.median(t[kind] for t in rounds) * 1e3 for kind in ("GQA", "xSQA"))
    table.add(what, length, gqa, *speed.values(), xsqa, runs["xSQA"].launched() * 1e3)
    return speed


def _check(report: Report, what: str, place: int, length: int, speed: dict[str, float]) -> None:
    for (part, kind), targets in TARGETS.items():
        if part == what:
            label = f"{kind} over GQA, {what}, {length:,} tokens"
            check = Check(label, speed[kind], targets[place], at_least=True, unit="x")
            report.checks.append(check)


def _layer(
    width: int, length: int, device: str, backward: bool, heads: tuple[int, int]
) -> Callable[[], object]:
    layer = Attention(width, *heads, width // 16).to(device, _dtype(device))
    layer.kernel = load_kernel(_backend(device))
    x = torch.randn(1, length, width, device=device, dtype=_dtype(device), requires_grad=backward)

    def work() -> None:
        with torch.set_grad_enabled(backward):
            out: Tensor = layer(x, causal=True)
            if backward:
                out.sum().backward()

    return work


def _model(length: int, device: str) -> Callable[[tuple[int, int]], Callable[[], object]]:
    ids = torch.randint(10_000, (1, length), device=device)

    def made(heads: tuple[int, int]) -> Callable[[], object]:
        config = LmConfig(
            vocab_size=10_000,
            embed_dim=256,
            num_layers=8,
            head_dim=16,
            attention=AttentionConfig(num_query_heads=heads[0], num_kv_heads=heads[1]),
            ff_dim=768,
            max_seq_len=length,
        )
        model = SqaLM(config, backend=_backend(device)).to(device, _dtype(device))
        return torch.inference_mode()(functools.partial(model, ids))

    return made


def _backend(device: str) -> Backend:
    """The engine's, which has kernels of its own for narrow heads, forward."""
    return "triton" if device == "cuda" else "sdpa"


def _dtype(device: str) -> torch.dtype:
    """On a CPU only that it runs is shown; not every one has products in sixteen bits."""
    return torch.bfloat16 if device == "cuda" else torch.float32
