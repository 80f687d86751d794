"""Memory updates with kernels of our own between PyTorch's products, on a GPU."""

# Shape suffixes: L layers, B memories, T tokens, S slots, D width, N heads, G kv heads,
# H head width.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from .graphs import fill
from .shapes import power_of_two

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..layers import DecoderLayer
    from ..memory import MemoryAttention
    from ..memory.gate import ResidualGate
    from ..memory.stacked import StackedAttention
    from ..model import ReactiveTransformer
    from .memory import MemoryVersion
    from .pool import MemoryPool
    from .update import Encoded

MIX_WARPS = 4
_TILE = 4096
"""Elements that one program takes through norms and gates."""
_UNIT = 16
"""Bytes in which places are counted."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a batch lies: a table of int64, [5, B], on the device, and its size in tokens."""

    table: Tensor
    length: int

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """Of memories, new memories, encoded interactions, their layers; and their lengths."""
        return self.table.unbind(0)


class FusedFold:
    """``model.attend`` and the projection of what comes out, for memories where they lie: nothing
    is copied together before, or apart after. ``support.why_not_fold`` must have found no reason
    against it.

    A memory is read three times and written once, and in between stands only what products give
    and take, in the weights' type; norms, gates and means are float32. What a memory becomes does
    not depend on the others of its batch. Holds copies of the matrices of keys and values.
    """

    def __init__(self, model: ReactiveTransformer, pool: MemoryPool | None = None) -> None:
        from ..kernels import encode, fold, sequences

        self._kernels, self._turn = fold, encode.turn
        self._attend_first = sequences.attend_first
        self.model, self.pool = model, pool
        self.write = cast("MemoryAttention", model.memory_write)
        self._eps = model.config.norm_eps or torch.finfo(torch.float32).eps
        weight = model.embedding.weight
        with torch.inference_mode():
            self._first = model.initial_memory()[:, 0].contiguous().clone()
            self._nowhere = torch.empty_like(self._first)
            self._nothing = weight.new_zeros(self._first.shape[-1])
            self._rope = model.rope if model.write_rope is None else model.write_rope
            self._keys = {self.write.attention: _joined(self.write.attention)}
            if self.write.variant != "simple":
                pre = self.write.pre_attention
                self._keys[pre] = _joined(pre)
            self._open = _Gate(fold.NONE, False, self._nothing, (0, 0, 0))
            self._read = None if pool is None else _Read.of(model, pool)

    def inputs(self, count: int, length: int) -> Places:
        """Of a batch that is nobody's: the first memory reads nothing and becomes nothing."""
        table = torch.zeros(5, count, dtype=torch.int64, device=self._first.device)
        table[4] = 1
        return Places(table, length)

    def give(
        self,
        places: Places,
        memories: Sequence[MemoryVersion],
        encoded: Sequence[Encoded],
        new: Sequence[MemoryVersion],
    ) -> None:
        """Say where a batch lies."""
        missing = places.table.shape[1] - len(memories)
        rows: list[list[int]] = [[], [], [], [], []]
        for memory, part, version in zip(memories, encoded, new, strict=True):
            batch = part.batch_LBTD
            row = batch[:, part.row]
            rows[0].append(_place(_aligned(memory.tensor), self._first))
            rows[1].append(_place(version.tensor, self._nowhere))
            rows[2].append(_place(row, self._nothing))
            rows[3].append(batch.stride(0) * batch.element_size() // _UNIT)
            rows[4].append(part.length)
        fill(places.table, [row + [int(i == 4)] * missing for i, row in enumerate(rows)])

    def take(self, result: None, new: Sequence[MemoryVersion]) -> None:
        """Nothing: new memories are where they belong."""

    def work(self, places: Places, slots_B: Tensor) -> None:
        """Fold; from and to where ``places`` says."""
        write, count = self.write, places.table.shape[1]
        memory_at, new_at, *_ = places.rows
        pre, pre_gate = self._first, self._open
        if write.variant != "simple":
            own, other = self._mix(memory_at)
            pre = self._attend(write.pre_attention, own, other, None)
            del own, other
            status = lambda: self._address(memory_at, pre, None)  # noqa: E731
            pre_gate = self._gate(write.pre_gate, status)
        queries = self._address(memory_at, pre, pre_gate)
        encoded = self._interaction(places)
        lengths_B = places.rows[4].int()
        update = self._attend(write.attention, queries, encoded, lengths_B)
        gate = self._gate(
            write.gate, lambda: self._renew(memory_at, new_at, pre, pre_gate, update, None)
        )
        read = self._renew(memory_at, new_at, pre, pre_gate, update, gate)
        if self._read is not None:
            self._project(self._read, read.view(len(read), count, -1, read.shape[-1]), slots_B)

    def _mix(self, memory_at: Tensor) -> tuple[Tensor, Tensor]:
        """Slots of each layer, normalised, and what they attend to, [L, B, S, D] both."""
        write, count = self.write, len(memory_at)
        layers, slots, width = self._first.shape
        own = self._empty(count)
        if write.variant == "self":
            other, mean_norm = own, write.pre_norm.weight
        else:
            other, mean_norm = self._empty(count), write.mean_norm.weight
        blend = write.variant.endswith("self-interlayer")
        size = layers // write.num_groups
        depth = power_of_two(size)

        def run(gate: _Gate, status: Tensor | None) -> None:
            self._kernels.mix[(slots, count, write.num_groups)](
                self._first, memory_at, write.pre_norm.weight, mean_norm, gate.numbers, own, other,
                own if status is None else status, count, slots, self._eps, *gate.strides,
                LAYERS=size, D=width, OTHER=write.variant != "self", BLEND=blend, KIND=gate.kind,
                TANH=gate.tanh, STATUS=status is not None, LP=depth, DP=power_of_two(width),
                num_warps=MIX_WARPS,
            )  # fmt: skip

        def status() -> Tensor:
            run(self._open, found := self._empty_status(count))
            return found

        gate = self._gate(write.blend_gate, status) if blend else self._open
        run(gate, None)
        return own, other

    def _address(self, memory_at: Tensor, pre: Tensor, gate: _Gate | None) -> Tensor:
        """Queries of the write; without a gate, what it wants to see of memories."""
        write, count = self.write, len(memory_at)
        out = self._empty_status(count) if gate is None else self._empty(count)
        gate, only = gate or self._open, gate is None
        ids, bias = write.slot_ids, self._bias_of_pre()
        self._kernels.address[self._grid(count)](
            self._first, memory_at, pre, pre if bias is None else bias, gate.numbers,
            write.memory_norm.weight, out if ids is None else ids, out, out, count,
            self._first.shape[1], self._eps, *gate.strides,
            PRE=write.variant != "simple", PRE_BIAS=bias is not None, KIND=gate.kind,
            TANH=gate.tanh, IDS=ids is not None, STATUS=only, **self._fixed(),
        )  # fmt: skip
        return out

    def _renew(
        self, memory_at: Tensor, new_at: Tensor, pre: Tensor, pre_gate: _Gate, update: Tensor,
        gate: _Gate | None,
    ) -> Tensor:  # fmt: skip
        """New memories to their places, and what is read of them; without a gate, what it wants
        to see."""
        write, count, read = self.write, len(memory_at), self._read
        out = self._empty_status(count) if gate is None else self._empty(count if read else 0)
        gate, only = gate or self._open, gate is None
        pre_bias, bias = self._bias_of_pre(), write.attention.out_proj.bias
        ids = None if read is None else read.slot_ids
        self._kernels.renew[self._grid(count)](
            self._first, memory_at, pre, pre if pre_bias is None else pre_bias, pre_gate.numbers,
            update, update if bias is None else bias, gate.numbers,
            out if read is None else read.norm, out if ids is None else ids,
            self._nowhere, new_at, out, out, count, self._first.shape[1], self._eps,
            *pre_gate.strides, *gate.strides,
            PRE=write.variant != "simple", PRE_BIAS=pre_bias is not None, PRE_KIND=pre_gate.kind,
            BIAS=bias is not None, KIND=gate.kind, TANH=gate.tanh or pre_gate.tanh,
            IDS=ids is not None, READ=read is not None, STATUS=only, **self._fixed(),
        )  # fmt: skip
        return out

    def _interaction(self, places: Places) -> Tensor:
        """Encoded interactions side by side, normalised, [L, B, T, D]."""
        _, _, at, layer_at, lengths = places.rows
        layers, _, width = self._first.shape
        out = self._nothing.new_empty(layers, len(at), places.length, width)
        fixed = self._fixed()
        self._kernels.interaction[(-(-places.length // fixed["R"]), len(at), layers)](
            self._nothing, at, layer_at, lengths, self.write.input_norm.weight, out, len(at),
            places.length, self._eps, **fixed,
        )  # fmt: skip
        return out

    def _attend(
        self, attention: StackedAttention, q_LBSD: Tensor, kv_LBTD: Tensor, lengths_B: Tensor | None
    ) -> Tensor:
        """As ``StackedAttention``, without the bias of its last product. ``lengths_B``: of keys
        that have positions."""
        layers, batch, length, _ = kv_LBTD.shape
        head, rows = attention.head_dim, layers * batch
        q = torch.bmm(q_LBSD.flatten(1, 2), attention.q_proj.weight)
        kv = torch.bmm(kv_LBTD.flatten(1, 2), self._keys[attention])
        groups = kv.shape[-1] // (2 * head)
        if lengths_B is not None:
            turned, tile = groups * head, max(1, _TILE // power_of_two(groups * head))
            flat = kv.flatten(0, 1)
            self._turn[(-(-len(flat) // tile),)](
                flat, self._rope, len(flat), length, flat.shape[1], self._rope.stride(0),
                C=turned, H=head, R=tile, CP=power_of_two(turned), num_warps=4,
            )  # fmt: skip
            lengths_B = lengths_B.repeat(layers)
        q = q.view(rows, -1, q.shape[-1] // head, head).transpose(1, 2)
        k, v = kv.view(rows, length, 2 * groups, head).transpose(1, 2).split(groups, dim=1)
        mixed = self._attend_first(q, k, v, lengths_B).transpose(1, 2)
        return torch.bmm(mixed.reshape(layers, -1, attention.out_proj.weight.shape[1]),
                         attention.out_proj.weight)  # fmt: skip

    def _project(self, read: _Read, read_LBSD: Tensor, slots_B: Tensor) -> None:
        layers, count, slots, _ = read_LBSD.shape
        kv = torch.bmm(read_LBSD.flatten(1, 2), read.weight)
        _, groups, _, head = read.slab.shape
        tile = max(1, _TILE // (groups * head))
        self._kernels.to_slots[(-(-slots // tile), count, 2 * layers)](
            kv, read.slab, read.at, slots_B, count, slots, read.slab.stride(0),
            G=groups, H=head, R=tile, num_warps=4,
        )  # fmt: skip

    def _gate(self, gate: ResidualGate, status: Callable[[], Tensor]) -> _Gate:
        """``status`` gives the means of slots, [L, B, S], to gates that see more than one."""
        kernels = self._kernels
        if gate.kind == "none":
            return self._open
        if gate.kind == "replace":
            return _Gate(kernels.REPLACE, False, self._nothing, (0, 0, 0))
        if gate.kind == "static" or (gate.kind == "elementwise" and gate.per_slot):
            kind, numbers = kernels.LOGIT if gate.kind == "static" else kernels.MEAN, gate.weight
            slot = numbers.stride(1) if gate.per_slot else 0
            return _Gate(kind, gate.tanh, numbers, (numbers.stride(0), 0, slot))
        if gate.kind == "linear":
            logit_LBS = gate.mix(status())
        else:
            logit_LBS = gate.weight[:, None] * status().mean(-1, keepdim=True)
        layer, row, slot = logit_LBS.stride()
        slot = slot if logit_LBS.shape[-1] > 1 else 0
        return _Gate(kernels.LOGIT, gate.tanh, logit_LBS, (layer, row, slot))

    def _bias_of_pre(self) -> Tensor | None:
        write = self.write
        return None if write.variant == "simple" else write.pre_attention.out_proj.bias

    def _fixed(self) -> dict[str, int]:
        width = self._first.shape[-1]
        depth = power_of_two(width)
        return {"D": width, "DP": depth, "R": max(1, _TILE // depth), "num_warps": 4}

    def _grid(self, count: int) -> tuple[int, int, int]:
        layers, slots, _ = self._first.shape
        return -(-slots // self._fixed()["R"]), count, layers

    def _empty(self, count: int) -> Tensor:
        layers, slots, width = self._first.shape
        return self._nothing.new_empty(layers, count, slots, width)

    def _empty_status(self, count: int) -> Tensor:
        layers, slots, _ = self._first.shape
        return self._first.new_empty(layers, count, slots)


@dataclass(frozen=True, slots=True)
class _Gate:
    """A residual gate as kernels take it."""

    kind: int
    tanh: bool
    numbers: Tensor
    strides: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    """What the decoder's layers make of a memory, of all of them at once."""

    norm: Tensor
    slot_ids: Tensor | None
    weight: Tensor
    slab: Tensor
    at: Tensor

    @classmethod
    def of(cls, model: ReactiveTransformer, pool: MemoryPool) -> _Read:
        reads = [cast("DecoderLayer", layer).memory_read for layer in model.decoder]
        keys = [torch.cat((r.attention.k_proj.weight, r.attention.v_proj.weight)) for r in reads]
        ids = None if reads[0].slot_ids is None else torch.stack([r.slot_ids for r in reads])
        slab = pool.layers[0][0]
        at = [[_place(part, slab) for part in layer] for layer in pool.layers]
        return cls(
            torch.stack([r.norm.weight for r in reads]),
            ids,
            torch.stack(keys).transpose(1, 2).contiguous(),
            slab,
            torch.tensor(at, device=slab.device),
        )


def _joined(attention: StackedAttention) -> Tensor:
    """Keys and values of all layers in one matrix each, [L, D, 2 G H]."""
    return torch.cat((attention.k_proj.weight, attention.v_proj.weight), dim=2)


def _place(tensor: Tensor, base: Tensor) -> int:
    return (tensor.data_ptr() - base.data_ptr()) // _UNIT


def _aligned(memory: Tensor) -> Tensor:
    if memory.is_contiguous() and memory.data_ptr() % _UNIT == 0:
        return memory
    return memory.clone(memory_format=torch.contiguous_format)
