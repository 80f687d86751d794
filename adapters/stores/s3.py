"""Objects in S3 and what speaks its language. Needs ``rxstream[s3]``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, urlsplit

from rxstream.errors import StoreCorrupt, StoreNotFound, StoreUnavailable
from rxstream.stores.buffered import Buffered
from rxstream.stores.remote import Outrun, RemoteStore

from ._known_documents import KnownDocuments
from ._object_document import Document, counts, decoded, document_name, owner_of
from ._object_rows import ObjectMemory
from ._s3_objects import BucketObjects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rxstream.stores.rows import Rows

T = TypeVar("T")
_AT_ONCE = 16
"""Documents read at once by ``list``."""
GARBAGE_AGE = timedelta(hours=1)
"""What no document names is removed by ``sweep`` when it is older: before, it may be about to."""


class S3Store(RemoteStore):
    """A ``Store`` in a bucket that knows conditional writes (``If-Match``, ``If-None-Match``).

    That is Amazon S3, Cloudflare R2, MinIO and others. Two requests a call, and one more for a
    write to a memory that another process may write to; ``list`` reads one small object for each
    memory. One version may take 5 GB. Lifetimes are measured by this machine's clock. Raises
    ``StoreUnavailable``.
    """

    capabilities = frozenset({"persistent", "durable", "shared"})

    def __init__(
        self, bucket: str, prefix: str = "", *, patience: float = 5.0, **options: str
    ) -> None:
        """``options`` are obstore's: ``endpoint``, ``region``, ``access_key_id`` …; what is not
        given comes from the environment (``AWS_…``)."""
        super().__init__(f"bucket {bucket}", patience)
        self._objects = BucketObjects(bucket, prefix, options)
        self._known = KnownDocuments()
        # Whether there is a bucket, and we may read it.
        self._persist(lambda: self._objects.get("d/-"), repeatable=True)

    @classmethod
    def from_url(cls, url: str) -> S3Store:
        """``s3://bucket/prefix?endpoint=https://…&region=…``; keys come from the environment."""
        parts = urlsplit(url)
        if not parts.netloc:
            raise StoreUnavailable(f"{url!r} has no bucket; write s3://bucket/prefix")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if wrong := options.keys() - {"endpoint", "region", "virtual_hosted_style_request"}:
            raise StoreUnavailable(
                f"{url!r} has an option that is not known, {min(wrong)}; known: endpoint, region"
            )
        return cls(parts.netloc, parts.path.strip("/"), patience=5.0, **options)

    def erase(self) -> None:
        """Remove every object under the prefix, also those that keep version numbers from being
        used again. The store is closed then."""

        def remove() -> None:
            for name, _ in self._objects.listed(""):
                self._objects.remove([name])

        self._persist(remove, repeatable=True)
        self.close()

    def _clean(self) -> None:
        def clean() -> None:
            before = datetime.now(UTC) - GARBAGE_AGE + timedelta(seconds=self._skew)
            documents: dict[str, Document | None] = {}
            for name, made in self._objects.listed("o"):
                owner = owner_of(name)
                if owner is None:  # somebody else's
                    continue
                if owner not in documents:
                    documents[owner] = self._document(owner)
                document = documents[owner]  # of a damaged one nobody knows what counts
                if document is not None and made < before and not counts(document, name):
                    self._objects.remove([name])

        self._persist(clean, repeatable=True)

    def _read_once(self, key: str, work: Callable[[Rows], T]) -> T:
        memory = ObjectMemory(self._objects, key, self._now())
        try:
            return work(Buffered(memory))
        except (StoreCorrupt, StoreNotFound):
            if memory.is_outrun():
                raise Outrun from None
            raise

    def _write_once(self, key: str, work: Callable[[Rows], T]) -> T:
        known = self._known.take(key)
        memory = ObjectMemory(self._objects, key, self._now(), known)
        changes = Buffered(memory)
        try:
            result = work(changes)
        except Exception as exc:
            # What a document says that is known from before may be old: so it is no reason.
            found = isinstance(exc, (StoreCorrupt, StoreNotFound)) and memory.is_outrun()
            if known is not None or found:
                raise Outrun from None
            raise
        if not changes:
            if known is not None:
                raise Outrun
            return result
        if (written := memory.apply(changes)) is None:
            raise Outrun
        if known is not None:
            self._known.went_on(key, *written)
        else:
            self._known.wrote(key, memory.tag, *written)
        return result

    def _names(self, prefix: str, after: str, limit: int | None) -> list[str]:
        def names() -> list[str]:
            wanted = sorted(n for n in self._all_names() if n.startswith(prefix) and n > after)
            now, found = self._now(), list[str]()
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for start in range(0, len(wanted), 256):
                    some = wanted[start : start + 256]
                    documents = pool.map(self._document, some)
                    found += [
                        key
                        for key, document in zip(some, documents, strict=True)
                        if document is None or document.meta.at(now).live
                    ]
                    if limit is not None and len(found) >= limit:
                        break
            return found[:limit]

        return self._persist(names)

    def _expired(self) -> list[str]:
        def expired() -> list[str]:
            keys, now = sorted(self._all_names()), self._now()
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                documents = list(pool.map(self._document, keys))
            return [
                key
                for key, document in zip(keys, documents, strict=True)
                if document is None or document.meta.at(now) is not document.meta
            ]

        return self._persist(expired)

    def _all_names(self) -> Iterator[str]:
        """Names of all memories with a document. Objects of others are passed over."""
        for name, _ in self._objects.listed("d"):
            if (key := decoded(name.removeprefix("d/"))) is not None:
                yield key

    def _document(self, key: str) -> Document | None:
        """None for a damaged one, which says so when it is used."""
        found = self._objects.get(document_name(key))
        try:
            return Document() if found is None else Document.unpack(key, found[0])
        except StoreCorrupt:
            return None

    def _close(self) -> None:
        self._gate.close()
