"""``rxt memory export``, ``import`` and ``copy``: to and from files, the Hub, and other stores."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rxstream.errors import VersionConflict
from rxstream.snapshot import write_file
from rxstream.stores import open_store
from rxstream.stores.copying import copy_memory

from ..failure import CommandError
from ..names import checked_name, is_snapshot
from .refs import find, opened, with_keys
from .sources import HUB, read

if TYPE_CHECKING:
    import argparse

    from rxstream.snapshot import Snapshot


def export(args: argparse.Namespace) -> int:
    """Write a version to a file, which any machine can check with ``rxt memory verify``; or publish
    it on the Hub."""
    with opened(args) as store:
        ref = find(store, args.ref)
        snapshot = store.load(ref.name, ref.version)
    if snapshot.contains_user_data and not args.user_data:
        raise CommandError(
            f"version {ref.version} of {ref.name!r} was made of what a user said; whoever has the "
            "file has that too. If that is meant, add --user-data"
        )
    if args.file.startswith(HUB):
        print(f"published version {ref.version} of {ref.name!r}: {_publish(snapshot, args)}")
        return 0
    path = Path(args.file)
    if path.exists() and not is_snapshot(path):
        raise CommandError(f"{path} exists and is not a snapshot; choose another name")
    write_file(path, snapshot)
    print(f"wrote version {ref.version} of {ref.name!r} to {path}")
    return 0


def _publish(snapshot: Snapshot, args: argparse.Namespace) -> str:
    from adapters import hub  # its libraries take a second to import

    try:
        text = Path(args.about).read_text() if args.about else ""
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {args.about}: {error}") from error
    about = hub.About(text=text, license=args.license)
    return hub.publish(snapshot, args.file, about=about, private=args.private, user_data=True)


def import_file(args: argparse.Namespace) -> int:
    """Commit what is in a file as the newest version of a memory."""
    snapshot = read(args.file)
    with opened(args) as store:
        name = checked_name(args.name)
        head = store.head(name)
        there = bool(store.history(name, limit=1)) or next(iter(store.log(name)), None) is not None
        if there and not args.replace:
            raise CommandError(
                f"memory {name!r} exists; choose another name, or --replace to have the file's "
                "state as its newest version"
            )
        if there and head is not None and store.info(name).fingerprint != snapshot.fingerprint:
            raise CommandError(
                f"{args.file} was made by model {snapshot.fingerprint!r}, memory {name!r} by "
                f"{store.info(name).fingerprint!r}; choose another name"
            )
        made = replace(
            snapshot,
            memory_id=name,
            version=(head or 0) + 1,
            log_seq=store.last_seq(name),
            parent_digest=snapshot.digest,
            applied_keys=(),
            kind="import",
        )
        store.commit(made, expect=head)
    print(f"{name!r} is what {args.file} holds; that is version {made.version}")
    return 0


def copy(args: argparse.Namespace) -> int:
    """Copy memories to another store. May be repeated to bring the copy up to date."""
    with (
        opened(args) as source,
        closing(with_keys(open_store(args.to), args.to_keys, plain=False)) as target,
    ):
        names = [checked_name(name) for name in args.names] or source.list()
        for name in args.names:
            if name not in source.list(name, limit=1):
                raise CommandError(f"there is no memory {name!r} to copy")
        for name in names:
            try:
                copied = copy_memory(source, target, name)
            except VersionConflict as error:
                raise CommandError(
                    f"{args.to} holds something else under the name {name!r}; delete it there, or "
                    "fork it under another name"
                ) from error
            print(f"{name}: {copied.versions} versions, {copied.records} log records")
    return 0
