"""``rxt memory new-key``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..missing import import_optional

if TYPE_CHECKING:
    import argparse


def new_key(args: argparse.Namespace) -> int:
    """Add a key to a file of keys, and make it the current one."""
    name = args.name or datetime.now(UTC).date().isoformat()
    import_optional("cryptography", "crypto")
    from adapters.stores.key_file import add_key

    add_key(args.keys, name)
    print(f"{args.keys}: new memories are encrypted with {name!r}; keep the file safe and apart")
    return 0
