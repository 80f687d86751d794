"""``rxtmodel`` behind the runtime's model port."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rxstream.errors import QueryRejected, SnapshotIncompatible
from rxtmodel.checkpoint import dump_memory, load_memory, weights_fingerprint
from rxtmodel.engine import Engine, MemoryVersion, open_engine
from rxtmodel.errors import CheckpointError
from rxtmodel.template import section_at_start

from .answer_parts import Drafts, Parts, interaction_ids
from .drawing import chooser_for, sampler_for
from .model_locks import ModelLocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from rxstream.model import Channel, CompletedInteraction, DecodeRequest, Thinking, TokenDraft
    from rxtmodel.model import ReactiveTransformer
    from rxtmodel.sampler import Sampler

    from .tokenizer import Tokenizer


@dataclass(slots=True, eq=False)
class Decoding:
    """An answer under way."""

    row: Any
    left: int
    """Tokens that may still be drawn."""
    parts: Parts


class RxtAdapter:
    """A Reactive Transformer as ``rxstream.model.ReactiveModel``. Several runtimes may share one.

    Args:
        max_batch: answers that can be under way at once.
        max_query_tokens: longest query; the rest of ``max_seq_len`` is left for the answer.
        fingerprint: of the weights; None computes it. For weights that were cast since.
    """

    dump_thread_safe = True
    """A memory value never changes, and dumping it touches nothing else."""

    def __init__(
        self,
        model: ReactiveTransformer,
        tokenizer: Tokenizer,
        *,
        max_batch: int = 16,
        max_query_tokens: int | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.model, self.tokenizer, self._drafts = model, tokenizer, Drafts(tokenizer)
        self.max_batch = max_batch
        length = model.config.max_seq_len
        self.max_query_tokens = max_query_tokens or length // 2
        weights = weights_fingerprint(model) if fingerprint is None else fingerprint
        self.fingerprint = f"{weights[:32]}-{tokenizer.fingerprint[:16]}"
        config = model.config
        parts: list[Channel] = ["answer"]
        parts += ["thinking"] if config.thinks else []
        parts += ["tool_call"] if config.calls_tools else []
        self.channels, self.instructed = frozenset(parts), config.instructed
        """What the model was trained to say, and whether it follows instructions; the runtime
        rejects queries that ask for more."""
        self._engine: Engine = open_engine(model, max_batch, length)
        self.thread_safe = self._engine.thread_safe
        self._locks = ModelLocks(apart=self.thread_safe)
        self._under_way = 0
        self._initial = MemoryVersion(model.initial_memory()[:, 0].detach().contiguous())

    def warm_up(self) -> None:
        """Prepare every size of batch before the first query comes: on a GPU whoever needs a size
        first waits for it, and so do all others. Seconds; minutes the first time on a machine."""
        with self._locks.all():
            self._engine.warm_up()

    def validate(self, query: str) -> None:
        """Refuse an empty query and one that is longer than the model can take."""
        if not query.strip():
            raise QueryRejected("invalid", "the query is empty; type some text")
        # A token is at least one byte of text: refuse what cannot fit before tokenising it.
        limit = self.max_query_tokens
        count = len(query) if len(query) > 64 * limit else len(self.tokenizer.encode(query))
        if count > limit:
            kind = "characters" if len(query) > 64 * limit else "tokens"
            raise QueryRejected(
                "too_long",
                f"the query has {count} {kind}, the model takes {limit} tokens; shorten it",
            )

    def initial_memory(self) -> MemoryVersion:
        """The memory of a conversation in which nothing was said."""
        return self._initial

    def start(self, requests: Sequence[DecodeRequest[MemoryVersion]]) -> list[Decoding]:
        """Prefill each query against its memory."""
        with self._locks.decoding:
            return self._start(requests)

    def _start(self, requests: Sequence[DecodeRequest[MemoryVersion]]) -> list[Decoding]:
        if self._under_way + len(requests) > self.max_batch:
            raise RuntimeError(
                f"all {self.max_batch} answers that the model takes are under way, of all runtimes "
                "that share it: load it with a larger max_batch, or ask again later"
            )
        thinking = self._chosen(requests)
        queries = [
            self._query(request, mode) for request, mode in zip(requests, thinking, strict=True)
        ]
        parts = [
            Parts(self._drafts, section_at_start(mode), request.tools, request.sampling.stop)
            for request, mode in zip(requests, thinking, strict=True)
        ]
        decodings = []
        for request, row, part in zip(requests, self._engine.add_all(queries), parts, strict=True):
            left = min(request.sampling.max_tokens, self._engine.room(row))
            self._engine.limit(row, left)
            decodings.append(Decoding(row, left, part))
        self._under_way += len(decodings)
        return decodings

    def _chosen(self, requests: Sequence[DecodeRequest[MemoryVersion]]) -> list[Thinking]:
        """How each query is answered: where that is left to the model, it draws its first token
        from ``[A]`` and ``[T]``, which then belongs to the prompt."""
        thinking: list[Thinking] = [request.thinking for request in requests]
        open_ones = [place for place, mode in enumerate(thinking) if mode == "auto"]
        if not open_ones:
            return thinking
        tokens = self.tokenizer.tokens
        rows = self._engine.add_all(
            [
                self._prompt(requests[place], "auto")
                + (chooser_for(requests[place].sampling, tokens),)
                for place in open_ones
            ]
        )
        try:
            drawn = self._engine.step(rows)
        finally:
            for row in rows:
                self._engine.remove(row)
        for place, token in zip(open_ones, drawn, strict=True):
            thinking[place] = "extended" if token == tokens.think else "fast"
        return thinking

    def _prompt(
        self, request: DecodeRequest[MemoryVersion], thinking: Thinking
    ) -> tuple[list[int], MemoryVersion]:
        ids = self.tokenizer.tokens.query_ids(
            self.tokenizer.encode(request.query),
            thinking=thinking,
            internal=self.tokenizer.encode(request.instruction) if request.instruction else (),
            tool_result=request.tool_result,
        )
        return ids, request.memory

    def _query(
        self, request: DecodeRequest[MemoryVersion], thinking: Thinking
    ) -> tuple[list[int], MemoryVersion, Sampler]:
        """The query's ids, the memory, and what draws the answer."""
        sampling, tokens = request.sampling, self.tokenizer.tokens
        ids, memory = self._prompt(request, thinking)
        marks = (tokens.answer if thinking == "extended" else None,
                 tokens.tool_call if request.tools else None)  # fmt: skip
        allowed = tuple(mark for mark in marks if mark is not None)
        vocab_size = self.model.config.vocab_size
        return ids, memory, sampler_for(sampling, tokens, vocab_size, ids, allowed)

    def step(self, decodings: Sequence[Decoding]) -> list[TokenDraft]:
        """One token for each decoding."""
        with self._locks.decoding:
            tokens = self._engine.step([decoding.row for decoding in decodings])
        drafts = []
        for decoding, token in zip(decodings, tokens, strict=True):
            decoding.left = left = decoding.left - 1
            drafts.append(decoding.parts.push(token, not left))
        return drafts

    def finish(self, decoding: Decoding) -> None:
        """Free the decoding's row."""
        with self._locks.decoding:
            self._engine.remove(decoding.row)
            self._under_way -= 1

    def encode(self, interactions: Sequence[CompletedInteraction]) -> list[Any]:
        """Each interaction, encoded. On a CPU each on its own: a replay is bitwise the same
        whatever was encoded beside it."""
        length = self.model.config.max_seq_len
        ids = [interaction_ids(self.tokenizer, done)[:length] for done in interactions]
        with self._locks.updating:
            return list(self._engine.encode(ids))

    def attend(
        self, memories: Sequence[MemoryVersion], encoded: Sequence[Any]
    ) -> list[MemoryVersion]:
        """New memory values; the given ones stay as they are."""
        with self._locks.updating:
            return self._engine.attend(memories, encoded)

    def dump(self, memory: MemoryVersion) -> bytes:
        """The memory as safetensors bytes, tensor ``stm`` [L, S, D] float32."""
        return dump_memory(memory.on_host())

    def load(self, data: bytes) -> MemoryVersion:
        """Inverse of ``dump``; SnapshotIncompatible for another shape or non-finite values."""
        try:
            return MemoryVersion(load_memory(data, self.model.config).to(self._device))
        except CheckpointError as error:
            raise SnapshotIncompatible(str(error)) from error

    def distance(self, memory: MemoryVersion, other: MemoryVersion) -> float:
        """The largest difference of two memories over the largest number in them."""
        a, b = memory.settled().double(), other.settled().double()
        largest = max(float(a.abs().max()), float(b.abs().max()), 1e-30)
        return float((a - b).abs().max()) / largest

    @property
    def _device(self) -> torch.device:
        return self.model.embedding.weight.device
