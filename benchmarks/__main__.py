"""``python -m benchmarks [case ...]``: run cases, print their tables, write JSON."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from adapters.model import DEFAULT_MODEL, ModelError, load_model

from .measure import NeedsGpu, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .report import Report

CASES = (
    "turn", "events", "runtime", "update", "scheduling", "stores", "cpu", "users", "attention",
    "engine",
)  # fmt: skip
"""Each a module here with ``run(settings) -> Report``, imported when it runs: a case may need
packages or a device that the others do not."""
ON_A_GPU = {"attention", "engine"}
OUT = Path("runs/benchmarks")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases and return the exit status: 1 when a target was missed, 2 for wrong usage."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        adapter = load_model(args.model)
    except ModelError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    settings = Settings(
        adapter=adapter,
        model=str(args.model),
        rounds=args.rounds or (2 if args.quick else 30),
        cpu_clock=args.cpu_clock,
        quick=args.quick,
    )
    met = True
    for name in args.cases or _possible():
        try:
            report: Report = importlib.import_module(f".{name}", __package__).run(settings)
        except NeedsGpu as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 2
        print(report.text(), flush=True)
        chosen = {
            "model": Path(args.model).name,
            "rounds": settings.rounds,
            "clock": "CPU time of all threads" if args.cpu_clock else "wall time",
            "quick": args.quick,
        }
        path = report.save(args.out, _command(name, args), chosen)
        print(f"\n{path}\n", flush=True)
        met = met and all(check.met for check in report.checks)
    return 0 if met or args.quick else 1


def _possible() -> list[str]:
    """The cases that this machine can measure."""
    return [name for name in CASES if name not in ON_A_GPU or torch.cuda.is_available()]


def _command(case: str, args: argparse.Namespace) -> str:
    """The command that measures this case the same way."""
    words = ["python", "-m", "benchmarks", case]
    if args.model != DEFAULT_MODEL:
        words += ["--model", Path(args.model).name]
    for option in ("rounds", "threads"):
        if (value := getattr(args, option)) is not None:
            words += [f"--{option}", str(value)]
    words += ["--cpu-clock"] * args.cpu_clock + ["--quick"] * args.quick
    return " ".join(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("cases", nargs="*", metavar="case", choices=[*CASES, []], help=f"{', '.join(CASES)}")
    add("--out", type=Path, default=OUT, help="folder for <case>.json (default: %(default)s)")
    add("--model", default=DEFAULT_MODEL, metavar="NAME|FOLDER", help="default: %(default)s")
    add("--rounds", type=_positive, help="interleaved rounds (default: 30)")
    add("--threads", type=_positive, help="threads of PyTorch (default: its own)")
    add(
        "--cpu-clock",
        action="store_true",
        help="measure CPU time, with --threads 1: for busy machines",
    )
    add("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    return parser


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


if __name__ == "__main__":
    sys.exit(main())
