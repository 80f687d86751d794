"""Where a snapshot can be read from: a file, or an address on the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxstream.snapshot import read_file

if TYPE_CHECKING:
    from rxstream.snapshot import Snapshot

HUB = "hf://"
"""What an address on the Hub begins with."""


def read(source: str) -> Snapshot:
    """Raises SnapshotError."""
    if source.startswith(HUB):
        from adapters import hub  # its libraries take a second to import

        return hub.load(source)
    return read_file(source)
