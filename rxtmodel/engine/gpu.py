"""The engine of a GPU: steps and updates as graphs, each kind on a stream of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .device import DeviceBatch
from .update import Updater

if TYPE_CHECKING:
    from ..model import ReactiveTransformer


class DeviceEngine:
    """``DeviceBatch`` and ``Updater`` over one pool of memories. Updates may run on a thread of
    their own beside decoding.

    Args:
        compiled: see ``Updater``.
    """

    thread_safe = True

    def __init__(
        self, model: ReactiveTransformer, max_rows: int, max_len: int, *, compiled: bool = False
    ) -> None:
        if model.embedding.weight.device.type == "cuda" and model.backend == "sdpa":
            model.use_backend("triton")
        self.batch = DeviceBatch(model, max_rows, max_len)
        self.updater = Updater(model, self.batch.pool, self.batch.graphs, compiled=compiled)
        self.add_all, self.step = self.batch.add_all, self.batch.step
        self.remove = self.batch.remove
        self.room, self.limit = self.batch.room, self.batch.limit
        self.encode, self.attend = self.updater.encode, self.updater.attend
