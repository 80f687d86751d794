"""Running the command ``rxt`` in a process of its own, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from adapters.stores.sqlite import SqliteStore
from rxstream.testing import FakeModel

RXT = str(Path(sys.executable).with_name("rxt"))


@dataclass
class Rxt:
    """``rxt`` with a data folder of its own."""

    home: Path
    model: str = "fake:"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The environment of the process."""
        own = {"XDG_DATA_HOME": str(self.home), "HOME": str(self.home), "TERM": "xterm"}
        return os.environ | own | self.environment

    def run(self, *arguments: str, typed: str | bytes = "") -> subprocess.CompletedProcess[str]:
        """``rxt ARGUMENTS`` with ``typed`` on stdin; stdout and stderr as text."""
        stdin = typed.encode() if isinstance(typed, str) else typed
        done = subprocess.run(
            [RXT, *arguments], input=stdin, capture_output=True, env=self.env, timeout=120,
            cwd=self.home, check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def chat(
        self, *arguments: str, typed: str | bytes = "", model: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """``rxt chat --model fake: ARGUMENTS``."""
        return self.run("chat", "--model", model or self.model, *arguments, typed=typed)

    def heard(self, conversation: str = "main") -> list[str]:
        """What the store has of a conversation with the fake model: a text for each interaction."""
        path = self.home / "rxstream" / "chat.sqlite"
        if not path.exists():
            return []
        with closing(SqliteStore(path)) as store:
            if store.head(conversation) is None:
                return []
            return list(FakeModel().load(store.load(conversation).state))
