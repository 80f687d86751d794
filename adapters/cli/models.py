"""Opening the model that ``--model`` names."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .failure import CommandError

if TYPE_CHECKING:
    from rxstream.model import ReactiveModel

    from ..model import RxtAdapter

FAKE = "fake:"


def open_model(name: str | None) -> ReactiveModel[Any]:
    """The model for ``rxt chat``: bundled, a folder, or a model without weights for tests."""
    if name is not None and name.startswith(FAKE):
        return open_fake(name.removeprefix(FAKE))
    return open_rxt(name)


def open_rxt(name: str | None, *, device: str = "cpu") -> RxtAdapter:
    """A bundled model by name, or a model folder; None is the default one."""
    from ..model import DEFAULT_MODEL, ModelError, load_model

    try:
        return load_model(DEFAULT_MODEL if name is None else name, device=device)
    except ModelError as error:
        raise CommandError(str(error)) from error


def open_fake(options: str) -> ReactiveModel[Any]:
    """``rxstream.testing.FakeModel``, with options such as ``step=0.05,attend=1,fingerprint=b``.

    ``step`` and ``attend`` are seconds that a call takes; ``fail=step`` makes every such call fail.
    """
    from rxstream.testing import FakeModel

    chosen = dict(option.split("=", 1) for option in options.split(",") if option)
    model = FakeModel(fingerprint=chosen.pop("fingerprint", "fake"))
    if broken := chosen.pop("fail", ""):
        model.fail(broken, RuntimeError("the model is broken"), times=1_000)
    for method, seconds in chosen.items():
        model.on(method, lambda _, wait=float(seconds): time.sleep(wait))
    return model
