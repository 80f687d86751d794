"""Training a recipe from nothing but this package: tokenizer, model, checkpoints, plots."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from typing import TYPE_CHECKING

import torch
from torch import distributed

from curriculum.dialogues import Mix, sample_dialogue
from curriculum.recipes import RECIPES
from curriculum.stages.memory_aware import MemoryAwareStage
from curriculum.trainer import Progress, Trainer, TrainingDiverged
from rxtmodel import ReactiveTransformer, save_model

from .tokenizer import Tokenizer, TokenizerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKENIZER_DIALOGUES = 6_000
VOCABULARY = {"recall": 2_048, "recall-small": 1_024}


def tokenizer_texts(dialogues: int = TOKENIZER_DIALOGUES) -> Iterator[str]:
    """Queries and answers of generated dialogues, the same on every machine."""
    rng = random.Random("tokenizer")
    for _ in range(dialogues):
        for turn in sample_dialogue(rng, 16, Mix(), probe_after=(), probes=0).turns:
            yield turn.query
            yield turn.answer


def tokenizer_of(recipe: str, folder: Path) -> Tokenizer:
    """The folder's tokenizer, trained first when it has none."""
    try:
        return Tokenizer.load(folder)
    except TokenizerError:
        tokenizer = Tokenizer.train(tokenizer_texts(), vocab_size=VOCABULARY[recipe])
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(folder)
        return tokenizer


def run(
    name: str,
    folder: Path,
    *,
    device: str | None = None,
    workers: int | None = None,
    seed: int = 0,
    seconds: float | None = None,
    report: Callable[[Progress], None] = lambda _: None,
) -> bool:
    """Train recipe ``name`` in ``folder``, resuming what is there; True when it is complete.

    The trained model (config.json, model.safetensors in bf16, tokenizer.json) lands in
    ``folder/model``, also when the run is stopped early.
    """
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    where = _device(device, rank, ranks)
    output = folder / "model"
    tokenizer = _tokenizer_on_every_rank(name, output, rank, ranks)
    recipe = RECIPES[name](tokenizer.vocab_size)
    config = dataclasses.replace(recipe.train, seed=seed)
    torch.manual_seed(seed)
    model = ReactiveTransformer(recipe.model).to(where)
    trainer = Trainer(
        MemoryAwareStage(model),
        config,
        tokenizer.encode,
        folder=folder,
        device=where,
        workers=max(1, (os.cpu_count() or 2) // ranks - 2) if workers is None else workers,
        rank=rank,
        ranks=ranks,
    )
    trainer.resume()
    done = diverged = False
    try:
        done = trainer.run(report=report, seconds=seconds)
    except TrainingDiverged:
        diverged = True
        raise
    finally:
        if rank == 0 and not diverged:
            save_model(model, output, dtype=torch.bfloat16)
            state = {"recipe": name, "seed": seed, "step": trainer.step, "complete": done}
            (folder / "recipe.json").write_text(json.dumps(state) + "\n")
        if ranks > 1:
            distributed.destroy_process_group()
    return done


def _device(wanted: str | None, rank: int, ranks: int) -> torch.device:
    """The device of this rank; under ``torchrun`` the ranks are joined first."""
    kind = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    if ranks == 1:
        return torch.device(kind)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(kind)


def _tokenizer_on_every_rank(name: str, folder: Path, rank: int, ranks: int) -> Tokenizer:
    if rank == 0:
        tokenizer = tokenizer_of(name, folder)
    if ranks > 1:
        on_gpu = distributed.get_backend() == "nccl"
        distributed.barrier(device_ids=[torch.cuda.current_device()] if on_gpu else None)
    return tokenizer if rank == 0 else Tokenizer.load(folder)
