"""``rxt train``: train a recipe in a folder, from nothing but this package."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from curriculum.trainer import Progress

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

PLOT_QUESTIONS = 200
"""Questions a point of the recall plot: enough to see the shape, seconds on a GPU."""
PLOT_DISTANCE = 32
"""How many turns back the recall plot asks at most."""


def add_parser(commands: Commands) -> None:
    """Add ``train`` to the subcommands."""
    parser = commands.add_parser(
        "train",
        help="train a model from a recipe",
        description="Train a recipe in a folder. An interrupted run goes on where it was when the "
        "same command is given again. The trained model lands in FOLDER/model, which "
        "`rxt chat --model FOLDER/model` opens; loss.png and recall.png beside it.",
    )
    parser.add_argument("recipe", help="recall (the bundled model, one GPU) or recall-small (CPU)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/RECIPE")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    parser.add_argument("--workers", type=int, help="processes that draw batches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="stop after so long; resumable")
    parser.add_argument("--no-plots", action="store_true", help="leave out the plots at the end")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train until the recipe is complete, or for ``--minutes``; then draw the plots."""
    from curriculum.recipes import RECIPES

    from .. import training
    from . import plots
    from .failure import CommandError
    from .missing import import_tqdm

    if args.recipe not in RECIPES:
        raise CommandError(f"no recipe {args.recipe!r}; there are: {', '.join(RECIPES)}")
    first = int(os.environ.get("RANK", "0")) == 0  # of the processes of torchrun, this one speaks
    if not args.no_plots:
        plots.check()
    folder: Path = args.out or Path("runs") / args.recipe
    bar = import_tqdm()(unit="step", desc=args.recipe, dynamic_ncols=True, disable=not first)

    def report(progress: Progress) -> None:
        if bar.total is None:
            bar.total, bar.initial, bar.n = progress.steps, progress.step, progress.step
        bar.update(progress.step - bar.n)
        bar.set_postfix(loss=f"{progress.loss:.3f}", right=f"{progress.token_accuracy:.1%}")

    try:
        with bar:
            done = training.run(
                args.recipe,
                folder,
                device=args.device,
                workers=args.workers,
                seed=args.seed,
                seconds=args.minutes * 60 if args.minutes is not None else None,
                report=report,
            )
    except KeyboardInterrupt:
        if first:
            print("saved; the same command goes on from here", file=sys.stderr)
        raise
    if not first:
        return 0
    print(
        f"model: {folder / 'model'}" + ("" if done else " (unfinished; the same command goes on)")
    )
    if not args.no_plots:
        print(f"loss: {plots.loss(folder)}")
        print(f"recall: {plot_recall(folder, args.device)}")
    return 0


def plot_recall(folder: Path, device: str | None) -> Path:
    """Measure recall at each distance with few questions and draw it."""
    import torch

    from . import plots
    from .models import open_rxt
    from .recall import Table, measure

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    table: Table = measure(
        open_rxt(str(folder / "model"), device=device),
        questions=PLOT_QUESTIONS,
        seeds=[0],
        max_distance=PLOT_DISTANCE,
        only="distance",
    )
    return plots.recall(table, folder / "recall.png")
