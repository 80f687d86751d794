"""``rxt chat``: a conversation in the terminal, or one query a line through a pipe."""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Chat with a model that remembers. Leaving and coming back continues the conversation.

In a terminal: type while it answers, the next query waits its turn. Ctrl-C stops the answer, and
what was said so far is remembered; Ctrl-C again leaves. /help lists the commands.

Without a terminal: one query a line on stdin, one answer a line on stdout, everything else on
stderr. A line that cannot be answered gives an empty line, so that line n of the output always
belongs to query n. /save FILE and the other commands work and give no line. The exit status is 0
when every query was answered and remembered."""


def add_parser(commands: Commands) -> None:
    """Add ``chat`` to the subcommands."""
    parser = commands.add_parser(
        "chat",
        help="talk to a model that remembers",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", metavar="NAME|FOLDER", help="default: the bundled model")
    parser.add_argument(
        "--store", metavar="URL", help="where it is kept, sqlite:///FILE or memory: (default: "
        "an SQLite file in your data folder)"
    )  # fmt: skip
    parser.add_argument("--conversation", metavar="NAME", default="main", help="default: main")
    parser.add_argument(
        "--snapshot", metavar="FILE", type=Path, help="what a new conversation knows from the start"
    )
    parser.add_argument("--seed", type=int, help="same seed and memory, same answers")
    temperature = bounded(float, lambda t: 0 <= t < math.inf, "at least 0")
    parser.add_argument("--temperature", type=temperature, default=0.0, help="0 is greedy (0)")
    top_k = bounded(int, lambda k: k >= 0, "at least 0")
    parser.add_argument("--top-k", type=top_k, default=0, help="draw from the K likeliest (all)")
    top_p = bounded(float, lambda p: 0 < p <= 1, "more than 0 and at most 1")
    parser.add_argument("--top-p", type=top_p, default=1.0, help="... or from this share (1)")
    min_p = bounded(float, lambda p: 0 <= p <= 1, "from 0 to 1")
    parser.add_argument(
        "--min-p", type=min_p, default=0.0, help="... or from this share of the likeliest one's (0)"
    )
    penalty = bounded(float, lambda p: 0 < p < math.inf, "more than 0")
    parser.add_argument(
        "--repetition-penalty", type=penalty, default=1.0, help="above 1: repeat less (1)"
    )
    text = bounded(str, bool, "some text")
    parser.add_argument(
        "--stop", metavar="TEXT", type=text, action="append", help="ends an answer; repeatable"
    )
    parser.add_argument(
        "--logit-bias", metavar="ID(+/-)BIAS", type=token_bias, action="append",
        help="make a token likelier or less likely: 15+2, 15-1.5, 15-inf for never; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--thinking", choices=["fast", "extended", "auto"], default="fast",
        help="think before answers, by a model that was trained to; not shown (fast)",
    )  # fmt: skip
    parser.add_argument(
        "--instruction", metavar="TEXT", type=text,
        help="to follow in every answer, by a model that was trained to",
    )  # fmt: skip
    length = bounded(int, lambda n: n >= 1, "at least 1")
    parser.add_argument("--max-tokens", type=length, default=64, help="longest answer (64)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open the conversation and talk, until stdin ends or the user leaves."""
    from . import pipe, session
    from .failure import log_to_stderr

    log_to_stderr()
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if interactive:
        print("loading …", end="\r", flush=True)
    with session.open_session(args) as chat:
        if not interactive:
            return pipe.run(chat, sys.stdin.buffer, sys.stdout)
        from . import terminal

        return terminal.run(chat)


def token_bias(text: str) -> tuple[int, float]:
    """A type for argparse: ``TOKEN_ID(+/-)BIAS`` as id and bias."""
    found = re.fullmatch(r"([0-9]+)([+-][0-9.eE+-]+|-inf)", text)
    try:
        if found is not None and (bias := float(found[2])) < math.inf:
            return int(found[1]), bias
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"must be the id of a token and what is added to its logit, such as 15+2, not {text}"
    )


Value = TypeVar("Value", int, float, str)


def bounded(
    convert: Callable[[str], Value], accept: Callable[[Value], bool], rule: str
) -> Callable[[str], Value]:
    """A type for argparse: a value that ``accept`` accepts, else the rule is said."""

    def parse(text: str) -> Value:
        value = convert(text)
        if not accept(value):
            raise argparse.ArgumentTypeError(f"must be {rule}, not {text}")
        return value

    parse.__name__ = "number"  # what argparse calls it when `convert` refuses the text
    return parse
