"""``rxt memory list``, ``log`` and ``show``."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rxstream import tensorfile
from rxstream.errors import StoreCorrupt, StoreNotFound

from ..failure import CommandError, one_line
from ..names import checked_name
from .refs import find, opened

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from rxstream.store import Store, VersionInfo


def list_memories(args: argparse.Namespace) -> int:
    """Names with the newest version of each. A damaged one is shown as such."""
    with opened(args) as store:
        damaged = False
        rows = []
        for name in store.list(args.prefix):
            try:
                found = _summary(store, name)
            except StoreNotFound:  # deleted just now
                continue
            damaged |= "damaged" in found
            if args.json:
                print(json.dumps({"name": name, **found}, ensure_ascii=False))
            rows.append([name, *(found.get(column, "") for column in ("version", "when", "size"))])
            if "damaged" in found:
                rows[-1][2] = "DAMAGED"
    if not args.json:
        print(table(["name", "version", "updated", "size"], rows))
    return 1 if damaged else 0


def _summary(store: Store, name: str) -> dict[str, Any]:
    try:
        if not store.history(name, limit=1):
            return {"log_records": store.last_seq(name)}
        info = store.info(name)
    except StoreCorrupt as error:
        return {"damaged": one_line(error)}
    return {
        "version": info.version,
        "when": moment(info.created_at),
        "size": size(info.nbytes),
        "digest": info.digest,
        "fingerprint": info.fingerprint,
    }


def log(args: argparse.Namespace) -> int:
    """Versions of one memory, newest first."""
    if args.limit < 1:
        raise CommandError(f"--limit must be at least 1, not {args.limit}")
    with opened(args) as store:
        name = checked_name(args.name)
        versions = store.history(name, limit=args.limit)
        if not versions:
            find(store, name)  # says that it is not there
        labels: dict[int, list[str]] = {}
        for label, version in store.tags(name).items():
            labels.setdefault(version, []).append(label)
        rows = []
        for version in versions:
            try:
                info = store.info(name, version)
            except StoreCorrupt as error:
                found: dict[str, Any] = {"version": version, "damaged": one_line(error)}
                rows.append([version, "DAMAGED", "", "", "", "", ""])
            except StoreNotFound:  # pruned just now
                continue
            else:
                found = as_json(info) | {"labels": labels.get(version, [])}
                marks = " ".join(labels.get(version, []))
                made = [info.kind, moment(info.created_at), info.log_seq, size(info.nbytes)]
                rows.append([version, *made, info.digest[7:19], marks])
            if args.json:
                print(json.dumps(found, ensure_ascii=False))
    if not args.json:
        print(table(["version", "kind", "when", "log", "size", "digest", "labels"], rows))
    return 0


def show(args: argparse.Namespace) -> int:
    """All about one version, its tensors too; it is read and checked for that."""
    with opened(args) as store:
        ref = find(store, args.ref)
        info, snapshot = store.info(ref.name, ref.version), store.load(ref.name, ref.version)
        expires = store.expires_at(ref.name)
        tags = store.tags(ref.name)
        records = store.last_seq(ref.name)
    tensors = {
        name: f"{entry.dtype} {'x'.join(map(str, entry.shape)) or 'one number'}"
        for name, entry in tensorfile.parse(snapshot.state).tensors.items()
    }
    found = as_json(info) | {
        "labels": [label for label, version in tags.items() if version == ref.version],
        "expires": None if expires is None else moment(expires),
        "log_records": records,
        "applied_keys": list(snapshot.applied_keys),
        "writer": snapshot.writer,
        "tensors": tensors,
    }
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    found["size"] = size(found.pop("nbytes"))
    for name, value in found.items():
        if value not in (None, [], {}, ""):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            if isinstance(value, dict):
                shown = ", ".join(f"{key}: {item}" for key, item in value.items())
            print(f"{name.replace('_', ' '):<18} {shown}")
    return 0


def as_json(info: VersionInfo) -> dict[str, Any]:
    """What is known of a version, for people and programs."""
    found = asdict(info)
    found["created_at"] = moment(info.created_at)
    return found


def moment(seconds: float) -> str:
    """In UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def size(nbytes: int) -> str:
    """With a unit."""
    if nbytes < 10_000:
        return f"{nbytes} B"
    return f"{nbytes / 1e3:.0f} kB" if nbytes < 10_000_000 else f"{nbytes / 1e6:.1f} MB"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns aligned; numbers to the right."""
    cells = [list(columns), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    right = [
        bool(rows) and all(not isinstance(row[i], str) for row in rows) for i in range(len(columns))
    ]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    )


def printable(text: str) -> str:
    """Without what would move a terminal's cursor."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
