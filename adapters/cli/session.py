"""One open conversation, and what the commands of the chat do to it.

Both ways to chat, terminal and pipe, are built on this; it prints nothing.
"""

from __future__ import annotations

import random
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rxstream import Runtime, open_store
from rxstream.model import Sampling
from rxstream.snapshot import read_file, write_file

from .failure import CommandError
from .models import open_model
from .names import checked_name, default_store, file_argument, has_begun, is_snapshot, unused_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rxstream import Interaction
    from rxstream.model import Thinking
    from rxstream.snapshot import Snapshot
    from rxstream.store import Store

LEAVING = 30.0
"""Seconds that leaving waits for memory updates. What is cut off is redone at the next start, from
the interaction log."""

HELP = """\
/save FILE   write what is remembered to FILE
/load FILE   remember what is in FILE, and nothing else
/new [NAME]  another conversation, which knows nothing of this one
/memory      version, size, when it was updated
/help        this list
/quit        leave; the conversation continues when you come back"""


@dataclass(frozen=True, slots=True)
class Note:
    """What a command has to say."""

    text: str
    leave: bool = False


class Session:
    """A runtime with one conversation open.

    Args:
        store: what ``runtime`` keeps its memories in.
        fingerprint: of the runtime's model.
        seed: draws a seed for each query, so that the same queries get the same answers.
        instruction: beside each query.
    """

    def __init__(
        self,
        runtime: Runtime[Any],
        store: Store,
        name: str,
        *,
        fingerprint: str,
        sampling: Sampling,
        seed: int | None = None,
        thinking: Thinking = "fast",
        instruction: str = "",
    ) -> None:
        self._thinking: Thinking = thinking
        self._instruction = instruction
        self._runtime, self._store, self._sampling = runtime, store, sampling
        self._fingerprint = fingerprint
        self._seeds = None if seed is None else random.Random(seed)
        self._open(name)

    def _open(self, name: str) -> None:
        self.name = name
        self.memory = self._runtime.memory(name)
        self._conversation = self.memory.conversation("main")

    def ask(self, query: str) -> Interaction:
        """Put a query to the conversation. Raises QueryRejected."""
        seed = self._seeds.getrandbits(63) if self._seeds else None
        sampling = replace(self._sampling, seed=seed)
        # Whoever leaves the chat stops listening, which must not undo what was said.
        return self._conversation.ask(
            query,
            sampling=sampling,
            detach="keep",
            thinking=self._thinking,
            instruction=self._instruction,
        )

    def is_command(self, line: str) -> bool:
        """Whether the first word of ``line`` is a command; other words with a slash are text."""
        return line.split(maxsplit=1)[:1] in [[name] for name in COMMANDS]

    def command(self, line: str) -> Note:
        """Run a command. Blocks; raises CommandError or what the library raises."""
        word, _, argument = line.strip().partition(" ")
        if word not in COMMANDS:
            raise CommandError(f"there is no command {word}; /help lists them")
        return COMMANDS[word](self, argument.strip())

    def _save(self, argument: str) -> Note:
        path = file_argument("/save", argument)
        if path.exists() and not is_snapshot(path):
            raise CommandError(f"{path} exists and is not a snapshot; choose another name")
        snapshot = self.memory.snapshot()
        write_file(path, snapshot)
        return Note(f"saved version {snapshot.version} to {path}")

    def _load(self, argument: str) -> Note:
        path = file_argument("/load", argument)
        snapshot = read_file(path, self._fingerprint)
        self.memory.restore(snapshot).result()
        return Note(f"loaded {path}; this is version {self.memory.version} of {self.name!r}")

    def _new(self, argument: str) -> Note:
        before = self.name
        name = checked_name(argument or unused_name(self._store, before))
        if has_begun(self._store, name):
            raise CommandError(
                f"conversation {name!r} exists; start rxt chat --conversation {name}"
            )
        self._open(name)
        return Note(f"new conversation {name!r}; {before!r} is kept (rxt chat --conversation …)")

    def _memory(self, argument: str) -> Note:
        size = len(self.memory.snapshot().state) / 1024
        stored = self.memory.flush().result()
        when = "never updated"
        if stored is not None:
            made = datetime.fromtimestamp(self._store.load(self.name, stored).created_at)
            when = f"updated {made.astimezone():%Y-%m-%d %H:%M:%S}"
        version = self.memory.version
        return Note(f"conversation {self.name!r}: version {version}, {size:.1f} KiB, {when}")

    def _help(self, argument: str) -> Note:
        return Note(HELP)

    def _quit(self, argument: str) -> Note:
        return Note("", leave=True)


COMMANDS = {
    "/save": Session._save,
    "/load": Session._load,
    "/new": Session._new,
    "/memory": Session._memory,
    "/help": Session._help,
    "/quit": Session._quit,
}


@contextmanager
def open_session(args: argparse.Namespace) -> Iterator[Session]:
    """The session that the arguments of ``rxt chat`` describe; closed with everything in it."""
    name = checked_name(args.conversation)
    model = open_model(args.model)
    sampling = Sampling(
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        max_tokens=args.max_tokens,
        min_p=args.min_p,
        repetition_penalty=args.repetition_penalty,
        logit_bias=dict(args.logit_bias or ()),
        stop=tuple(args.stop or ()),
    )
    snapshot = None if args.snapshot is None else read_file(args.snapshot, model.fingerprint)
    with closing(open_store(args.store or default_store())) as store:
        if snapshot is not None:
            check_beginning(store, name, snapshot)
        with Runtime(model, store, grace=LEAVING) as runtime:
            runtime.memory(name, snapshot=snapshot)
            yield Session(
                runtime,
                store,
                name,
                fingerprint=model.fingerprint,
                sampling=sampling,
                seed=args.seed,
                thinking=args.thinking,
                instruction=args.instruction or "",
            )


def check_beginning(store: Store, name: str, snapshot: Snapshot) -> None:
    """Raise unless the conversation is new, and so can begin with ``snapshot``.

    One that began with this very snapshot goes on, so that a command line can be used again; any
    other one is refused: it would forget what it knows.
    """
    if has_begun(store, name):
        versions = store.history(name)
        first = store.load(name, versions[-1]) if versions else None
        if first is None or first.parent_digest != snapshot.digest:
            raise CommandError(
                f"conversation {name!r} has begun without this snapshot; choose another "
                "--conversation, or /load the file in the chat"
            )
