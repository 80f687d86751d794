"""A deterministic model without weights, with programmable costs, faults and windows."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import tensorfile
from ..errors import QueryRejected, SnapshotIncompatible
from ..model import CompletedInteraction, DecodeRequest, TokenDraft

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..model import Channel, FinishReason

FakeMemory = tuple[str, ...]
"""What was said, oldest first: ``"query -> answer"``, an instruction in brackets before it."""


class Pause:
    """A window of a :class:`FakeModel` held open: a call of the model waits here until released."""

    def __init__(self) -> None:
        self._entered, self._released = threading.Event(), threading.Event()

    def wait_until_reached(self, timeout: float = 30.0) -> None:
        """Wait until the model has come here. Raises TimeoutError."""
        if not self._entered.wait(timeout):
            raise TimeoutError("the model never came to the pause")

    def release(self) -> None:
        """Let the call, and all later ones, go on."""
        self._released.set()

    def __call__(self, *_: object) -> None:
        self._entered.set()
        if not self._released.wait(60):
            raise TimeoutError("a pause was never released")


class _Decoding:
    def __init__(self, request: DecodeRequest[FakeMemory], words: list[str]) -> None:
        self.request, self.position, self.finished = request, 0, False
        thought = [] if request.thinking == "fast" else ["let ", "me ", "see"]
        called = ['{"name": ', '"look"}'] if request.tools else []
        parts: list[tuple[Channel, list[str]]] = [
            ("thinking", thought), ("answer", words), ("tool_call", called)
        ]  # fmt: skip
        self.words: list[tuple[Channel, str]] = [
            (channel, word) for channel, part in parts for word in part
        ]


class FakeModel:
    """Implements the model port. Memory is a tuple of texts, an answer is a list of words.

    By default it says back the query and how many interactions it remembers; a query that starts
    with ``recall`` is answered with all it remembers. ``answer`` replaces that rule; a query like
    ``long 500`` gives so many tokens. With ``channels`` it thinks "let me see" and ends with a tool
    call where a query asks for that; if ``instructed`` it remembers instructions with queries.
    Every rule of the port that a runtime could break (two decodings at one slot, stepping a
    finished one, finishing twice, calls beside each other, calls from another lane) is checked and
    recorded in ``violations``.
    """

    def __init__(
        self,
        *,
        max_batch: int = 8,
        thread_safe: bool = False,
        fingerprint: str = "fake-1",
        capacity: int = 1000,
        max_query: int = 10_000,
        channels: Iterable[Channel] = ("answer",),
        instructed: bool = False,
        answer: Callable[[str, FakeMemory], Sequence[str]] | None = None,
    ) -> None:
        self.fingerprint, self.max_batch, self.thread_safe = fingerprint, max_batch, thread_safe
        self.channels, self.instructed = frozenset(channels), instructed
        self.capacity, self.max_query = capacity, max_query
        self._answer = answer or say_back
        self.calls: Counter[str] = Counter()
        self.batches: list[tuple[str, int]] = []
        """Every batched call and the size of its batch, in order."""
        self.open: set[_Decoding] = set()
        """Decodings handed out and not finished."""
        self.violations: list[str] = []
        self.sleep: Callable[[float], object] = time.sleep
        """How time passes that a call costs; virtual in a runtime of a ``Lab``."""
        self._hooks: dict[str, list[Callable[..., object]]] = {}
        self._inside: dict[str, int] = {}
        self._threads: dict[str, set[str]] = {}

    # Programming it

    def on(self, method: str, hook: Callable[..., object], *, after: bool = False) -> None:
        """Call ``hook(arguments)`` whenever ``method`` is entered, or just before it returns.

        What the hook raises, the method raises.
        """
        self._hooks.setdefault(f"{method}:after" if after else method, []).append(hook)

    def pause(self, method: str, *, after: bool = False) -> Pause:
        """Make ``method`` wait: at its beginning, or when its work is done."""
        pause = Pause()
        self.on(method, pause, after=after)
        return pause

    def fail(
        self, method: str, error: Exception, *, times: int = 1, containing: str = "", skip: int = 0
    ) -> None:
        """Make ``method`` raise ``error`` so many times, for batches that contain that text."""
        left = [times, skip]

        def hook(arguments: Sequence[Any]) -> None:
            if left[0] and any(containing in _text(item) for item in arguments):
                if left[1]:
                    left[1] -= 1
                    return
                left[0] -= 1
                raise error

        self.on(method, hook)

    def cost(self, method: str, seconds: float, *, each: float = 0.0) -> None:
        """Make every call of ``method`` take ``seconds``, and ``each`` more per item of its batch.

        Raises ValueError for a negative time.
        """
        if seconds < 0 or each < 0:
            raise ValueError(f"a call cannot cost {seconds} s and {each} s for each of its items")
        self.on(method, lambda arguments: self.sleep(seconds + each * len(arguments)))

    def clear(self) -> None:
        """Forget all hooks, costs, pauses and faults."""
        self._hooks.clear()

    # The port

    def validate(self, query: str) -> None:
        self.calls["validate"] += 1
        if len(query) > self.max_query:
            raise QueryRejected("too_long", f"the query has more than {self.max_query} characters")

    def initial_memory(self) -> FakeMemory:
        return ()

    def start(self, requests: Sequence[DecodeRequest[FakeMemory]]) -> list[_Decoding]:
        with self._call("start", requests):
            if len(self.open) + len(requests) > self.max_batch:
                self.violations.append(f"more than {self.max_batch} decodings open")
            made = [_Decoding(r, list(self._answer(r.query, r.memory))) for r in requests]
            self._leave("start", requests)
            self.open.update(made)  # pure: a call that raises leaves nothing open
            return made

    def step(self, decodings: Sequence[_Decoding]) -> list[TokenDraft]:
        with self._call("step", decodings):
            drafts = [self._step(decoding) for decoding in decodings]
            self._leave("step", decodings)
            return drafts

    def _step(self, decoding: _Decoding) -> TokenDraft:
        words, at = decoding.words, decoding.position
        if decoding.finished or at > len(words) or decoding not in self.open:
            self.violations.append("stepped a finished decoding")
        decoding.position = at + 1
        if at >= len(words):
            return TokenDraft(id=0, text="", finish="eos")
        last = at + 1 >= decoding.request.sampling.max_tokens
        channel, word = words[at]
        finish: FinishReason | None = "length" if last else None
        return TokenDraft(id=token_id(word), text=word, finish=finish, channel=channel)

    def finish(self, decoding: _Decoding) -> None:
        with self._call("finish", [decoding]):
            if decoding.finished:
                self.violations.append("finished twice")
            decoding.finished = True
            self.open.discard(decoding)
            self._leave("finish", [decoding])

    def encode(self, interactions: Sequence[CompletedInteraction]) -> list[str]:
        with self._call("encode", interactions):
            encoded = [
                f"[{i.instruction}] " * bool(i.instruction) + f"{i.query} -> {i.answer}"
                for i in interactions
            ]
            self._leave("encode", interactions)
            return encoded

    def attend(self, memories: Sequence[FakeMemory], encoded: Sequence[str]) -> list[FakeMemory]:
        with self._call("attend", encoded):
            updated = [
                (*memory, text)[-self.capacity :]
                for memory, text in zip(memories, encoded, strict=True)
            ]
            self._leave("attend", encoded)
            return updated

    def dump(self, memory: FakeMemory) -> bytes:
        with self._call("dump", [memory]):
            data = json.dumps(memory).encode()
            return tensorfile.encode({"memory": ("U8", (len(data),), data)})

    def load(self, data: bytes) -> FakeMemory:
        with self._call("load", [data]):
            tensors = tensorfile.parse(data)
            if list(tensors.tensors) != ["memory"]:
                raise SnapshotIncompatible(
                    f"a fake model expects the tensor 'memory', found {list(tensors.tensors)}"
                )
            return tuple(json.loads(bytes(tensors.body)))

    # Checks

    @contextmanager
    def _call(self, method: str, arguments: Sequence[Any]) -> Iterator[None]:
        kind = "memory" if self.thread_safe and method in _MEMORY else "decode"
        self.calls[method] += 1
        self.batches.append((method, len(arguments)))
        self._threads.setdefault(kind, set()).add(threading.current_thread().name)
        if not arguments:
            self.violations.append(f"{method} of an empty batch")
        if self._inside.get(kind):
            self.violations.append(f"{method} beside another call")
        self._inside[kind] = self._inside.get(kind, 0) + 1
        try:
            for hook in tuple(self._hooks.get(method, ())):
                hook(arguments)
            yield
        finally:
            self._inside[kind] -= 1

    def _leave(self, method: str, arguments: Sequence[Any]) -> None:
        for hook in tuple(self._hooks.get(f"{method}:after", ())):
            hook(arguments)

    def check(self) -> None:
        """Raise AssertionError unless the runtime kept all rules and released all decodings."""
        assert not self.violations, self.violations
        assert not self.open, f"{len(self.open)} decodings were never finished"
        for kind, threads in self._threads.items():
            assert len(threads) == 1, f"{kind} calls came from {sorted(threads)}"


_MEMORY = frozenset({"encode", "attend", "dump", "load"})


def say_back(query: str, memory: FakeMemory) -> list[str]:
    """The default rule of :class:`FakeModel`."""
    asked = query.rpartition(": ")[2]  # perhaps behind a label
    if asked.startswith("recall"):
        return [" | ".join(memory)] if memory else []
    if asked.startswith("long "):
        return [f"w{i} " for i in range(int(asked.split()[1]))]
    if asked.startswith("mute"):
        return []
    words = f"{query} #{len(memory)}".split()
    return [words[0], *(f" {word}" for word in words[1:])]


def fold(memory: FakeMemory, query: str, answer: str) -> FakeMemory:
    """What a memory must be after one more interaction: the oracle of tests."""
    return (*memory, f"{query} -> {answer}")


def token_id(text: str) -> int:
    """The id that :class:`FakeModel` gives a word."""
    return zlib.crc32(text.encode()) & 0xFFFF


def _text(item: Any) -> str:
    if isinstance(item, _Decoding):
        return item.request.query
    return str(getattr(item, "query", item))
