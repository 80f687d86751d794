"""The C files are compiled where they run, once; where that cannot be, PyTorch decodes."""

from __future__ import annotations

import ctypes
import stat
from typing import TYPE_CHECKING

import pytest

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.engine import DecodeBatch
from rxtmodel.native import NativeUnavailable, library, structs

from .test_native import wide_model
from .tiny import random_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """As on a machine on which nothing was compiled yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.load.cache_clear()
    yield tmp_path / "rxstream" / "native"
    library.load.cache_clear()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("CC", "no-such-compiler", "no C compiler (no-such-compiler)"),
        ("CC", "false", "failed: no message"),
        ("CC", "cc -Dvec=+", "failed: "),
        ("RXT_NATIVE", "0", "RXT_NATIVE=0"),
    ],
)
def test_without_a_compiler_pytorch_decodes_and_it_is_said_why(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    batch = DecodeBatch(wide_model(), 1, 20)
    assert reason in (batch.why_not_native or "")
    state = batch.model.project_memory(random_memory(batch.model, 1))
    assert batch.step([batch.add([12, 13], state, Sampler(SamplerConfig()))])
    assert not fresh.exists() or list(fresh.iterdir()) == []


def test_the_files_are_compiled_once_into_a_folder_of_ones_own(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = library.load()
    (made,) = fresh.iterdir()
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o700
    library.load.cache_clear()
    monkeypatch.setattr(library, "_compile", lambda *_: pytest.fail("compiled again"))
    assert library.load()._name == first._name == str(made)


def test_a_folder_that_others_can_write_to_is_not_trusted(fresh: Path) -> None:
    fresh.mkdir(parents=True)
    fresh.chmod(0o777)
    with pytest.raises(NativeUnavailable, match="can be written by"):
        library.load()


def test_the_structures_are_those_of_the_c_files() -> None:
    sizes = (ctypes.c_int32 * 3)()
    library.load().rxt_sizes(sizes)
    assert list(sizes) == [
        ctypes.sizeof(s) for s in (structs.Product, structs.Layer, structs.Decoder)
    ]
