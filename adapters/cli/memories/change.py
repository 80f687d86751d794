"""``rxt memory fork``, ``rollback``, ``tag`` and ``prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxstream.errors import VersionConflict

from ..failure import CommandError
from ..session import checked_name
from .refs import find, opened

if TYPE_CHECKING:
    import argparse

DAY = 86_400.0


def fork(args: argparse.Namespace) -> int:
    """Begin a new memory with a version of another."""
    with opened(args) as store:
        ref = find(store, args.ref)
        try:
            info = store.fork(ref.name, checked_name(args.new), version=ref.version)
        except VersionConflict as error:
            raise CommandError(f"memory {args.new!r} exists; choose another name") from error
    print(f"{args.new!r} begins with version {ref.version} of {ref.name!r} ({info.digest[7:19]})")
    return 0


def rollback(args: argparse.Namespace) -> int:
    """Make an old version the newest."""
    with opened(args) as store:
        ref = find(store, args.ref)
        if not ref.given:
            raise CommandError(f"say which version: {args.ref}@VERSION; rxt memory log shows them")
        info = store.rollback(ref.name, ref.version)
    print(f"{ref.name!r} is as in version {ref.version}; that is version {info.version} now")
    return 0


def tag(args: argparse.Namespace) -> int:
    """Name a version, list the names, or remove one."""
    with opened(args) as store:
        ref = find(store, args.ref)
        if args.label is None:
            if args.remove:
                raise CommandError("say which label to remove")
            for label, version in store.tags(ref.name).items():
                print(f"{label}  {version}")
        elif args.remove:
            store.untag(ref.name, args.label)
        else:
            try:
                version = store.tag(ref.name, args.label, ref.version)
            except ValueError as error:
                raise CommandError(str(error)) from error
            print(f"{args.label}: version {version} of {ref.name!r}")
    return 0


def prune(args: argparse.Namespace) -> int:
    """Remove old versions of one memory, or of all."""
    older = None if args.older_than is None else args.older_than * DAY
    with opened(args) as store:
        if args.name is not None:
            find(store, args.name)  # says so when it is not there
        total = 0
        for name in [args.name] if args.name is not None else store.list():
            try:
                total += store.prune(name, keep_last=args.keep, older_than=older)
            except ValueError as error:
                raise CommandError("say what to keep: --keep N, --older-than DAYS") from error
        swept = store.sweep() if args.name is None else 0
    print(f"removed {total} versions" + (f" and {swept} expired memories" if swept else ""))
    return 0
