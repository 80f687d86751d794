"""The command ``rxt``: chat, memory, train, eval, convert, version.

Each subcommand lives in a file of its own and imports what it needs when it runs, so that
``rxt --help`` answers at once. Run it as ``rxt``: ``python -m adapters.cli`` would prefer a folder
named ``adapters`` in the working directory.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from .chat import add_parser as add_chat
from .convert import add_parser as add_convert
from .evaluate import add_parser as add_eval
from .failure import DEBUG, CommandError, one_line
from .memory import add_parser as add_memory
from .train import add_parser as add_train
from .version import add_parser as add_version

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 130
"""Exit status of a program ended by Ctrl-C, as shells report it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``rxt`` and return its exit status: 0, 1 for an error, 2 for wrong usage."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`rxt chat | head -1`); the interpreter must not try
        # again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from rxstream.errors import RxStreamError

        if DEBUG in os.environ or not isinstance(error, CommandError | RxStreamError):
            raise
        print(f"rxt {args.command}: {one_line(error)}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; each sets ``run`` to its function."""
    parser = argparse.ArgumentParser(
        prog="rxt", description="Language models that remember: chat with one, train one."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add_parser in (add_chat, add_memory, add_train, add_eval, add_convert, add_version):
        add_parser(commands)
    return parser
