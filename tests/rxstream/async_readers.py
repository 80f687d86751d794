"""What tests of readers on event loops have in common."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from rxstream.log import EventLog
from rxstream.stream import EventStream


def live(capacity: int = 64) -> tuple[EventLog[int], EventStream[int]]:
    log: EventLog[int] = EventLog(capacity)
    return log, EventStream(log)


async def parked(log: EventLog[Any]) -> None:
    """Until a reader waits."""
    while not log._parked:
        await anyio.lowlevel.checkpoint()


def produce(log: EventLog[int], count: int, lags: list[int] | None = None) -> None:
    """Append from this thread whenever the log is ready, then close."""
    for n in range(count):
        log.wait_ready()
        log.append(n)
        if lags is not None:
            lags.append(log.lag)
    log.close()
