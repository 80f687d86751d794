"""One step of many rows as one kernel that stays on the device; see ``kernels/persistent``.

Rows are divided into groups of 64, and multiprocessors among the groups. What a group's blocks
leave to each other stays in the second cache, and weights and memories are on their way before
what they are multiplied with is there.
"""

# Shape suffixes: B rows of a batch, N outputs, K inner width, V vocabulary.

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .packing import SLOT_BYTES, STREAM, TILE_BYTES, WARPS, products_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..model import ReactiveTransformer
    from .matrices import LayerMatrices
    from .pool import MemoryPool
    from .rows import DeviceRows

_ROW_TILES, _GROUP, _MOST_ROWS = 4, 64, 256
_SLOTS, _PIECES, _PIECE_BYTES = 5, 2, 8_192
"""Weights that are under way for a block; keys and values, for each of its warps."""
_THREADS = 32 * (WARPS + 3)
_STATIC_BYTES = 2_048
"""Of shared memory that the kernel declares itself, at most."""
_EVEN = 4
"""Blocks of a group are a multiple of it: one without a share of the work only delays others."""
_APART = 32
"""Numbers between the places where two groups meet."""
_PLACES = ("OWN_AT", "OWN_OUT_AT", "READ_AT", "READ_OUT_AT", "WIDE_AT", "DOWN_AT")


class Arguments(ctypes.Structure):
    """As ``Args`` of args.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in (
            "order", "token", "pos", "slot", "table", "rope", "weights", "biases", "k", "v",
            "memory", "x", "sums", "queries", "mixed", "inner", "logits", "meetings",
        )),
        *((name, ctypes.c_size_t) for name in (
            "layer_stride", "row_stride", "head_stride", "slot_stride", "rope_stride",
        )),
        ("count", ctypes.c_int), ("nobody", ctypes.c_int),
        ("eps", ctypes.c_float), ("own_scale", ctypes.c_float), ("read_scale", ctypes.c_float),
    )  # fmt: skip


class PersistentStep:
    """Logits of many rows. ``support.why_not_persistent`` must have found no reason against it.

    Holds a copy of the decoder's matrices in the order in which it takes them.
    """

    def __init__(
        self,
        model: ReactiveTransformer,
        rows: DeviceRows,
        pool: MemoryPool,
        matrices: Sequence[LayerMatrices],
        head_VD: Tensor,
        rope: Tensor,
        eps: float,
    ) -> None:
        from ..kernels import cuda

        self._cuda, self.model, self.rows, self.pool = cuda, model, rows, pool
        config, table, device = model.config, model.embedding.weight, rows.device
        self._products = products_of(model)
        *some, head = self._products
        packed = [
            product.packed(matrix)
            for layer in matrices
            for product, matrix in zip(some, layer.in_order(), strict=True)
        ]
        self._weights = torch.cat([*packed, head.packed(head_VD)])
        last = torch.zeros(16 * head.outputs, device=device)
        if model.head is not None and model.head.bias is not None:
            last[: config.vocab_size] = model.head.bias.float()
        self._biases = torch.cat([*(part for layer in matrices for part in layer.biases()), last])
        self._memory = torch.tensor(
            [[part.data_ptr() for part in layer] for layer in pool.layers], device=device
        )
        self._multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
        read = model.decoder[0].memory_read.attention
        self._width = config.head_dim * max(config.attention.num_query_heads, read.num_query_heads)
        self._rope = rope.float().contiguous()

        def scratch(width: int, kind: torch.dtype = table.dtype) -> Tensor:
            return torch.zeros(_MOST_ROWS * width, device=device, dtype=kind)

        self._scratch = {
            "x": scratch(config.embed_dim),
            "sums": scratch(config.embed_dim // 16, torch.float32),
            "queries": scratch(self._width), "mixed": scratch(self._width),
            "inner": scratch(config.ff_dim),
            "meetings": torch.zeros(
                _APART * _MOST_ROWS // _GROUP, device=device, dtype=torch.int32
            ),
        }  # fmt: skip
        log2e, k = math.log2(math.e), rows.k
        self._arguments = Arguments(
            token=rows.token.data_ptr(), pos=rows.pos.data_ptr(), slot=rows.slot.data_ptr(),
            table=table.data_ptr(), rope=self._rope.data_ptr(), weights=self._weights.data_ptr(),
            biases=self._biases.data_ptr(), k=k.data_ptr(), v=rows.v.data_ptr(),
            memory=self._memory.data_ptr(), nobody=rows.nobody, eps=eps,
            layer_stride=k.stride(0), row_stride=k.stride(1), head_stride=k.stride(2),
            slot_stride=pool.layers[0][0].stride(0), rope_stride=self._rope.stride(0),
            own_scale=log2e * config.head_dim**-0.5, read_scale=log2e * read.head_dim**-0.5,
            **{name: part.data_ptr() for name, part in self._scratch.items()},
        )  # fmt: skip
        self._kernels: dict[int, Any] = {}
        # Now, and not in the middle of answers; and whoever cannot have it learns it here.
        with torch.cuda.device(device):
            self._kernel_of(min(rows.max_rows, _MOST_ROWS))

    def run(self, order_B: Tensor, logits_BV: Tensor) -> None:
        """Logits of the rows that ``order_B`` names; their newest keys and values to the cache."""
        for start in range(0, len(order_B), _MOST_ROWS):
            some = order_B[start : start + _MOST_ROWS]
            kernel, blocks = self._kernel_of(len(some))
            arguments = self._arguments
            arguments.order, arguments.count = some.data_ptr(), len(some)
            arguments.logits = logits_BV[start:].data_ptr()
            kernel.launch(blocks, _THREADS, arguments)

    def _kernel_of(self, count: int) -> tuple[Any, int]:
        """For so many rows; and how many blocks it takes in all."""
        groups = -(-count // _GROUP)
        blocks = _blocks(self._multiprocessors, groups)
        if blocks not in self._kernels:
            self._kernels[blocks] = self._kernel(blocks)
        return self._kernels[blocks], groups * blocks

    def _kernel(self, blocks: int) -> Any:
        config, own = self.model.config, self.model.config.attention
        read = self.model.decoder[0].memory_read.attention
        at, places = 0, {}
        for product, name in zip(self._products[:-1], _PLACES, strict=True):
            places[name], at = at, at + product.bytes
        plan = Plan.of(self.model, blocks)
        defines = {
            "BFLOAT": int(self.model.embedding.weight.dtype == torch.bfloat16),
            "ROW_TILES": _ROW_TILES, "BLOCKS": blocks, "WARPS": WARPS, "THREADS": _THREADS,
            "SLOT_BYTES": SLOT_BYTES, "SLOTS": _SLOTS, "PIECE_BYTES": _PIECE_BYTES,
            "PIECES": _PIECES, "APART": _APART, "HEAD": config.head_dim,
            "OWN_KV": own.num_kv_heads, "OWN_RATIO": own.num_query_heads // own.num_kv_heads,
            "READ_KV": read.num_kv_heads, "READ_RATIO": read.num_query_heads // read.num_kv_heads,
            "WIDTH": config.embed_dim, "INNER": config.ff_dim, "VOCAB": config.vocab_size,
            "LAYERS": len(self.model.decoder), "SLOTS_OF_MEMORY": self.pool.layers[0][0].shape[2],
            "FINAL_NORM": int(self.model.final_norm is not None),
            "QUERY_WIDTH": self._width, "Out": STREAM[0], "SCRATCH_BYTES": plan.scratch,
            **{p.name: p.shape(plan.row_tiles[p.name]) for p in self._products},
            **places, "LAYER_BYTES": at,
        }  # fmt: skip
        return self._cuda.Kernel("persistent", "step", tuple(defines.items()), plan.shared)


@dataclass(frozen=True)
class Plan:
    """How a group of so many blocks shares the work: tiles of rows of a unit by product, bytes of
    scratch memory, and of dynamic shared memory in all."""

    row_tiles: dict[str, int]
    scratch: int
    shared: int

    @classmethod
    def of(cls, model: ReactiveTransformer, blocks: int) -> Plan:
        """Raises ValueError, with the reason, where they cannot."""
        if blocks < 1:
            raise ValueError("there are too few multiprocessors")
        products = {product.name: product for product in products_of(model)}
        tiles: dict[str, int] = {}
        for name, product in products.items():
            found = product.row_tiles(_ROW_TILES, blocks)
            if found is None:
                raise ValueError(f"a width of {16 * product.inner} cannot be shared by warps")
            tiles[name] = found
        m = max(tiles[name] for name in STREAM)
        tiles.update(dict.fromkeys(STREAM, m))
        scratch = max(product.scratch(tiles[name]) for name, product in products.items())
        out = products[STREAM[0]]
        units = -(-(out.outputs // out.wide * (_ROW_TILES // m)) // blocks)
        stream = units * m * out.wide * 2 * TILE_BYTES
        shared = WARPS * _PIECES * _PIECE_BYTES + _SLOTS * SLOT_BYTES + scratch + stream
        return cls(tiles, scratch, shared)


def _blocks(multiprocessors: int, groups: int) -> int:
    """Of each group."""
    return multiprocessors // groups // _EVEN * _EVEN


def why_not_planned(model: ReactiveTransformer) -> str | None:
    """Why blocks of this device cannot share the work; None when they can."""
    device = torch.cuda.get_device_properties(model.embedding.weight.device)
    for groups in range(1, _MOST_ROWS // _GROUP + 1):
        try:
            plan = Plan.of(model, _blocks(device.multi_processor_count, groups))
        except ValueError as error:
            return str(error)
        needed = plan.shared + _STATIC_BYTES
        if needed > device.shared_memory_per_block_optin:
            return f"it needs {needed} bytes of shared memory"
    return None
