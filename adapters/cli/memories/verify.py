"""``rxt memory verify``: whether snapshot files, or everything in a store, are whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rxstream import tensorfile
from rxstream.errors import SnapshotError, StoreCorrupt, StoreNotFound, Undecryptable

from ..failure import one_line
from .refs import opened
from .show import moment, printable, size
from .sources import read

if TYPE_CHECKING:
    import argparse

    from rxstream.snapshot import Snapshot
    from rxstream.store import Store


def verify(args: argparse.Namespace) -> int:
    """0 when all is whole, else 1."""
    if args.files:
        return max(_verify_file(path, args.json) for path in args.files)
    with opened(args) as store:
        return _verify_store(store, args.json)


def _verify_file(path: str, as_json: bool) -> int:
    try:
        snapshot = read(path)
    except SnapshotError as error:
        print(json.dumps({"file": path, "whole": False, "error": one_line(error)}) if as_json
              else one_line(error))  # fmt: skip
        return 1
    if as_json:
        print(json.dumps({"file": path, "whole": True, **_facts(snapshot)}, ensure_ascii=False))
        return 0
    print(f"{path}: whole")
    for name, value in _facts(snapshot).items():
        print(f"  {name.replace('_', ' '):<18} {printable(str(value))}")
    return 0


def _facts(snapshot: Snapshot) -> dict[str, Any]:
    tensors = tensorfile.parse(snapshot.state).tensors
    return {
        "memory": snapshot.memory_id,
        "version": snapshot.version,
        "model": snapshot.fingerprint,
        "kind": snapshot.kind,
        "made": moment(snapshot.created_at),
        "digest": snapshot.digest,
        "writer": snapshot.writer,
        "contains_user_data": snapshot.contains_user_data,
        "tensors": ", ".join(
            f"{name} {entry.dtype} {'x'.join(map(str, entry.shape))}"
            for name, entry in tensors.items()
        ),
        "size": size(len(snapshot.state)),
        **snapshot.metadata,
    }


def _verify_store(store: Store, as_json: bool) -> int:
    damaged = versions = records = 0
    names = store.list()
    for name in names:
        problems = []
        for version in store.history(name):
            versions += 1
            try:
                store.load(name, version)
            except (StoreCorrupt, Undecryptable) as error:
                problems.append(one_line(error))
            except StoreNotFound:  # pruned meanwhile
                continue
        try:
            for _ in store.log(name):
                records += 1
        except (StoreCorrupt, Undecryptable) as error:
            problems.append(one_line(error))
        damaged += len(problems)
        if as_json:
            found = {"name": name, "whole": not problems, "problems": problems}
            print(json.dumps(found, ensure_ascii=False))
        for problem in [] if as_json else problems:
            print(printable(problem))
    if not as_json:
        verdict = f"{damaged} damaged" if damaged else "all whole"
        print(f"{len(names)} memories, {versions} versions, {records} log records: {verdict}")
    return 1 if damaged else 0
