"""Snapshots on the Hugging Face Hub: published with a card, loaded as what strangers made.

An address is ``hf://owner/name``, ``hf://owner/name@revision`` or either with ``/file`` after it.
Tokens, caches and proxies are the library's business, as for models. The Hub is a place to publish
to; memories in use are kept in a store.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    ModelCard,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
)
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    HfHubHTTPError,
    HTTPError,
)

from rxstream.errors import SnapshotError
from rxstream.snapshot import pack, read_file

from .hub_card import MARK, write_card
from .hub_errors import FAILURES, why

if TYPE_CHECKING:
    from rxstream.snapshot import Snapshot

SCHEME = "hf://"
FILE = "memory.stm.safetensors"
"""The name of a snapshot in its repository, unless another one is given."""
CARD = "README.md"
MAX_BYTES = 2 << 30
"""A longer file is not fetched."""
_ADDRESS = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>[\w./-]+))?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where on the Hub a snapshot is."""

    repo: str
    revision: str | None = None
    """A branch, a tag or a commit; None for the newest."""
    file: str = FILE

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises SnapshotError for what is not an address."""
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise SnapshotError(
                f"{text[:200]!r} is no address on the Hub; write hf://owner/name, with @revision "
                "and /file if you like"
            )
        return cls(found["repo"], found["revision"], found["file"] or FILE)

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repo}{revision}/{self.file}"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the card of a snapshot says that the snapshot does not."""

    text: str = ""
    """Markdown: what it knows, and how it was made."""
    license: str | None = None
    """An identifier of the Hub, such as ``cc-by-4.0``."""
    base_model: str | None = None
    """The model that made it, as ``owner/name``."""


def publish(
    snapshot: Snapshot,
    address: str | Address,
    *,
    about: About | None = None,
    private: bool = False,
    user_data: bool = False,
) -> str:
    """Put a snapshot and its card into a repository of the Hub, in one commit; returns its URL.

    A repository that does not exist is created, ``private`` or not. A card that somebody changed so
    that it is theirs stays as it is. ``user_data`` must be True for a snapshot of what a user said.
    Raises SnapshotError, also when somebody else committed meanwhile; then nothing was published.
    """
    place = Address.parse(address) if isinstance(address, str) else address
    if snapshot.contains_user_data and not user_data:
        raise SnapshotError(
            f"version {snapshot.version} of memory {snapshot.memory_id[:80]!r} was made of what a "
            "user said, and whoever loads it has that too; if that is meant, say user_data=True"
        )
    data, api = pack(snapshot), HfApi()
    try:
        api.create_repo(place.repo, private=private, exist_ok=True)
        parent = api.model_info(place.repo, revision=place.revision).sha
        operations = [CommitOperationAdd(place.file, data)]
        if _card_is_ours(place.repo, parent):
            card = write_card(snapshot, place, about or About()).encode()
            operations.append(CommitOperationAdd(CARD, card))
        committed = api.create_commit(
            place.repo,
            operations,
            commit_message=f"Version {snapshot.version}: {snapshot.digest[:19]}",
            revision=place.revision,
            parent_commit=parent,
        )
    except FAILURES as error:
        raise SnapshotError(f"the Hub did not take {place}: {why(error)}") from error
    return str(committed.commit_url)


def load(
    address: str | Address, *, fingerprint: str | None = None, max_bytes: int = MAX_BYTES
) -> Snapshot:
    """A snapshot from the Hub, or from the local cache where it is there already.

    ``fingerprint`` is that of the model that shall load it; None accepts any. Name a commit as the
    revision to get the same bytes for ever. Raises SnapshotError when the Hub does not give it or
    it is longer than ``max_bytes``, SnapshotCorrupt, SnapshotIncompatible.
    """
    place = Address.parse(address) if isinstance(address, str) else address
    try:
        try:
            url = hf_hub_url(place.repo, place.file, revision=place.revision)
            size = get_hf_file_metadata(url).size or 0
        except HfHubHTTPError:
            raise
        except (OSError, HTTPError):
            size = 0  # the Hub is out of reach: perhaps it is in the cache
        _check_size(place, size, max_bytes)
        path = hf_hub_download(place.repo, place.file, revision=place.revision)
        _check_size(place, os.path.getsize(path), max_bytes)
    except FAILURES as error:
        raise SnapshotError(f"the Hub does not give {place}: {why(error)}") from error
    return read_file(path, fingerprint)


def _card_is_ours(repo: str, revision: str | None) -> bool:
    try:
        return MARK in ModelCard.load(hf_hub_download(repo, CARD, revision=revision)).content
    except EntryNotFoundError:
        return True


def _check_size(place: Address, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise SnapshotError(
            f"{place} has {size} bytes, more than the {max_bytes} allowed; raise max_bytes if you "
            "trust it"
        )
