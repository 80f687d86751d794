"""Opening the model that ``--model`` names."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

from .failure import CommandError

if TYPE_CHECKING:
    from rxstream.model import Channel, ReactiveModel

    from ..model import RxtAdapter

FAKE = "fake:"
SMALL = 16_000_000
"""Weights up to which one thread is enough; measured with 4 million."""

AT_ONCE = 2
"""Answers under way in a chat: one, and one that was asked before ``/new``. A large model keeps
much room for each."""


def open_model(name: str | None) -> ReactiveModel[Any]:
    """The model for ``rxt chat``: bundled, a folder, or a model without weights for tests."""
    if name is not None and name.startswith(FAKE):
        return open_fake(name.removeprefix(FAKE))
    adapter = open_rxt(name, max_batch=AT_ONCE)
    _use_one_thread_if_small(adapter)
    # Full collections would look at all of PyTorch, for 30 ms in the middle of an answer.
    gc.collect()
    gc.freeze()
    return adapter


def _use_one_thread_if_small(adapter: RxtAdapter) -> None:
    """Have PyTorch compute a small model on one thread, in this whole process.

    Its operators are so short that a second thread gains nothing; but the threads wait for each
    other in every one of them, and beside other programs that makes answers several times slower.
    Here and not in the library, which must not decide it for the program that it is part of.
    """
    import torch

    if sum(weight.numel() for weight in adapter.model.parameters()) <= SMALL:
        torch.set_num_threads(1)


def open_rxt(name: str | None, *, device: str = "cpu", max_batch: int = 16) -> RxtAdapter:
    """A bundled model by name, or a model folder; None is the default one."""
    from ..model import DEFAULT_MODEL, ModelError, load_model

    try:
        name = DEFAULT_MODEL if name is None else name
        return load_model(name, device=device, max_batch=max_batch)
    except ModelError as error:
        raise CommandError(str(error)) from error


def open_fake(options: str) -> ReactiveModel[Any]:
    """``rxstream.testing.FakeModel``, with options such as ``step=0.05,attend=1,fingerprint=b``.

    ``step`` and ``attend`` are seconds that a call takes; ``fail=step`` makes every such call fail;
    ``thinks=1`` is a model that can think, ``instructed=1`` one that follows instructions.
    """
    from rxstream.testing import FakeModel

    chosen = dict(option.split("=", 1) for option in options.split(",") if option)
    can: list[Channel] = ["answer", "thinking"] if chosen.pop("thinks", "") else ["answer"]
    follows = bool(chosen.pop("instructed", ""))
    model = FakeModel(
        fingerprint=chosen.pop("fingerprint", "fake"), channels=can, instructed=follows
    )
    if broken := chosen.pop("fail", ""):
        model.fail(broken, RuntimeError("the model is broken"), times=1_000)
    for method, seconds in chosen.items():
        model.on(method, lambda _, wait=float(seconds): time.sleep(wait))
    return model
