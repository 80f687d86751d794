"""The time between two tokens of an answer, while versions are being stored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rxstream import Runtime
from rxstream.events import Token
from rxstream.model import Sampling
from rxstream.stores.memory import MemoryStore
from rxstream.stores.wrapper import StoreWrapper

if TYPE_CHECKING:
    from rxstream.snapshot import Snapshot

QUERY = "tell me about my brother, his town near the sea and his dog called Biscuit"


class SlowStore(StoreWrapper):
    """Takes its time for every commit, as a disk or a network does."""

    def __init__(self, inner: MemoryStore, seconds: float) -> None:
        super().__init__(inner)
        self._seconds = seconds

    def commit(
        self, snapshot: Snapshot, *, expect: int | None, request_id: str | None = None
    ) -> None:
        time.sleep(self._seconds)
        super().commit(snapshot, expect=expect, request_id=request_id)


def gaps(model: Any, answers: int, seconds: float) -> list[float]:
    """Seconds between the tokens of two conversations that are answered at once, so that a version
    of one is stored while the other is answered."""
    found: list[float] = []
    store = SlowStore(MemoryStore(), seconds)
    with Runtime(model, store) as runtime:
        chats = [runtime.memory(name).conversation() for name in ("a", "b")]
        for number in range(answers):
            asked = [
                chat.ask(QUERY, sampling=Sampling(max_tokens=24 + 8 * ((number + i) % 2)))
                for i, chat in enumerate(chats)
            ]
            for interaction in asked:
                interaction.result(timeout=120)
                at = [e.at for e in interaction.blocking() if isinstance(e, Token)]
                found += [(b - a) / 1e9 for a, b in zip(at, at[1:], strict=False)]
    return found
