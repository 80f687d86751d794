"""``rxtmodel`` behind the runtime's model port, and loading of model folders by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rxstream.errors import QueryRejected, SnapshotIncompatible
from rxstream.model import CompletedInteraction, DecodeRequest, TokenDraft
from rxtmodel.checkpoint import dump_memory, load_memory, weights_fingerprint
from rxtmodel.checkpoint import load_model as read_model
from rxtmodel.engine import Engine, MemoryVersion, open_engine
from rxtmodel.errors import CheckpointError
from rxtmodel.layout import arrange, quantise
from rxtmodel.sampler import Sampler, SamplerConfig
from rxtmodel.stops import StopStrings

from .tokenizer import FILE_NAME, IncrementalDetokenizer, Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rxstream.model import FinishReason
    from rxtmodel.model import ReactiveTransformer

MODELS = Path(__file__).parent / "models"
DEFAULT_MODEL = "recall"


class ModelError(Exception):
    """A model that cannot be loaded. The message says what is wrong and what to do."""


@dataclass(slots=True, eq=False)
class Decoding:
    """An answer under way."""

    row: Any
    left: int
    """Tokens that may still be drawn."""
    detokenizer: IncrementalDetokenizer
    stops: StopStrings


class RxtAdapter:
    """A Reactive Transformer as ``rxstream.model.ReactiveModel``.

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
        self.model, self.tokenizer = model, tokenizer
        self.max_batch = max_batch
        length = model.config.max_seq_len
        self.max_query_tokens = max_query_tokens or length // 2
        weights = weights_fingerprint(model) if fingerprint is None else fingerprint
        self.fingerprint = f"{weights[:32]}-{tokenizer.fingerprint[:16]}"
        self._engine: Engine = open_engine(model, max_batch, length)
        self.thread_safe = self._engine.thread_safe
        self._initial = MemoryVersion(model.initial_memory()[:, 0].detach().contiguous())

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
        samplers = [self._sampler(request) for request in requests]
        stops = [StopStrings(request.sampling.stop) for request in requests]
        queries = [
            (ids, request.memory, sampler)
            for request, (ids, sampler) in zip(requests, samplers, strict=True)
        ]
        decodings = []
        for request, row, stop in zip(requests, self._engine.add_all(queries), stops, strict=True):
            left = min(request.sampling.max_tokens, self._engine.room(row))
            decodings.append(Decoding(row, left, IncrementalDetokenizer(self.tokenizer), stop))
        return decodings

    def _sampler(self, request: DecodeRequest[MemoryVersion]) -> tuple[list[int], Sampler]:
        """The query's ids, and what draws the answer."""
        sampling = request.sampling
        ids = self.tokenizer.query_ids(request.query)
        config = SamplerConfig(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            logit_bias=sampling.logit_bias,
        )
        config.check_vocabulary(self.model.config.vocab_size)
        special = self.tokenizer.tokens.special()
        said = [token for token in ids if token not in special]
        return ids, Sampler(config, sampling.seed, seen=said)

    def step(self, decodings: Sequence[Decoding]) -> list[TokenDraft]:
        """One token for each decoding."""
        tokens = self._engine.step([decoding.row for decoding in decodings])
        return [self._draft(d, token) for d, token in zip(decodings, tokens, strict=True)]

    def _draft(self, decoding: Decoding, token: int) -> TokenDraft:
        decoding.left -= 1
        ended: FinishReason | None = "length" if decoding.left == 0 else None
        text = ""
        if token == self.tokenizer.tokens.eos:
            ended = "eos"
        else:
            text = decoding.detokenizer.push(token)
        if ended is not None:
            text += decoding.detokenizer.finish()
        text = decoding.stops.push(text)
        if decoding.stops.found is not None:
            ended = "stop_sequence"
        elif ended is not None:
            text += decoding.stops.finish()
        return TokenDraft(id=token, text=text, finish=ended)

    def finish(self, decoding: Decoding) -> None:
        """Free the decoding's row."""
        self._engine.remove(decoding.row)

    def encode(self, interactions: Sequence[CompletedInteraction]) -> list[Any]:
        """Each interaction, encoded. On a CPU each on its own: a replay is bitwise the same
        whatever was encoded beside it."""
        length, tokenizer = self.model.config.max_seq_len, self.tokenizer
        ids = [
            tokenizer.tokens.interaction_ids(tokenizer.encode(done.query), self._answer_ids(done))
            for done in interactions
        ]
        ids = [interaction[:length] for interaction in ids]
        return list(self._engine.encode(ids))

    def _answer_ids(self, done: CompletedInteraction) -> list[int]:
        """What was generated, as far as it was said: not the string that stopped it."""
        ids = [token for token in done.token_ids if token != self.tokenizer.tokens.eos]
        if not ids:
            return self.tokenizer.encode(done.answer)
        if len(self.tokenizer.decode(ids)) <= len(done.answer):
            return ids
        if self.tokenizer.leads:
            return self.tokenizer.encode(done.answer)
        while ids and not done.answer.startswith(self.tokenizer.decode(ids)):
            ids.pop()
        return ids + self.tokenizer.encode(done.answer[len(self.tokenizer.decode(ids)) :])

    def attend(
        self, memories: Sequence[MemoryVersion], encoded: Sequence[Any]
    ) -> list[MemoryVersion]:
        """New memory values; the given ones stay as they are."""
        return self._engine.attend(memories, encoded)

    def dump(self, memory: MemoryVersion) -> bytes:
        """The memory as safetensors bytes, tensor ``stm`` [L, S, D] float32."""
        return dump_memory(memory.settled())

    def load(self, data: bytes) -> MemoryVersion:
        """Inverse of ``dump``; SnapshotIncompatible for another shape or non-finite values."""
        try:
            return MemoryVersion(load_memory(data, self.model.config).to(self._device))
        except CheckpointError as error:
            raise SnapshotIncompatible(str(error)) from error

    @property
    def _device(self) -> torch.device:
        return self.model.embedding.weight.device


def load_model(
    name_or_folder: str = DEFAULT_MODEL,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    max_batch: int = 16,
    int8: bool = False,
) -> RxtAdapter:
    """A bundled model by name, or a model folder (config.json, model.safetensors, tokenizer.json).

    Args:
        dtype: of the weights; memories are float32 whatever it is, and fit every other.
        int8: decode by weights of eight bits, on a CPU; see ``rxtmodel.layout.quantise``.

    Raises:
        ModelError: no such model, or a file of it is missing or damaged.
    """
    folder = MODELS / name_or_folder
    if not (folder.is_dir() and "/" not in name_or_folder):
        folder = Path(name_or_folder)
    if not folder.is_dir():
        bundled = sorted(p.name for p in MODELS.iterdir() if p.is_dir()) if MODELS.exists() else []
        raise ModelError(
            f"no model {name_or_folder!r}: neither a folder nor a bundled model "
            f"({', '.join(bundled) or 'none'})"
        )
    if not (folder / FILE_NAME).is_file():
        raise ModelError(
            f"{folder} holds no {FILE_NAME}; put the one there that the model was trained with"
        )
    try:
        model = read_model(folder, device=device)
        fingerprint = weights_fingerprint(model)
        model = arrange(model.to(dtype))
        if int8:
            quantise(model)
        size = model.config.vocab_size
        tokenizer = Tokenizer.load(folder, model.config.tokens, size=size)
    except (CheckpointError, OSError, ValueError) as error:
        raise ModelError(str(error)) from error
    if tokenizer.largest_id >= size:
        raise ModelError(
            f"{folder / FILE_NAME} has ids up to {tokenizer.largest_id}, the model's vocabulary "
            f"has {size}: they are not of one model"
        )
    return RxtAdapter(model, tokenizer, max_batch=max_batch, fingerprint=fingerprint)
