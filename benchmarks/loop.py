"""The bare model loop: a model's port called by hand, with nothing around it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from adapters.model import RxtAdapter
from rxstream.model import CompletedInteraction, DecodeRequest
from rxtmodel.layout import arrange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rxstream.model import Sampling


def endless(adapter: RxtAdapter) -> RxtAdapter:
    """The model, except that no answer ends before ``max_tokens``.

    The work for a token is the same. The end is never drawn because its logit is 0: as an input,
    of the encoder alone, it is a row of zeros.
    """
    model = copy.deepcopy(adapter.model)
    ends, head = list(model.config.tokens.all_ends), model.head
    with torch.no_grad():
        for part in (model.embedding, head):
            if part is not None:
                part.weight[ends] = 0
        if head is not None and head.bias is not None:
            head.bias[ends] = 0
    return RxtAdapter(arrange(model), adapter.tokenizer, max_batch=adapter.max_batch)


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
