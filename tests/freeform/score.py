"""Scores a model on hand-written dialogues, as in use: `python -m tests.freeform.score`.

An answer to "ask" is right when it holds an expected value and none of the rejected ones; an answer
to "unknown" when it says that the model does not know.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.model import DEFAULT_MODEL, load_model
from rxstream import Runtime
from rxstream.model import ReactiveModel

FOLDER = Path(__file__).parent
TEST_SET = FOLDER / "dialogues.json"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One turn of a dialogue with the model's answer; ``right`` is None where nothing is asked."""

    dialogue: str
    kind: str
    user: str
    answer: str
    right: bool | None


def exchanges(model: ReactiveModel[Any], path: Path = TEST_SET) -> Iterator[Exchange]:
    """Hold every dialogue of the file with the model, each in a memory of its own."""
    dialogues = json.loads(path.read_text())["dialogues"]
    with Runtime(model, store="memory:") as runtime:
        for dialogue in dialogues:
            chat = runtime.memory(dialogue["name"]).conversation("main")
            for turn in dialogue["turns"]:
                answer = chat.ask(turn["user"]).result(timeout=60).text
                yield Exchange(
                    dialogue["name"], turn["kind"], turn["user"], answer, is_right(turn, answer)
                )


def is_right(turn: dict[str, Any], answer: str) -> bool | None:
    """Whether the answer to a question is right; None for a turn that asks nothing."""
    said = answer.lower()
    if turn["kind"] == "unknown":
        return said.startswith("i do not know")
    if turn["kind"] != "ask":
        return None
    expected = any(value.lower() in said for value in turn["expect"])
    return expected and not any(value.lower() in said for value in turn.get("reject", ()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--file", type=Path, default=TEST_SET)
    parser.add_argument("--int8", action="store_true", help="decode by weights of eight bits")
    parser.add_argument("--verbose", action="store_true", help="print every turn")
    args = parser.parse_args()
    asked = right = 0
    for e in exchanges(load_model(args.model, int8=args.int8), args.file):
        if e.right is not None:
            asked, right = asked + 1, right + e.right
        if args.verbose:
            mark = {None: "  ", True: "ok", False: "XX"}[e.right]
            print(f"{e.dialogue:16} {e.kind:7} {mark} {e.user}  ->  {e.answer}")
    print(f"{right} of {asked} questions right: {right / asked:.1%}")


if __name__ == "__main__":
    main()
