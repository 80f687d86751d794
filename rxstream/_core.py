"""What a runtime must shut down, in which order, and when nobody does."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import warnings
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _debug
from ._promise import Pending
from ._wake import elsewhere
from .errors import ClosedError
from .hooks import report

if TYPE_CHECKING:
    from ._engine import Engine
    from ._machine import Machine

logger = logging.getLogger("rxstream")


class Core:
    """What must be shut down. It does not refer to the Runtime: a dropped one is noticed."""

    def __init__(self, engine: Engine, owns_store: bool) -> None:
        self.engine, self.owns_store = engine, owns_store
        self.lock = threading.Lock()
        self.machines: dict[str, Machine] = {}
        self.closing = False
        self.closed: Pending[bool] = Pending()
        made_at = _debug.site()
        self.made_at = f" (made at {made_at})" if made_at else ""

    def close(self, grace: float | None, drain: bool) -> bool:
        with self.lock:
            first, self.closing = not self.closing, True
            machines = list(self.machines.values())
        if not first:
            return self.closed.result(grace)
        engine, whole = self.engine, False
        try:
            ends = None if grace is None else time.monotonic() + grace
            whole = self.end(machines, ends, drain)
            if self.owns_store:
                engine.on_io(engine.store.close)
            engine.loop.look()
            engine.lanes.run()
            late = engine.lanes.close(time_left(ends))
            if late:
                whole = False
                logger.warning("lanes still busy at the end: %s", ", ".join(late))
        finally:
            self.closed.resolve(whole)
        return whole

    def end(self, machines: list[Machine], ends: float | None, drain: bool) -> bool:
        """End what runs, store what is unstored, complete the streams. False: not in time."""
        whole = True
        for machine in machines:
            machine.close(drain=drain)
        for machine in machines:
            idle: Pending[None] = Pending()
            machine.when_idle(partial(idle.resolve, None))
            if not self._wait(idle, ends):
                whole = False
                logger.warning("memory %r was still busy when the grace ended", machine.name)
                machine.abandon(ClosedError("the runtime was closed"))
        for machine in machines:
            try:
                if not self._wait(machine.memorizer.persister.flush(), ends):
                    whole = False
                    logger.warning("memory %r was not stored in time", machine.name)
            except Exception as error:
                whole = False
                logger.warning(
                    "version %d of memory %r could not be stored (%s); its interaction log has "
                    "what the next start needs",
                    machine.memorizer.version,
                    machine.name,
                    error,
                )
        for machine in machines:
            machine.shut()
        return whole

    def _wait(self, pending: Pending[Any], ends: float | None) -> bool:
        self.engine.lanes.run()
        done = threading.Event()
        pending.when_done(done.set)
        if not done.wait(0.0 if self.engine.lanes.inline else time_left(ends)):
            return False
        pending.result()
        return True


def time_left(ends: float | None) -> float | None:
    """Seconds until ``ends`` on the monotonic clock; None for ever."""
    return None if ends is None else max(0.0, ends - time.monotonic())


cores: weakref.WeakSet[Core] = weakref.WeakSet()


def _after_fork() -> None:
    for core in list(cores):
        core.engine.forked = True


def _at_exit() -> None:
    for core in list(cores):
        if not core.engine.forked and not core.closing:
            if _debug.enabled:
                _warn(core, "was still open when the program ended")
            core.close(5.0, False)


def dropped(core: Core) -> None:
    # A finaliser may interrupt any thread anywhere: no locks here, so closing happens elsewhere.
    if not core.closing and not core.engine.forked:
        _warn(core, "was dropped without being closed")
        elsewhere(lambda: core.close(30.0, False))


def _warn(core: Core, what: str) -> None:
    warnings.warn(
        f"a Runtime{core.made_at} {what}; use 'with Runtime(...)'", ResourceWarning, stacklevel=3
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


class OnLaneError:
    """What a lane does with an error that nobody handled: report it, and go on."""

    def __init__(self) -> None:
        self.core: weakref.ref[Core] | None = None

    def __call__(self, error: BaseException) -> None:
        report(error)
        core = self.core() if self.core is not None else None
        if core is not None and not isinstance(error, Exception):
            # Somebody wants the program to end, which a lane cannot do: it ends the runtime.
            elsewhere(lambda: core.close(30.0, False))
