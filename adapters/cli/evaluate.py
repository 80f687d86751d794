"""``rxt eval``: measure what a model remembers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from .recall import Row

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(commands: Commands) -> None:
    """Add ``eval`` to the subcommands."""
    parser = commands.add_parser(
        "eval",
        help="measure what a model remembers",
        description="Print a table with 95 % confidence intervals; write it as JSON and PNG.",
    )
    parser.add_argument("benchmark", choices=["recall"])
    parser.add_argument("--model", metavar="NAME|FOLDER", help="default: the bundled model")
    parser.add_argument("--questions", type=positive, default=2_000, help="a cell (2000)")
    parser.add_argument("--seeds", type=positive, default=3, help="how many evaluation seeds (3)")
    parser.add_argument("--max-distance", type=positive, default=64, help="in turns (64)")
    parser.add_argument("--suite", default="", help="only suites whose name starts with this")
    parser.add_argument(
        "--mode",
        choices=["own", "gold"],
        default="own",
        help="own: live with the answers the model gives; gold: with the right ones",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=positive, default=256, help="dialogues at once (256)")
    parser.add_argument("--out", type=Path, default=Path("runs/eval"), metavar="FOLDER")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print each row as it is known, write ``recall.json`` and ``recall.png``."""
    from . import plots
    from .failure import CommandError
    from .models import open_rxt
    from .recall import measure

    plots.check()
    adapter = open_rxt(args.model, device=args.device)

    def report(row: Row) -> None:
        print(f"{row.suite}, {row.cell}: {row.share:.1%}", file=sys.stderr, flush=True)

    table = measure(
        adapter,
        questions=args.questions,
        seeds=range(args.seeds),
        mode=args.mode,
        max_distance=args.max_distance,
        only=args.suite,
        batch=args.batch,
        report=report,
    )
    if not table.rows:
        raise CommandError(f"no suite starts with {args.suite!r}")
    print("\n".join(table.lines()))
    args.out.mkdir(parents=True, exist_ok=True)
    result = args.out / "recall.json"
    result.write_text(json.dumps(table.as_json(), indent=2) + "\n")
    print(f"{result} {plots.recall(table, args.out / 'recall.png')}", file=sys.stderr)
    return 0


def positive(text: str) -> int:
    """An int of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
