"""``rxt convert``: give a language model a memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .evaluate import positive

if TYPE_CHECKING:
    import argparse

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Extend a Llama-style decoder (config.json and model*.safetensors of transformers: llama, mistral,
qwen3) to a Reactive Transformer, to be trained further. Its answers are those of the decoder until
the reads of the memory are trained; encoder and memory attention are new. A tokenizer.json gets the
special tokens of the interaction template, and `rxt chat --model OUT` opens the result."""


def add_parser(commands: Commands) -> None:
    """Add ``convert`` to the subcommands."""
    parser = commands.add_parser(
        "convert", help="give a language model a memory", description=DESCRIPTION
    )
    parser.add_argument("kind", choices=["llama"])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: FOLDER-rxt, here")
    parser.add_argument("--variant", default="interlayer", help="of the memory (interlayer)")
    parser.add_argument("--slots", type=positive, default=64, help="of the memory (64)")
    parser.add_argument(
        "--max-seq-len", type=positive, help="longest interaction, in tokens (what the decoder was "
        "made for, at most 4096)"
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of what is new (0)")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], default="float32",
        help="of the weights that are written (float32)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert, write the model folder and say what is new in it."""
    import torch

    from rxtmodel import RxtModelError, extend_llama

    from ..extended_tokenizer import ForeignVocabulary
    from ..tokenizer import TokenizerError
    from .failure import CommandError

    out = args.out or Path(f"{args.folder.resolve().name}-rxt")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CommandError(f"{out} exists and is not empty; choose another folder with --out")
    try:
        vocabulary = ForeignVocabulary.find(args.folder)
        model = extend_llama(
            args.folder,
            variant=args.variant,
            num_slots=args.slots,
            max_seq_len=args.max_seq_len,
            seed=args.seed,
            first_new_id=None if vocabulary is None else vocabulary.size,
            special_ids=None if vocabulary is None else vocabulary.special,
        )
        tokenizer = None if vocabulary is None else vocabulary.with_template(model.config.tokens)
        model.save_pretrained(out, dtype=getattr(torch, args.dtype))
        if tokenizer is not None:
            tokenizer.save(out)
    except (RxtModelError, TokenizerError, OSError) as error:
        raise CommandError(str(error)) from error
    count = sum(weight.numel() for weight in model.parameters())
    print(f"{out}: {count:,} weights, a memory of {model.config.memory_shape}")
    print(f"ids of special tokens: {model.config.tokens.to_dict()}")
    if tokenizer is None:
        print(
            f"{args.folder} has no tokenizer.json, which rxt chat needs; "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...) of transformers makes one",
            file=sys.stderr,
        )
    return 0
