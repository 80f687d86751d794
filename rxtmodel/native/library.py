"""Compiling the C files once for this processor, and loading what came of it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

_SOURCES = ("decoder.c", "ahead.c", "encoder.c", "delta.c", "crew.c")
_HEADERS = ("vector.h", "products.h", "layers.h", "interaction.h", "crew.h")
_FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=fast", "-fPIC", "-pthread", "-shared")
_NATIVE = "-march=native"
"""Not every compiler knows it on every processor."""
_SECONDS = 120
_APIECE = 3
"""Fewer rows, or tokens of a prompt, are not worth a second thread."""
_POINTER, _NUMBER, _SIZE = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "rxt_scratch": (_SIZE, [_POINTER, _NUMBER]),
    "rxt_forward": (None, [*[_POINTER] * 4, *[_NUMBER] * 3, _SIZE, *[_POINTER] * 3]),
    "rxt_store_delta": (None, [_POINTER, _POINTER, _NUMBER]),
    "rxt_ahead_new": (_POINTER, []),
    "rxt_ahead_begin": (
        _NUMBER,
        [*[_POINTER] * 4, *[_NUMBER] * 3, _POINTER, _NUMBER, _SIZE, *[_POINTER] * 3],
    ),
    "rxt_ahead_take": (_NUMBER, [_POINTER] * 2),
    "rxt_ahead_halt": (None, [_POINTER]),
    "rxt_ahead_forget": (_NUMBER, [_POINTER]),
    "rxt_ahead_encoded": (_NUMBER, [_POINTER, _POINTER, _NUMBER, _POINTER]),
    "rxt_ahead_folded": (_NUMBER, [_POINTER] * 2),
    "rxt_ahead_end": (None, [_POINTER]),
    "rxt_ahead_free": (None, [_POINTER]),
    "rxt_encode_scratch": (_SIZE, [_POINTER, _NUMBER, _NUMBER]),
    "rxt_encode": (None, [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER]),
    "rxt_fold_scratch": (_SIZE, [_POINTER, _NUMBER]),
    "rxt_fold": (None, [*[_POINTER] * 3, _NUMBER, _NUMBER, _POINTER, _POINTER]),
    "rxt_sizes": (None, [_POINTER]),
}


class NativeUnavailable(RuntimeError):
    """Tokens cannot be decoded by compiled code; the message says why."""


def threads_for(count: int) -> int:
    """Threads that share out so many rows or tokens: as many as PyTorch uses, at most."""
    return max(1, min(torch.get_num_threads(), count // _APIECE))


def load() -> ctypes.CDLL:
    """The library, compiled at the first call on this machine. Raises NativeUnavailable."""
    found = _loaded()
    if isinstance(found, str):
        raise NativeUnavailable(found)
    return found


@functools.cache
def _loaded() -> ctypes.CDLL | str:
    """The library, or why there is none: what failed once is not tried for each model again."""
    if os.environ.get("RXT_NATIVE", "1") == "0":
        return "RXT_NATIVE=0 forbids compiled code"
    if sys.platform not in ("linux", "darwin"):
        return f"compiled code is for Linux and macOS, not {sys.platform}"
    try:
        compiler = _compiler()
        with contextlib.ExitStack() as stack:
            folder = _cache_folder(stack)
            file = folder / f"decoder-{_digest(compiler)}.so"
            if not file.exists():
                _compile(compiler, file)
            try:
                library = ctypes.CDLL(str(file))
            except OSError:
                if os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0):
                    raise  # no file could be loaded from there
                _compile(compiler, file)  # it was damaged
                library = ctypes.CDLL(str(file))
    except (NativeUnavailable, OSError) as exc:
        return str(exc)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _compiler() -> list[str]:
    try:
        named = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise NativeUnavailable(f"CC={os.environ['CC']!r} is no command: {error}") from error
    for command in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if found := shutil.which(command[0]):
            return [found, *command[1:]]
    raise NativeUnavailable(
        f"no C compiler ({named[0] if named else 'cc, gcc or clang'}) was found; install one for "
        "faster decoding"
    )


def _cache_folder(stack: contextlib.ExitStack) -> Path:
    """A folder that nobody else can write to: what lies in it is loaded as code.

    Where none can be made, one that goes with ``stack``: then each process compiles.
    """
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(named) if named else Path.home() / ".cache") / "rxstream" / "native"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):  # no home, or one that cannot be written to
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rxstream-native-")))
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise NativeUnavailable(
            f"{folder} belongs to, or can be written by, somebody else; remove it, or set "
            "XDG_CACHE_HOME"
        )
    return folder


def _digest(compiler: list[str]) -> str:
    """Of all that the result depends on; a home folder may be shared by different processors."""
    parts = [
        " ".join((*compiler, *_FLAGS, _NATIVE)).encode(),
        platform.machine().encode(),
        _processor(),
    ]
    parts += [(Path(__file__).parent / name).read_bytes() for name in (*_HEADERS, *_SOURCES)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _processor() -> bytes:
    try:
        lines = Path("/proc/cpuinfo").read_bytes().split(b"\n\n")[0].splitlines()
    except OSError:
        return platform.processor().encode()
    kept = (b"model name", b"flags", b"Features", b"CPU part")
    return b"\n".join(line for line in lines if line.startswith(kept))


def _compile(compiler: list[str], file: Path) -> None:
    sources = [str(Path(__file__).parent / name) for name in _SOURCES]
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        made = Path(folder) / file.name
        command = [*compiler, *_FLAGS, "-o", str(made), *sources, "-lm"]
        try:
            try:
                _run([*command, _NATIVE])
            except subprocess.CalledProcessError:
                _run(command)
        except subprocess.CalledProcessError as exc:
            lines = exc.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise NativeUnavailable(f"{' '.join(compiler)} failed: {lines[0]}") from exc
        except subprocess.TimeoutExpired as exc:
            raise NativeUnavailable(f"{compiler[0]} took more than {_SECONDS} s") from exc
        made.replace(file)  # whole or not at all, whoever compiles beside us


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
