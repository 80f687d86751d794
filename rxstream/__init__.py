"""Stateful language models that live as event streams.

::

    from rxstream import Runtime, operators

    with Runtime(model, store="sqlite:///memories.db") as runtime:     # also: async with
        memory = runtime.memory("user-42")                # from the store, or new
        chat = memory.conversation("main")
        it = chat.ask("Tell me a story")                  # an Observable: hot, replayable
        it.pipe(operators.text()).subscribe(print)        # every RxPY operator works
        answer = it.result()                              # or: answer = await it

A query is answered token by token; afterwards the interaction is folded into the memory, whose size
never changes. ``memory.events`` tells everything that happens, ``memory.changes`` each new version,
``memory.snapshot()`` is a version at rest, ``runtime.memory("b", snapshot=...)`` begins with one.

A model author implements ``ReactiveModel``; ``rxstream.testing.FakeModel`` is one without weights.
"""

from . import errors, operators
from ._promise import Pending
from ._turn import Timeouts
from .aio import aiter, blocking, consume, from_aiter
from .answer import Answer, Usage
from .conversation import Conversation
from .events import (
    AnswerCompleted,
    Cancelled,
    ErrorInfo,
    Event,
    Failed,
    Gap,
    GenerationStarted,
    MemoryFailed,
    MemorySkipped,
    MemoryUpdated,
    MemoryUpdating,
    QueryAccepted,
    Rejected,
    Token,
)
from .hooks import hooks
from .interaction import Interaction
from .memory import MemoryInfo, MemoryPersisted, PersistFailed, ShortTermMemory
from .model import CompletedInteraction, DecodeRequest, ReactiveModel, Sampling, TokenDraft
from .runtime import Runtime
from .snapshot import Snapshot
from .stats import BatchStats, MemoryStats, RuntimeStats, TenantStats
from .store import LogRecord, Store
from .stores import open_store
from .stream import EventStream, bounded

__all__ = [
    "Answer",
    "AnswerCompleted",
    "BatchStats",
    "Cancelled",
    "CompletedInteraction",
    "Conversation",
    "DecodeRequest",
    "ErrorInfo",
    "Event",
    "EventStream",
    "Failed",
    "Gap",
    "GenerationStarted",
    "Interaction",
    "LogRecord",
    "MemoryFailed",
    "MemoryInfo",
    "MemoryPersisted",
    "MemorySkipped",
    "MemoryStats",
    "MemoryUpdated",
    "MemoryUpdating",
    "Pending",
    "PersistFailed",
    "QueryAccepted",
    "ReactiveModel",
    "Rejected",
    "Runtime",
    "RuntimeStats",
    "Sampling",
    "ShortTermMemory",
    "Snapshot",
    "Store",
    "TenantStats",
    "Timeouts",
    "Token",
    "TokenDraft",
    "Usage",
    "aiter",
    "blocking",
    "bounded",
    "consume",
    "errors",
    "from_aiter",
    "hooks",
    "open_store",
    "operators",
]
