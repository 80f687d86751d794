"""The structures of the C files, and weights as they want them."""

# Shape suffixes: O outputs, I inputs, P panels of 16 outputs.

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int32, c_void_p
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from ..linear import Int8

LANES = 16
READ_NOTHING, READ_SOFTMAX, READ_DELTA = range(3)
PRODUCTS = "qkv", "out", "read_q", "read_out", "gate_up", "down"


class Product(ctypes.Structure):
    """``product``."""

    _fields_: ClassVar = [
        ("data", c_void_p),
        ("scale", c_void_p),
        ("inputs", c_int32),
        ("outputs", c_int32),
    ]


class Layer(ctypes.Structure):
    """``layer``."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("attention_norm", "memory_norm", "ff_norm")),
        *((name, Product) for name in PRODUCTS),
        *((name, c_void_p) for name in ("k", "v", "memory_k", "memory_v")),
        *((name, c_int32) for name in ("read", "read_heads", "read_kv_heads", "read_dim", "slots")),
        ("ff_dim", c_int32),
    ]


class Decoder(ctypes.Structure):
    """``decoder``."""

    _fields_: ClassVar = [
        *((n, c_void_p) for n in ("layers", "embedding", "final_norm", "cos", "sin", "bias")),
        ("head", Product),
        *((n, c_int32) for n in ("num_layers", "dim", "heads", "kv_heads", "head_dim")),
        *((n, c_int32) for n in ("max_len", "width")),
        ("eps", c_float),
    ]


class Interaction(ctypes.Structure):
    """``interaction``."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("encoder", "write", "ids")),
        *((name, c_void_p) for name in ("scratch", "out", "fold_scratch", "next", "memory")),
        *((name, c_int32) for name in ("count", "longest", "eos", "threads")),
    ]


class WriteLayer(ctypes.Structure):
    """``write_layer``."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("norm", "strength_bias")),
        *((name, Product) for name in ("k", "v", "strength")),
    ]


class DeltaWrite(ctypes.Structure):
    """``delta_write``."""

    _fields_: ClassVar = [
        ("layers", c_void_p),
        *((name, c_int32) for name in ("num_layers", "dim", "heads", "slots", "width")),
        ("eps", c_float),
    ]


class Kept:
    """Tensors that C points to, kept alive.

    Args:
        int8: keep weights in eight bits where they come so, too.
    """

    def __init__(self, int8: bool) -> None:
        self._int8 = int8
        self.shortened = False
        """Whether some weight was kept in eight bits."""
        self._tensors: list[Tensor] = []

    def __call__(self, tensor: Tensor) -> int:
        """The address of a tensor's first number."""
        self._tensors.append(tensor)
        return tensor.data_ptr()

    def product(self, weight_OI: Tensor, int8: Int8 | None = None) -> Product:
        """A weight in panels, in eight bits where ``int8`` is given."""
        outputs, inputs = weight_OI.shape
        scale = None
        with torch.no_grad():
            if int8 is None or not self._int8:
                return Product(self(panels(weight_OI)), None, inputs, outputs)
            self.shortened = True
            scale = self(F.pad(int8.scale.float(), (0, -outputs % LANES)))
            fours = panels(int8.weight).unflatten(1, (-1, 4)).transpose(2, 3).contiguous()
            return Product(self(fours), scale, inputs, outputs)


def panels(weight_OI: Tensor) -> Tensor:
    """[outputs / 16, inputs, 16], zeros where there are fewer outputs."""
    outputs, inputs = weight_OI.shape
    padded_OI = F.pad(weight_OI, (0, 0, 0, -outputs % LANES))
    return padded_OI.reshape(-1, LANES, inputs).transpose(1, 2).contiguous()
