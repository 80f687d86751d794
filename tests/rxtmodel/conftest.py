"""One thread, fixed seeds, and a way to run the model wholly in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from .published_folders import write
from .published_samples import ALPHA, BETA, tiny


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> Iterator[None]:
    """The same numbers on every machine, whatever ran before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Casts to float32 inside the model become casts to float64.

    A formula can then be compared to its reference to twelve digits, and not only to six.
    """
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.fixture
def beta(tmp_path):
    """The folder of a published RxT-Beta."""
    write(tiny(BETA), tmp_path / "beta")
    return tmp_path / "beta"


@pytest.fixture
def alpha(tmp_path):
    """The folder of a published RxT-Alpha."""
    write(tiny(ALPHA), tmp_path / "alpha")
    return tmp_path / "alpha"
