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
    library._loaded.cache_clear()
    yield tmp_path / "rxstream" / "native"
    library._loaded.cache_clear()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("CC", "no-such-compiler", "no C compiler (no-such-compiler)"),
        ("CC", "false", "failed: no message"),
        ("CC", "cc '", "is no command"),
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
    library._loaded.cache_clear()
    monkeypatch.setattr(library, "_compile", lambda *_: pytest.fail("compiled again"))
    assert library.load()._name == first._name == str(made)


def test_a_damaged_library_is_compiled_again(fresh: Path) -> None:
    fresh.mkdir(parents=True, mode=0o700)
    damaged = fresh / f"decoder-{library._digest(library._compiler())}.so"
    damaged.write_bytes(b"no library")
    assert library.load()._name == str(damaged)
    assert DecodeBatch(wide_model(), 1, 20).why_not_native is None


def test_a_compiler_that_does_not_know_this_processor_compiles_for_any(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stubborn = tmp_path / "cc"
    refuses = 'case "$*" in *-march=native*) echo unknown >&2; exit 1;; esac'
    stubborn.write_text(f'#!/bin/sh\n{refuses}\nexec cc "$@"\n')
    stubborn.chmod(0o755)
    monkeypatch.setenv("CC", str(stubborn))
    assert DecodeBatch(wide_model(), 1, 20).why_not_native is None


def test_without_a_home_that_can_be_written_to_each_process_compiles(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(library.tempfile, "tempdir", str(tmp_path))
    assert DecodeBatch(wide_model(), 1, 20).why_not_native is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_failed_is_not_tried_for_each_model_again(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "false")
    tries: list[object] = []
    compile = library._compile
    monkeypatch.setattr(library, "_compile", lambda *args: tries.append(1) or compile(*args))
    for _ in range(3):
        with pytest.raises(NativeUnavailable, match="failed"):
            library.load()
    assert len(tries) == 1


def test_a_folder_that_others_can_write_to_is_not_trusted(fresh: Path) -> None:
    fresh.mkdir(parents=True)
    fresh.chmod(0o777)
    with pytest.raises(NativeUnavailable, match="can be written by"):
        library.load()


def test_the_structures_are_those_of_the_c_files() -> None:
    sizes = (ctypes.c_int32 * 6)()
    library.load().rxt_sizes(sizes)
    mirrors = "Product", "Layer", "Decoder", "WriteLayer", "DeltaWrite", "Interaction"
    assert list(sizes) == [ctypes.sizeof(getattr(structs, name)) for name in mirrors]
