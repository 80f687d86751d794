"""The floor of a computation: its matrix products alone, on the same tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable

PRODUCTS = frozenset({"linear", "matmul", "__matmul__", "bmm", "baddbmm", "addmm", "einsum"})


class _Products(TorchFunctionMode):
    """Notes every matrix product that is called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], Any, Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in PRODUCTS:
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def products_of(action: Callable[[], object]) -> Callable[[], None]:
    """A function that repeats only the matrix products of ``action``, one after another.

    Attention kernels are not among them. No faster form of the same computation can leave one out,
    though a better one may join or batch them.
    """
    with _Products() as noted:
        action()
    calls = noted.calls

    @torch.inference_mode()
    def replay() -> None:
        for func, args, kwargs in calls:
            func(*args, **kwargs)

    return replay
