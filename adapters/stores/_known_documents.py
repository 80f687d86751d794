"""Documents that need not be read before the next write, as nobody else seems to write them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._object_document import Document

_KEPT = 256
"""Memories of which the document is kept."""


@dataclass(frozen=True, slots=True)
class Known:
    """A document as this process wrote it last."""

    document: Document
    tag: str
    alone: bool
    """Whether it had written the one before, too."""


class KnownDocuments:
    """The documents of a store that this process wrote last. From any thread.

    A write that begins with such a document is as safe as any: it is swapped by its tag, which
    fails when somebody else was there, and then nothing was stored. But objects were sent in vain,
    so it is tried only where two writes in a row were ours.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str) -> Known | None:
        """A document to begin with. It is forgotten: whatever fails now, the next one is read."""
        with self._lock:
            known = self._known.get(key)
            if known is None or not known.alone:
                return None
            return self._known.pop(key)

    def wrote(self, key: str, before: str | None, document: Document, tag: str) -> None:
        """``document`` took the place of the one with tag ``before``, which was read."""
        with self._lock:
            last = self._known.pop(key, None)
            self._keep(key, Known(document, tag, last is not None and last.tag == before))

    def went_on(self, key: str, document: Document, tag: str) -> None:
        """``document`` took the place of one that was taken here."""
        with self._lock:
            self._keep(key, Known(document, tag, True))

    def _keep(self, key: str, known: Known) -> None:
        if not known.tag:  # a service that gives none
            return
        self._known[key] = known
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
