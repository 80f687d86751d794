"""Decoding many answers at once, a token for each in a step; rows join and leave at any time."""

# Shape suffixes: B rows, L layers, S slots, T tokens, D width, V vocabulary.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..cache import KVCache
from ..native import NativeDecoder, NativeUnavailable
from .lookahead import Lookahead, worth_it
from .memory import MemoryVersion
from .row import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..model import MemoryState, ReactiveTransformer
    from ..native import NativeDeltaWrite, NativeEncoder
    from ..sampler import Sampler


class DecodeBatch:
    """Slabs of self-attention cache and projected memory for up to ``max_rows`` answers.

    The first ``num_rows`` rows of the slabs are in use, in the order of ``rows``. Results of a row
    do not depend on what stands in the others.

    Args:
        max_rows: answers that can be under way at once.
        max_len: tokens of one interaction (query and answer) that a row can hold.
        native: by compiled code where that can be (``rxtmodel.native``); else by PyTorch.
        lookahead: let compiled code go on with the most probable tokens, on a thread of its own,
            while those of the last step are dealt with. None: where there are two processors.
        encoder, write: of finished interactions; on that thread they are encoded, and folded into
            the memory that was read, when their answer ends.
    """

    def __init__(
        self,
        model: ReactiveTransformer,
        max_rows: int,
        max_len: int,
        *,
        native: bool = True,
        lookahead: bool | None = None,
        encoder: NativeEncoder | None = None,
        write: NativeDeltaWrite | None = None,
    ) -> None:
        self.model = model
        weight = model.embedding.weight
        self._device = weight.device
        self.cache = KVCache(
            model.config, max_rows, max_len, device=weight.device, dtype=weight.dtype
        )
        self.rows: list[Row] = []
        self._memory: MemoryState | None = None
        self._first_rows: dict[int, MemoryState] = {}
        """The first n rows of the memory slabs. Views: they show what is stored later, too."""
        banned = torch.zeros(model.config.vocab_size, device=weight.device)
        banned[model.config.tokens.not_drawn()] = -torch.inf
        self._banned = banned
        self._native: NativeDecoder | None = None
        self._reader: NativeDecoder | None = None
        """For prompts, which are read with all bits of the weights."""
        self.why_not_native: str | None = "it was not asked for"
        """Why tokens are decoded by PyTorch; None: they are not."""
        if native:
            try:
                self._native = self._reader = NativeDecoder(model, self.cache, banned)
                if self._native.int8:
                    self._reader = NativeDecoder(model, self.cache, banned, int8=False)
                self.why_not_native = None
            except NativeUnavailable as exc:
                self.why_not_native = str(exc)
        self._lookahead: Lookahead | None = None
        if self._native is not None and (worth_it() if lookahead is None else lookahead):
            tokens = model.config.tokens
            self._lookahead = Lookahead(self._native, self.cache, tokens, encoder, write)

    @torch.inference_mode()
    def add(self, ids: Sequence[int], memory: MemoryVersion | MemoryState, sampler: Sampler) -> Row:
        """Prefill ``ids`` against one memory, or its projection (rows of size 1); the next step
        draws the answer's first token. Raises IndexError when no row is free or ``ids`` do not
        fit."""
        index = len(self.rows)
        if index == self.cache.max_rows:
            raise IndexError(f"all {index} rows are in use")
        if not 1 <= len(ids) <= self.cache.max_len:
            raise IndexError(f"a row holds 1 to {self.cache.max_len} tokens, got {len(ids)}")
        self._settle()
        self._store(index, memory)
        tensor = memory.tensor if isinstance(memory, MemoryVersion) else None
        row = Row(index, ids[-1], sampler, self.cache.max_len, list(ids), tensor)
        self.cache.lengths.append(0)
        try:
            if row.plain and self._reader is not None:
                # By itself the last token would take most of what all of them take together.
                row.take(self._reader.read_and_draw(ids, index))
                row.ahead.append(row.pending)
            elif len(ids) > 1:
                self._read(index, ids[:-1])
        except BaseException:
            self.cache.lengths.pop()
            raise
        self.rows.append(row)
        return row

    def step(self, rows: Sequence[Row]) -> list[int]:
        """Draw the next token of each of ``rows``, in their order."""
        if not rows:
            return []
        for row in rows:
            self._check(row)
        if self._lookahead is not None:
            if (tokens := self._lookahead.take(rows)) is not None:
                return tokens
            self._lookahead.settle()
        late = [row for row in rows if not row.ahead]
        if late:
            self._draw(late)
        tokens = [row.ahead.popleft() if row.ahead else row.pending for row in rows]
        if self._lookahead is not None:
            self._lookahead.begin(rows)
        return tokens

    @torch.inference_mode()
    def _draw(self, rows: Sequence[Row]) -> None:
        self._bring_forward(rows)
        greedy = all(row.sampler.greedy for row in rows)
        drawn, logits = self._step([row.pending for row in self.rows[: len(rows)]], greedy)
        if not greedy:
            drawn = [row.sampler.draw(logits[i]) for i, row in enumerate(self.rows[: len(rows)])]
        for row, token in zip(self.rows, drawn, strict=False):
            row.take(token)

    def _read(self, index: int, ids: Sequence[int]) -> None:
        """Run a prompt through the model; its keys and values are what stays of it."""
        if self._reader is not None:
            return self._reader.read(ids, index)
        self.cache.begin(index, 1, len(ids))
        prompt = torch.tensor([ids], device=self._device)
        self.model.prefill(prompt, self._memory_rows(index, 1), self.cache)
        self.cache.advance(len(ids))
        return None

    def _step(self, ids: list[int], greedy: bool) -> tuple[list[int], Tensor]:
        """One token for each of the first rows: the most probable next ones (if ``greedy``), and
        all logits, [B, V]."""
        count = len(ids)
        allowed = [row.sampler.config.allowed for row in self.rows[:count]]
        if self._native is not None:
            return self._native.step(ids, allowed), self._native.logits_BV
        self.cache.begin(0, count, 1)
        pending = torch.tensor(ids, device=self._device)[:, None]
        logits = self.model.decode_step(pending, self._memory_of_first(count), self.cache)
        self.cache.advance(1)
        raw, logits = logits, logits + self._banned
        for row, tokens in enumerate(map(list, allowed)):
            if tokens:
                logits[row, tokens] = raw[row, tokens]
        return logits.argmax(-1).tolist() if greedy else [], logits

    @torch.inference_mode()
    def remove(self, row: Row) -> None:
        """End an answer and free its row. Raises ValueError when it has ended already."""
        self._check(row)
        self._settle()
        last = self.cache.remove(row.index)
        moved = self.rows.pop()
        if moved is not row:
            for layer in self._memory or ():
                for slab in layer:
                    slab[row.index] = slab[last]
            moved.index = row.index
            self.rows[row.index] = moved

    def room(self, row: Row) -> int:
        """Tokens that ``row`` can still take."""
        return self.cache.max_len - self.cache.lengths[row.index] + len(row.ahead)

    def limit(self, row: Row, tokens: int) -> None:
        """No more than so many tokens will be asked of ``row``: none is computed in vain."""
        taken = self.cache.lengths[row.index] - len(row.ahead)
        row.end = min(self.cache.max_len, taken + tokens)

    def encoded(self, ids: Sequence[int]) -> Tensor | None:
        """A finished interaction if it is encoded, or about to be. [L, 1, T, D]."""
        return None if self._lookahead is None else self._lookahead.run.encoded(ids)

    def folded(self, memory_LSD: Tensor, encoded_L1TD: Tensor) -> Tensor | None:
        """The next value of the memory, if ``encoded`` gave just this, and it was read for it."""
        if self._lookahead is None:
            return None
        return self._lookahead.run.folded(memory_LSD, encoded_L1TD)

    def _settle(self) -> None:
        if self._lookahead is not None:
            self._lookahead.settle()

    def _check(self, row: Row) -> None:
        """An ended row's index is another answer's by now."""
        if row.index >= len(self.rows) or self.rows[row.index] is not row:
            raise ValueError("the row has ended, or is of another batch")

    def _store(self, index: int, memory: MemoryVersion | MemoryState) -> None:
        if isinstance(memory, MemoryVersion):
            if self._native is not None and self._native.delta_shape is not None:
                self._native.store(memory.tensor, index)
                return
            memory = memory.state(self.model)
        if self._memory is None:
            size = self.cache.max_rows
            self._memory = [
                tuple(part.new_zeros((size, *part.shape[1:])) for part in layer) for layer in memory
            ]
            for native in {self._native, self._reader} - {None}:
                native.use_memory(self._memory)
        for layer, slabs in zip(memory, self._memory, strict=True):
            for part, slab in zip(layer, slabs, strict=True):
                slab[index] = part[0]

    def _memory_rows(self, first: int, count: int) -> MemoryState:
        return [tuple(slab[first : first + count] for slab in layer) for layer in self._memory]

    def _memory_of_first(self, count: int) -> MemoryState:
        rows = self._first_rows.get(count)
        if rows is None:
            rows = self._first_rows[count] = self._memory_rows(0, count)
        return rows

    def _bring_forward(self, rows: Sequence[Row]) -> None:
        """Swap rows so that the wanted ones are the first of the slabs."""
        wanted = set(map(id, rows))
        for target in range(len(rows)):
            if id(self.rows[target]) in wanted:
                continue
            source = next(i for i in range(len(rows), len(self.rows)) if id(self.rows[i]) in wanted)
            self._swap(target, source)

    def _swap(self, a: int, b: int) -> None:
        pair = [a, b]
        slabs = [slab for layer in self._memory for slab in layer]
        for slab in slabs:
            slab[pair] = slab[[b, a]]
        for slab in (self.cache.k, self.cache.v):
            slab[:, pair] = slab[:, [b, a]]
        lengths = self.cache.lengths
        lengths[a], lengths[b] = lengths[b], lengths[a]
        self.rows[a], self.rows[b] = self.rows[b], self.rows[a]
        self.rows[a].index, self.rows[b].index = a, b
