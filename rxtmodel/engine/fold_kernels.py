"""The kernels of a memory update, each with what it is launched with."""

# Shape suffixes: L layers, B memories, T tokens, S slots, D width, H head width.

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from .fold_parts import Gate, Read, joined
from .shapes import power_of_two

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..memory import MemoryAttention
    from ..memory.gate import ResidualGate
    from ..memory.stacked import StackedAttention
    from ..model import ReactiveTransformer
    from .pool import MemoryPool

_TILE = 4096
"""Elements that one program copies."""

_NORMED = 2048
"""Elements that one program takes through norms and gates."""


class FoldKernels:
    """What ``FusedFold`` calls; see ``rxtmodel.kernels.fold``. Places of memories are told from
    ``first``, of new ones from ``nowhere``, of interactions from ``nothing``."""

    def __init__(self, model: ReactiveTransformer, pool: MemoryPool | None) -> None:
        from ..kernels import encode, fold, sequences

        self._kernels, self._turn = fold, encode.turn
        self._attend_first = sequences.attend_first
        self.write = cast("MemoryAttention", model.memory_write)
        self._eps = model.config.norm_eps or torch.finfo(torch.float32).eps
        self.first = model.initial_memory()[:, 0].contiguous().clone()
        self.nowhere = torch.empty_like(self.first)
        self.nothing = model.embedding.weight.new_zeros(self.first.shape[-1])
        self.open = Gate(fold.NONE, False, self.nothing, (0, 0, 0))
        self.read = None if pool is None else Read.of(model, pool)
        self._rope = model.rope if model.write_rope is None else model.write_rope
        self._keys = {self.write.attention: joined(self.write.attention)}
        if self.write.variant != "simple":
            pre = self.write.pre_attention
            self._keys[pre] = joined(pre)

    def mix(self, memory_at: Tensor) -> tuple[Tensor, Tensor]:
        """Slots of each layer, normalised, and what they attend to, [L, B, S, D] both."""
        write, count = self.write, len(memory_at)
        layers, slots, width = self.first.shape
        own = self._empty(count)
        if write.variant == "self":
            other, mean_norm = own, write.pre_norm.weight
        else:
            other, mean_norm = self._empty(count), write.mean_norm.weight
        blend = write.variant.endswith("self-interlayer")
        size = layers // write.num_groups
        together = min(power_of_two(size), max(1, _NORMED // power_of_two(width)))

        def run(gate: Gate, status: Tensor | None) -> None:
            self._kernels.mix[(slots, count, write.num_groups)](
                self.first, memory_at, write.pre_norm.weight, mean_norm, gate.numbers, own, other,
                own if status is None else status, count, slots, self._eps, *gate.strides,
                LAYERS=size, D=width, OTHER=write.variant != "self", BLEND=blend, KIND=gate.kind,
                TANH=gate.tanh, STATUS=status is not None, LP=together,
                DP=power_of_two(width), num_warps=2,
            )  # fmt: skip

        def status() -> Tensor:
            run(self.open, found := self._empty_status(count))
            return found

        gate = self.gate(write.blend_gate, status) if blend else self.open
        run(gate, None)
        return own, other

    def address(self, memory_at: Tensor, pre: Tensor, gate: Gate | None) -> Tensor:
        """Queries of the write; without a gate, what it wants to see of memories."""
        write, count = self.write, len(memory_at)
        out = self._empty_status(count) if gate is None else self._empty(count)
        gate, only = gate or self.open, gate is None
        ids, bias = write.slot_ids, self._bias_of_pre()
        self._kernels.address[self._grid(count)](
            self.first, memory_at, pre, pre if bias is None else bias, gate.numbers,
            write.memory_norm.weight, out if ids is None else ids, out, out, count,
            self.first.shape[1], self._eps, *gate.strides,
            PRE=write.variant != "simple", PRE_BIAS=bias is not None, KIND=gate.kind,
            TANH=gate.tanh, IDS=ids is not None, STATUS=only, **self._fixed(),
        )  # fmt: skip
        return out

    def renew(
        self, memory_at: Tensor, new_at: Tensor, pre: Tensor, pre_gate: Gate, update: Tensor,
        gate: Gate | None,
    ) -> Tensor:  # fmt: skip
        """New memories to their places, and what is read of them; without a gate, what it wants
        to see."""
        write, count, read = self.write, len(memory_at), self.read
        out = self._empty_status(count) if gate is None else self._empty(count if read else 0)
        gate, only = gate or self.open, gate is None
        pre_bias, bias = self._bias_of_pre(), write.attention.out_proj.bias
        ids = None if read is None else read.slot_ids
        self._kernels.renew[self._grid(count)](
            self.first, memory_at, pre, pre if pre_bias is None else pre_bias, pre_gate.numbers,
            update, update if bias is None else bias, gate.numbers,
            out if read is None else read.norm, out if ids is None else ids,
            self.nowhere, new_at, out, out, count, self.first.shape[1], self._eps,
            *pre_gate.strides, *gate.strides,
            PRE=write.variant != "simple", PRE_BIAS=pre_bias is not None, PRE_KIND=pre_gate.kind,
            BIAS=bias is not None, KIND=gate.kind, TANH=gate.tanh or pre_gate.tanh,
            IDS=ids is not None, READ=read is not None, STATUS=only, **self._fixed(),
        )  # fmt: skip
        return out

    def interaction(self, length: int, at: Tensor, layer_at: Tensor, lengths_B: Tensor) -> Tensor:
        """Encoded interactions side by side, normalised, [L, B, T, D]."""
        layers, _, width = self.first.shape
        out = self.nothing.new_empty(layers, len(at), length, width)
        fixed = self._fixed()
        self._kernels.interaction[(-(-length // fixed["R"]), len(at), layers)](
            self.nothing, at, layer_at, lengths_B, self.write.input_norm.weight, out, len(at),
            length, self._eps, **fixed,
        )  # fmt: skip
        return out

    def attend(
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
            flat = kv.flatten(0, 1)
            self._turn(flat, self._rope, flat, length, groups * head, head)
            lengths_B = lengths_B.repeat(layers)
        q = q.view(rows, -1, q.shape[-1] // head, head).transpose(1, 2)
        k, v = kv.view(rows, length, 2 * groups, head).transpose(1, 2).split(groups, dim=1)
        mixed = self._attend_first(q, k, v, lengths_B).transpose(1, 2)
        return torch.bmm(mixed.reshape(layers, -1, attention.out_proj.weight.shape[1]),
                         attention.out_proj.weight)  # fmt: skip

    def project(self, read: Read, read_LBSD: Tensor, slots_B: Tensor) -> None:
        layers, count, slots, _ = read_LBSD.shape
        kv = torch.bmm(read_LBSD.flatten(1, 2), read.weight)
        _, groups, _, head = read.slab.shape
        tile = max(1, _TILE // (groups * head))
        self._kernels.to_slots[(-(-slots // tile), count, 2 * layers)](
            kv, read.slab, read.at, slots_B, count, slots, read.slab.stride(0),
            G=groups, H=head, R=tile, num_warps=4,
        )  # fmt: skip

    def gate(self, gate: ResidualGate, status: Callable[[], Tensor]) -> Gate:
        """``status`` gives the means of slots, [L, B, S], to gates that see more than one."""
        kernels = self._kernels
        if gate.kind == "none":
            return self.open
        if gate.kind == "replace":
            return Gate(kernels.REPLACE, False, self.nothing, (0, 0, 0))
        if gate.kind == "static" or (gate.kind == "elementwise" and gate.per_slot):
            kind, numbers = kernels.LOGIT if gate.kind == "static" else kernels.MEAN, gate.weight
            slot = numbers.stride(1) if gate.per_slot else 0
            return Gate(kind, gate.tanh, numbers, (numbers.stride(0), 0, slot))
        if gate.kind == "linear":
            logit_LBS = gate.mix(status())
        else:
            logit_LBS = gate.weight[:, None] * status().mean(-1, keepdim=True)
        layer, row, slot = logit_LBS.stride()
        slot = slot if logit_LBS.shape[-1] > 1 else 0
        return Gate(kernels.LOGIT, gate.tanh, logit_LBS, (layer, row, slot))

    def _bias_of_pre(self) -> Tensor | None:
        write = self.write
        return None if write.variant == "simple" else write.pre_attention.out_proj.bias

    def _fixed(self) -> dict[str, int]:
        width = self.first.shape[-1]
        depth = power_of_two(width)
        return {"D": width, "DP": depth, "R": max(1, _NORMED // depth), "num_warps": 4}

    def _grid(self, count: int) -> tuple[int, int, int]:
        layers, slots, _ = self.first.shape
        return -(-slots // self._fixed()["R"]), count, layers

    def _empty(self, count: int) -> Tensor:
        layers, slots, width = self.first.shape
        return self.nothing.new_empty(layers, count, slots, width)

    def _empty_status(self, count: int) -> Tensor:
        layers, slots, _ = self.first.shape
        return self.first.new_empty(layers, count, slots)
