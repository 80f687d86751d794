"""The engine of a GPU: steps and updates as graphs, each kind on a stream of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .device import DeviceBatch
from .graphs import round_up
from .update import MOST_UPDATES, Updater

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
        most = round_up(max_rows, MOST_UPDATES)  # more than that go one after the other
        self.updater = Updater(
            model, self.batch.pool, self.batch.graphs, max_batch=most, compiled=compiled
        )
        self.add_all, self.step = self.batch.add_all, self.batch.step
        self.remove = self.batch.remove
        self.room, self.limit = self.batch.room, self.batch.limit
        self.encode, self.attend = self.updater.encode, self.updater.attend

    def warm_up(self) -> None:
        """See ``Engine``. Some hundred graphs, each with memory of its own to work in: seconds,
        and minutes where Triton has compiled none of its kernels on this machine yet."""
        self.batch.warm_up()
        self.updater.warm_up()
        torch.cuda.synchronize(self.batch.rows.device)
