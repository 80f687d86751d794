"""Opening the store, and finding the version that ``NAME@VERSION`` or ``NAME@LABEL`` names."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rxstream.stores import open_store

from ..failure import CommandError
from ..missing import import_optional
from ..names import checked_name, default_store

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rxstream.store import Store


@dataclass(frozen=True, slots=True)
class Ref:
    """One version of a memory."""

    name: str
    version: int
    given: bool
    """Whether the version was, or is the newest."""


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Store]:
    """The store that ``--store`` names, behind ``--keys`` if there are any."""
    store = with_keys(open_store(args.store or default_store()), args.keys, args.plain)
    try:
        yield store
    finally:
        store.close()


def with_keys(store: Store, keys: str | None, plain: bool) -> Store:
    """``store``, its contents encrypted with a file of keys. Closed when that cannot be read."""
    if keys is None:
        return store
    try:
        import_optional("cryptography", "crypto")
        from adapters.stores.encrypted import EncryptedStore
        from adapters.stores.key_file import read_keys

        return EncryptedStore(store, read_keys(keys), strict=not plain)
    except BaseException:
        store.close()
        raise


def find(store: Store, text: str) -> Ref:
    """The version that ``text`` names. Raises CommandError when there is none."""
    checked_name(text)
    name, at, which = text.rpartition("@")
    if at and name and not store.history(text, limit=1):
        version = _version(store, checked_name(name), which)
        return Ref(name, version, given=True)
    newest = store.history(text, limit=1)
    if not newest:
        raise CommandError(f"there is no memory {text!r}; rxt memory list shows what there is")
    return Ref(text, newest[0], given=False)


def _version(store: Store, name: str, which: str) -> int:
    tags = store.tags(name)
    if which in tags:
        return tags[which]
    if which.isascii() and which.isdigit() and int(which) in store.history(name):
        return int(which)
    if not store.history(name, limit=1):
        raise CommandError(f"there is no memory {name!r}; rxt memory list shows what there is")
    raise CommandError(
        f"memory {name!r} has no version or label {which!r}; rxt memory log shows its versions"
    )
