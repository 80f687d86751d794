"""What tests of SQLite stores share."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from .sqlite_worker import record, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxstream.store import Store

ROOT = Path(__file__).parents[2]


def fill(store: Store, versions: int = 3) -> None:
    for version in range(1, versions + 1):
        store.commit(snapshot(version), expect=version - 1 or None)
        store.append("m", record(str(version)))


def writes(store: Store) -> list[Callable[[], object]]:
    return [
        lambda: store.commit(snapshot(4), expect=3),
        lambda: store.append("m", record("x")),
        lambda: store.forget("m", 1),
        lambda: store.delete("m"),
        lambda: store.prune("m", keep_last=1),
    ]


def sql(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def run(script: str, *arguments: object) -> str:
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
