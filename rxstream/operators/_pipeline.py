"""What decode, encode, attend and interact have in common: they ask a conversation.

The operators name how far an interaction goes; the memory's state machine does the work. So there
is one order of events and one lease, however a program is written.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from reactivex import Observable
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from .._checks import check_type
from .._line import Busy
from ..events import Event
from ..log import EventLog
from ..memory import ShortTermMemory
from ..model import CompletedInteraction, Sampling, Thinking

if TYPE_CHECKING:
    from reactivex import abc

    from .._turn import Timeouts
    from ..conversation import Conversation
    from ..interaction import Interaction

Depth = Literal["decoded", "encoded", "attended"]
_CAPACITY = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query with more than its text, for pipelines."""

    text: str
    sampling: Sampling | None = None
    key: str | None = None
    timeouts: Timeouts | None = None
    thinking: Thinking = "fast"
    tools: bool = False
    tool_result: bool = False
    instruction: str = ""


class Stage(Observable[Event]):
    """A cold observable: each subscription asks its own queries."""

    def __init__(
        self,
        source: Observable[Any],
        memory: ShortTermMemory[Any],
        *,
        depth: Depth,
        conversation: str = "main",
        busy: Busy | None = None,
    ) -> None:
        super().__init__()
        check_type(memory, ShortTermMemory, "the memory of a pipeline")
        if busy is not None and busy not in get_args(Busy):
            raise ValueError(f"busy must be one of {', '.join(get_args(Busy))}, not {busy!r}")
        self.source, self.memory, self.depth = source, memory, depth
        self._options: dict[str, Any] = {"conversation": conversation, "busy": busy}

    def deeper(self, memory: ShortTermMemory[Any], depth: Depth, after: Depth) -> Stage:
        """The same pipeline, one operator longer."""
        if self.depth != after:
            raise ValueError(f"{depth!r} must follow {after!r} directly, not {self.depth!r}")
        if self.memory is not memory:
            raise ValueError(
                f"all operators of a pipeline need one memory, not {self.memory.name!r} and "
                f"{memory.name!r}"
            )
        return Stage(self.source, memory, depth=depth, **self._options)

    def _subscribe_core(
        self, observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        name, busy = self._options["conversation"], self._options["busy"]
        run = _Run(self.memory.conversation(name, busy=busy), self.depth == "attended", observer)
        run.source.disposable = self.source.subscribe(
            run.on_next, run.on_error, run.on_completed, scheduler=scheduler
        )
        return Disposable(run.dispose)


class _Run:
    """One subscription: its interactions, and one serial stream of their events."""

    def __init__(
        self, conversation: Conversation, remember: bool, observer: abc.ObserverBase[Event]
    ) -> None:
        self.source = SingleAssignmentDisposable()
        self._conversation, self._remember = conversation, remember
        # Queries wait here, so that a source may give more than the conversation's queue takes.
        self._one_by_one = conversation.busy == "enqueue"
        self._lock = threading.Lock()
        self._waiting: deque[Any] = deque()
        self._open: set[Interaction] = set()
        self._asking = 0
        self._source_ended = self._disposed = False
        self._log: EventLog[Event] = EventLog(_CAPACITY)
        self._out = self._log.subscribe(
            observer.on_next, observer.on_error, observer.on_completed, start=0
        )

    def on_next(self, item: Any) -> None:
        with self._lock:
            self._waiting.append(item)
        self._go_on()

    def on_error(self, error: Exception) -> None:
        self._log.close(error)
        self.dispose()

    def on_completed(self) -> None:
        with self._lock:
            self._source_ended = True
        self._go_on()

    def _go_on(self) -> None:
        while True:
            with self._lock:
                if self._disposed:
                    return
                busy = self._open or self._asking
                if not self._waiting:
                    if busy or not self._source_ended:
                        return
                    break
                if busy and self._one_by_one:
                    return
                item = self._waiting.popleft()
                self._asking += 1
            try:
                self._ask(item)
            except Exception as error:
                self.on_error(error)
                return
        self._log.close()

    def _ask(self, item: Any) -> None:
        conversation = self._conversation
        if isinstance(item, CompletedInteraction):
            interaction = conversation._remember(
                item, remember=self._remember, raise_on_reject=False
            )
        else:
            query = item if isinstance(item, Query) else Query(text=item)
            interaction = conversation.ask(
                query.text,
                sampling=query.sampling,
                key=query.key,
                timeouts=query.timeouts,
                thinking=query.thinking,
                tools=query.tools,
                tool_result=query.tool_result,
                instruction=query.instruction,
                detach="keep",
                remember=self._remember,
                raise_on_reject=False,
            )
        with self._lock:
            self._asking -= 1
            self._open.add(interaction)
            disposed = self._disposed
        if disposed:
            interaction.cancel()
            return
        done = partial(self._done, interaction)
        interaction.subscribe(self._log.append, lambda error: done(), done)

    def _done(self, interaction: Interaction) -> None:
        with self._lock:
            self._open.discard(interaction)
        self._go_on()

    def dispose(self) -> None:
        """Cancel what this subscription asked and is not answered yet."""
        with self._lock:
            self._disposed = True
            self._waiting.clear()
            interactions = list(self._open)
        self.source.dispose()
        self._out.dispose()
        for interaction in interactions:
            interaction.cancel()
