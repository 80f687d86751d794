"""``rxt memory make``: a new memory out of a text, or of a dialogue that took place elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rxstream import Runtime
from rxstream.errors import QueryRejected
from rxstream.stores.memory import MemoryStore

from ..failure import CommandError
from ..models import open_model
from ..names import checked_name, has_begun
from .refs import opened

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rxstream import Conversation
    from rxstream.model import ReactiveModel
    from rxstream.snapshot import Snapshot
    from rxstream.store import Store

    Told = tuple[str, str | None]
    """A query and its answer; None for the model's own."""

SENTENCE = re.compile(r"(?<=[.!?])\s+")
FIELDS = {"query", "answer", "interactions"}


def make(args: argparse.Namespace) -> int:
    """Tell a file to the model, and keep what it then remembers: one version, and its log."""
    name, path = checked_name(args.name), args.text or args.dialogue
    with opened(args) as store:
        if has_begun(store, name):
            raise CommandError(f"memory {name!r} exists; choose another name, or delete it first")
        model, data = open_model(args.model), _read(path)
        text = _decoded(path, data)
        told = list(pieces(model, path, text) if args.text else interactions(path, text))
        if not told:
            raise CommandError(f"there is nothing in {path} to remember")
        digest = hashlib.sha256(data).hexdigest()
        kind = "text" if args.text else "dialogue"
        # As the store takes it: with what it was made of, and whose words that are.
        about = {
            "contains_user_data": not args.no_user_data,
            "metadata": {"provenance": f"{kind} {Path(path).name[:200]} sha256:{digest}"},
        }
        with closing(MemoryStore()) as scratch:
            _tell(model, scratch, name, told)
            made = _keep(scratch, store, name, about)
    print(f"{name!r} remembers {len(told)} interactions of {path}; that is version {made.version}")
    return 0


def pieces(model: ReactiveModel[Any], path: str, text: str) -> Iterator[Told]:
    """A text as queries that ``model`` takes: its lines, cut between sentences where they are too
    long, and between words where sentences are."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            for piece in _fitting(model, line.strip(), f"{path}: line {number}"):
                yield piece, None


def _fitting(model: ReactiveModel[Any], text: str, where: str) -> Iterator[str]:
    try:
        model.validate(text)
    except QueryRejected as error:
        places = [found.span() for found in SENTENCE.finditer(text)]
        places = places or [found.span() for found in re.finditer(r"\s+", text)]
        if error.reason != "too_long" or not places:
            raise CommandError(f"{where}: {error}") from error
        end, start = min(places, key=lambda span: abs(span[0] - len(text) / 2))
        yield from _fitting(model, text[:end], where)
        yield from _fitting(model, text[start:], where)
    else:
        yield text


def interactions(path: str, text: str) -> Iterator[Told]:
    """What is in a file of JSON lines: ``{"query": …, "answer": …}``, and after these the turns
    that followed, ``"interactions": [{"query": …, "answer": …}, …]``, if a line has them."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
            turns = [found, *found.get("interactions", ())]
            for turn in turns:
                if wrong := turn.keys() - FIELDS:
                    raise ValueError(f"nothing is known to do with {min(wrong)!r}; remove it")
                query, answer = turn["query"], turn["answer"]
                if not (isinstance(query, str) and isinstance(answer, str) and answer.strip()):
                    raise ValueError("query and answer must be text")
                yield query, answer
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else error
            raise CommandError(
                f'{path}: line {number} is no interaction, {{"query": …, "answer": …}}: {why}'
            ) from error


def _tell(model: ReactiveModel[Any], scratch: Store, name: str, told: list[Told]) -> None:
    with Runtime(model, scratch, durability="close") as runtime:
        chat = runtime.memory(name).conversation("main")
        for number, (query, answer) in enumerate(told, start=1):
            try:
                _tell_one(chat, query, answer)
            except QueryRejected as error:
                raise CommandError(f"interaction {number} of {len(told)}: {error}") from error


def _tell_one(chat: Conversation, query: str, answer: str | None) -> None:
    told = chat.ask(query) if answer is None else chat.remember(query, answer)
    for event in told.blocking():
        if event.kind == "memory_skipped":
            raise CommandError(
                f"the model has no answer to {query[:80]!r}, and so does not remember it; put it "
                "another way, or give the answer with --dialogue"
            )


def _keep(scratch: Store, store: Store, name: str, about: dict[str, Any]) -> Snapshot:
    # The log first, as ever: a version must not come before the records that it holds.
    for record in scratch.log(name):
        store.append(name, replace(record, seq=0))
    head = store.head(name)
    made = replace(
        scratch.load(name), version=(head or 0) + 1, log_seq=store.last_seq(name), **about
    )
    store.commit(made, expect=head)
    return made


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error


def _decoded(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandError(
            f"{path} is not UTF-8 at byte {error.start + 1}; convert it, for example with "
            "iconv -t utf-8"
        ) from error
