"""The bare model loop: a model's port called by hand, with nothing around it."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

from rxstream.model import CompletedInteraction, DecodeRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters.model import Decoding, RxtAdapter
    from rxstream.model import Sampling, TokenDraft


class Watched:
    """A model that notes which thread calls it, so that this thread's CPU time can be read."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._clock: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def start(self, requests: Sequence[DecodeRequest[Any]]) -> list[Any]:
        """As the model."""
        if self._clock is None:
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        return self._model.start(requests)

    def thread_seconds(self) -> float:
        """CPU seconds of the thread that calls the model, once it has; else 0."""
        return 0.0 if self._clock is None else time.clock_gettime(self._clock)


class Endless:
    """The model, except that answers go on past their end until ``max_tokens``.

    The work for a token is the same, and all answers have the same length.
    """

    def __init__(self, adapter: RxtAdapter) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def step(self, decodings: Sequence[Decoding]) -> list[TokenDraft]:
        """One token for each decoding; an end token becomes a space."""
        drafts = self._adapter.step(decodings)
        for i, (decoding, draft) in enumerate(zip(decodings, drafts, strict=True)):
            if draft.finish == "eos":
                finish = "length" if decoding.left <= 0 else None
                drafts[i] = dataclasses.replace(draft, text=draft.text or " ", finish=finish)
        return drafts


def answers(model: Any, memories: Sequence[Any], query: str, sampling: Sampling) -> list[Any]:
    """One whole turn of as many conversations at once, all of one length; the next memories."""
    requests = [DecodeRequest(query=query, memory=m, sampling=sampling) for m in memories]
    decodings = model.start(requests)
    texts: list[list[str]] = [[] for _ in decodings]
    finished = False
    while not finished:
        for drafted, draft in zip(texts, drafts := model.step(decodings), strict=True):
            drafted.append(draft.text)
        finished = drafts[0].finish is not None
    for decoding in decodings:
        model.finish(decoding)
    done = [CompletedInteraction(query=query, answer="".join(drafted)) for drafted in texts]
    return model.attend(memories, model.encode(done))


def answer(model: Any, memory: Any, query: str, sampling: Sampling) -> tuple[Any, int]:
    """One whole turn; returns the next memory and the number of answer tokens."""
    (decoding,) = model.start([DecodeRequest(query=query, memory=memory, sampling=sampling)])
    texts, ids = [], []
    while True:
        (draft,) = model.step([decoding])
        if draft.finish != "eos":
            ids.append(draft.id)
        texts.append(draft.text)
        if draft.finish is not None:
            break
    model.finish(decoding)
    done = CompletedInteraction(query=query, answer="".join(texts), token_ids=tuple(ids))
    (memory,) = model.attend([memory], model.encode([done]))
    return memory, len(ids)
