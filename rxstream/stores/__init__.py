"""Stores: opening one by its address. For authors of stores: ``rules`` and ``records``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from ..errors import StoreUnavailable

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["ENTRY_POINTS", "open_store"]

ENTRY_POINTS = "rxstream.stores"
"""Group of entry points; each names a URL scheme and a class with ``from_url(url) -> Store``."""


def open_store(store: str | Store) -> Store:
    """The store at a URL such as ``memory:`` or ``sqlite:///path``; a store is returned as it is.

    Packages add schemes through the entry-point group ``rxstream.stores``. Raises
    ``StoreUnavailable`` when the scheme is unknown, its package is not installed, or the store
    cannot be opened.
    """
    if not isinstance(store, str):
        return store
    scheme, separator, _ = store.partition(":")
    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if not separator or scheme not in found:
        known = ", ".join(f"{name}:" for name in sorted(found)) or "none; reinstall rxstream"
        raise StoreUnavailable(
            f"no store for {store!r}: the address must start with a known scheme ({known}), "
            "for a file on this machine sqlite:///path"
        )
    try:
        kind = found[scheme].load()
    except ImportError as exc:
        extras = ",".join(found[scheme].extras)
        remedy = f"pip install 'rxstream[{extras}]'" if extras else "install what it needs"
        raise StoreUnavailable(
            f"the store for {scheme}: cannot be loaded ({exc}); {remedy}"
        ) from exc
    opened: Store = kind.from_url(store)
    return opened
