"""``rxt memory fork``, ``rollback``, ``tag``, ``prune``, ``delete``, ``expire`` and ``sweep``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxstream.errors import StoreNotFound, VersionConflict

from ..failure import CommandError
from ..names import checked_name, has_begun
from .refs import find, opened
from .show import moment

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


def delete(args: argparse.Namespace) -> int:
    """Remove memories with all that they hold. None goes when one of them is not there."""
    with opened(args) as store:
        names = list(dict.fromkeys(map(checked_name, args.names)))
        for name in names:
            if not has_begun(store, name):
                raise _absent(name)
        for name in names:
            versions = len(store.history(name))
            store.delete(name)
            print(f"deleted {name!r}: {versions} versions and the log")
    return 0


def expire(args: argparse.Namespace) -> int:
    """Set or remove the lifetime of a memory, or tell when it ends."""
    with opened(args) as store:
        name = checked_name(args.name)
        try:
            if args.never or args.days is not None:
                store.expire(name, None if args.never else args.days * DAY)
            elif not has_begun(store, name):
                raise StoreNotFound
        except ValueError as error:
            raise CommandError(f"--days must be more than 0 and finite, not {args.days}") from error
        except StoreNotFound as error:
            raise _absent(name) from error
        ends = store.expires_at(name)
    told = "never expires" if ends is None else f"expires {moment(ends)} unless it is updated"
    print(f"{name!r} {told}")
    return 0


def sweep(args: argparse.Namespace) -> int:
    """Free the space of what is out of use."""
    with opened(args) as store:
        print(f"removed {store.sweep()} expired memories")
    return 0


def _absent(name: str) -> CommandError:
    return CommandError(f"there is no memory {name!r}; rxt memory list shows what there is")
