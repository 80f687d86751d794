"""Memory attention: slots attend to an encoded interaction, and tokens attend to slots."""

# Shape suffixes: L layers, B batch, S slots, T tokens, D model width, N heads, H head width.

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..attention import Attention
from ..config import AttentionConfig
from ..inputs import readers
from ..norms import build_norm
from ..stacked import StackedRMSNorm
from .gate import ResidualGate
from .norm import build_memory_norm
from .stacked import StackedAttention

if TYPE_CHECKING:
    from ..config import MemoryConfig, RxtConfig


class MemoryAttention(nn.Module):
    """Fold an encoded interaction into memory: ``M' = gate(M~, attention(M~, E))``, every layer.

    Variants differ in M~, computed from the old memory M before the write:

    - ``simple``: M.
    - ``self``: slots attend to the slots of their layer.
    - ``interlayer``: slots attend to the mean of all layers.
    - ``self-interlayer``: to a gated blend of their own layer and that mean.
    - ``grouped-self-interlayer``: the same with the mean of the layer's group.

    Keys carry RoPE (positions in the interaction), slots do not.

    Shapes: memory_LBSD, encoded_LBTD, mask_BT (True: a token) -> [L, B, S, D].

    Source: RxT, https://arxiv.org/abs/2510.03561.
    """

    def __init__(self, config: RxtConfig) -> None:
        super().__init__()
        memory, layers, dim = config.memory, config.num_layers, config.embed_dim
        self.variant = memory.variant
        self.num_groups = memory.num_groups if memory.variant.startswith("grouped") else 1

        eps, head_dim = config.norm_eps, config.memory_head_dim
        write = memory.write or _every_head(memory)

        def norm(count: int = layers) -> nn.Module:
            return build_memory_norm(memory, count, dim, eps)

        self.memory_norm, self.input_norm = norm(), StackedRMSNorm(layers, dim, eps)
        self.attention = StackedAttention(
            layers, dim, write, head_dim, null_key=memory.null_key, norm_eps=eps,
            dropout=memory.write_dropout,
        )  # fmt: skip
        self.gate = ResidualGate(memory, layers, dim)
        self.slot_ids = (
            nn.Parameter(torch.randn(layers, memory.num_slots, dim)) if memory.slot_ids else None
        )
        if self.variant != "simple":
            self.pre_norm = norm()
            self.pre_attention = StackedAttention(
                layers, dim, memory.mix or write, head_dim, norm_eps=eps,
                dropout=memory.mix_dropout,
            )  # fmt: skip
            gated = self.variant != "self" or memory.gate_self_step
            pre = memory if gated else dataclasses.replace(memory, gate="none")
            self.pre_gate = ResidualGate(pre, layers, dim)
        if self.variant not in ("simple", "self"):
            # Normalises a mean over layers, so it has one scale for all of them.
            self.mean_norm = norm(1)
        if self.variant.endswith("self-interlayer"):
            self.blend_gate = ResidualGate(memory, layers, dim)

    def forward(
        self,
        memory_LBSD: Tensor,
        encoded_LBTD: Tensor,
        *,
        rope: Tensor | None = None,
        mask_BT: Tensor | None = None,
    ) -> Tensor:
        # Products in the weights' type; what is kept, and how much of it, in the memory's own.
        dtype = self.attention.q_proj.weight.dtype
        memory_LBSD = self._mix(memory_LBSD, dtype)
        queries = self.memory_norm(memory_LBSD).to(dtype)
        if self.slot_ids is not None:
            queries = queries + self.slot_ids[:, None].to(queries.dtype)
        update = self.attention(
            queries, self.input_norm(encoded_LBTD).to(queries.dtype), rope_k=rope, mask_BT=mask_BT
        )
        return self.gate(memory_LBSD, update)

    def _mix(self, memory_LBSD: Tensor, dtype: torch.dtype) -> Tensor:
        if self.variant == "simple":
            return memory_LBSD
        own = self.pre_norm(memory_LBSD)
        if self.variant == "self":
            other = own
        else:
            grouped = memory_LBSD.unflatten(0, (self.num_groups, -1))
            mean = grouped.mean(dim=1, keepdim=True).expand_as(grouped).flatten(0, 1)
            other = self.mean_norm(mean)
            if self.variant.endswith("self-interlayer"):
                other = self.blend_gate(own, other)
        return self.pre_gate(memory_LBSD, self.pre_attention(own.to(dtype), other.to(dtype)))


class MemoryCrossAttention(nn.Module):
    """A decoder layer's read: tokens attend to the slots of their layer of the memory.

    Queries carry RoPE, slots do not. ``project`` is run once for each memory version.

    Shapes: x_BTD, memory_BSD -> [B, T, D]. The memory may have fewer rows than x: row b of x reads
    row b // (B / rows).
    """

    def __init__(self, config: RxtConfig) -> None:
        super().__init__()
        memory, dim = config.memory, config.embed_dim
        self.norm = build_norm(config.norm, dim, config.norm_eps)
        self.slot_ids = (
            nn.Parameter(torch.randn(memory.num_slots, dim)) if memory.slot_ids else None
        )
        self.attention = Attention.of(
            memory.read or _every_head(memory),
            dim,
            config.head_dim,
            norm_eps=config.norm_eps,
            dropout=config.attention_dropout,
        )

    @property
    def out_proj(self) -> nn.Linear:
        """The last map: where it is zero, the read gives nothing."""
        return self.attention.out_proj

    def project(self, memory_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, N, S, H] of a layer of the memory."""
        slots = self.norm(memory_BSD.to(self.norm.weight.dtype))
        if self.slot_ids is not None:
            slots = slots + self.slot_ids
        return self.attention.project_kv(slots)

    def forward(
        self, x_BTD: Tensor, kv: tuple[Tensor, Tensor], *, rope: Tensor | None = None
    ) -> Tensor:
        each = readers(x_BTD.shape[0], kv[0].shape[0])
        if each != 1:
            kv = tuple(part.repeat_interleave(each, dim=0) for part in kv)
        return self.attention.attend(x_BTD, kv, rope=rope)


def _every_head(memory: MemoryConfig) -> AttentionConfig:
    return AttentionConfig(num_query_heads=memory.num_heads, num_kv_heads=memory.num_heads)
