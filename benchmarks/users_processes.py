"""The same users, divided among processes that each have a runtime and the model, on one device."""

from __future__ import annotations

import functools
import gc
import multiprocessing
from multiprocessing import connection
from typing import TYPE_CHECKING

from .users_load import Times, through

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier

    from .users_load import Wanted

_PATIENCE = 300.0


def divided(wanted: Wanted, processes: int) -> Times:
    """``wanted.count`` users in all, who subscribe. Raises RuntimeError where a process fails."""
    context = multiprocessing.get_context("spawn")
    barrier, share = context.Barrier(processes), wanted._replace(count=wanted.count // processes)
    ends, running, found = [], [], []
    try:
        for _ in range(processes):
            end, other = context.Pipe(duplex=False)
            process = context.Process(target=_measure, args=(share, barrier, other), daemon=True)
            process.start()
            other.close()
            ends.append(end)
            running.append(process)
        while len(found) < processes:
            ready = connection.wait(ends, _PATIENCE)
            if not ready:
                raise RuntimeError(f"a process that measures says nothing for {_PATIENCE} s")
            for end in ready:
                found.append(end.recv())
                ends.remove(end)
    except EOFError as error:
        raise RuntimeError("a process that measures has failed; its error was printed") from error
    finally:
        for process in running:
            process.terminate()
            process.join()
    return functools.reduce(Times.joined, found)


def _measure(wanted: Wanted, barrier: Barrier, end: Connection) -> None:
    try:
        place = wanted.place()
        gc.collect()
        gc.freeze()
        end.send(through("subscribe", place, lambda: barrier.wait(_PATIENCE)))
    except BaseException:
        barrier.abort()  # or the others would wait for this one
        raise
