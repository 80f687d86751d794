"""Steps of many answers on a GPU while memories are updated."""

from __future__ import annotations

import statistics
import threading
import time
from typing import TYPE_CHECKING

import torch

from rxtmodel.engine.device import DeviceBatch
from rxtmodel.engine.fused import FusedStep
from rxtmodel.engine.update import Updater

from .engine_model import LENGTH, memories, query, started
from .report import Table

if TYPE_CHECKING:
    from rxtmodel import ReactiveTransformer

AT_ONCE, STEPS = 16, 300


def table(model: ReactiveTransformer, rows: int) -> Table:
    """Steps alone, and beside updates one after the other; as one kernel, and in parts."""
    found = Table(
        f"A step of {rows} beside updates of {AT_ONCE} memories, 256 tokens each (ms)",
        ["step", "updates", "median", "95 %", "an update"],
    )
    for parts in (False, True):
        batch = DeviceBatch(model, rows, LENGTH)
        launches = batch.launches
        if launches.fused is not None and parts:
            launches.fused = FusedStep(model, launches.rows, launches.pool, persistent=False)
        whole = launches.fused is not None and launches.fused.goes_whole(rows)
        if parts or whole:
            name = "one kernel" if whole else "in parts" if rows > 64 else "kernels"
            for beside in (False, True):
                found.add(name, "beside" if beside else "none", *_steps(batch, model, rows, beside))
        del batch, launches
        torch.cuda.empty_cache()
    return found


def _steps(
    batch: DeviceBatch, model: ReactiveTransformer, count: int, beside: bool
) -> tuple[float, float, float | None]:
    """Median and 95th percentile of a step, median of an update."""
    rows = started(batch, memories(model, count))
    updates = _Updates(Updater(model, batch.pool, batch.graphs), model)
    for _ in range(8):
        batch.step(rows)
    if beside:
        updates.thread.start()
        updates.under_way.wait()
    times = []
    for _ in range(STEPS):
        began = time.perf_counter()
        batch.step(rows)
        times.append((time.perf_counter() - began) * 1e3)
    updates.enough.set()
    if beside:
        updates.thread.join()
        if updates.error is not None:
            raise updates.error
    for row in rows:
        batch.remove(row)
    # The last one went on when there were no steps any more.
    middle = statistics.median(updates.times[:-1]) if beside else None
    return statistics.median(times), statistics.quantiles(times, n=20)[-1], middle


class _Updates:
    """Updates of the same memories, again and again, in a thread."""

    def __init__(self, updater: Updater, model: ReactiveTransformer) -> None:
        self._updater, self._memories = updater, memories(model, AT_ONCE)
        self._ids = [query(i) + query(i + 1) for i in range(AT_ONCE)]
        self.times: list[float] = []
        self.error: BaseException | None = None
        self.under_way, self.enough = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run)
        self._once()  # which records its graphs

    def _run(self) -> None:
        try:
            while not self.enough.is_set():
                took = self._once()
                if self.under_way.is_set():  # the first one was launched before any step
                    self.times.append(took)
                self.under_way.set()
        except BaseException as error:
            self.error = error
            self.under_way.set()

    def _once(self) -> float:
        began = time.perf_counter()
        new = self._updater.attend(self._memories, self._updater.encode(self._ids))
        new[-1].settled()
        return (time.perf_counter() - began) * 1e3
