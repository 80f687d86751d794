"""Compiling the C files once for this processor, and loading what came of it."""

from __future__ import annotations

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

_SOURCES = ("vector.h", "products.h", "decoder.c")
_FLAGS = (
    "-O3",
    "-march=native",
    "-std=gnu11",
    "-ffp-contract=fast",
    "-fPIC",
    "-pthread",
    "-shared",
)
_SECONDS = 120


class NativeUnavailable(RuntimeError):
    """Tokens cannot be decoded by compiled code; the message says why."""


@functools.cache
def load() -> ctypes.CDLL:
    """The library, compiled at the first call on this machine. Raises NativeUnavailable."""
    if os.environ.get("RXT_NATIVE", "1") == "0":
        raise NativeUnavailable("RXT_NATIVE=0 forbids compiled decoding")
    if sys.platform not in ("linux", "darwin"):
        raise NativeUnavailable(f"compiled decoding is for Linux and macOS, not {sys.platform}")
    compiler = _compiler()
    try:
        folder = _cache_folder()
        file = folder / f"decoder-{_digest(compiler)}.so"
        if not file.exists():
            _compile(compiler, file)
        library = ctypes.CDLL(str(file))
    except OSError as exc:
        raise NativeUnavailable(f"compiled decoding: {exc}") from exc
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    library.rxt_scratch.argtypes = [pointer, number]
    library.rxt_scratch.restype = ctypes.c_int64
    library.rxt_forward.argtypes = [
        *[pointer] * 4, number, number, ctypes.c_int64, *[pointer] * 3
    ]  # fmt: skip
    library.rxt_forward.restype = None
    return library


def _compiler() -> list[str]:
    named = shlex.split(os.environ.get("CC", ""))
    for command in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if found := shutil.which(command[0]):
            return [found, *command[1:]]
    raise NativeUnavailable(
        f"no C compiler ({named[0] if named else 'cc, gcc or clang'}) was found; install one for "
        "faster decoding"
    )


def _cache_folder() -> Path:
    """A folder that nobody else can write to: what lies in it is loaded as code."""
    named = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(named) if named else Path.home() / ".cache") / "rxstream" / "native"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise NativeUnavailable(
            f"{folder} belongs to, or can be written by, somebody else; remove it, or set "
            "XDG_CACHE_HOME"
        )
    return folder


def _digest(compiler: list[str]) -> str:
    """Of all that the result depends on; a home folder may be shared by different processors."""
    parts = [" ".join((*compiler, *_FLAGS)).encode(), platform.machine().encode(), _processor()]
    parts += [(Path(__file__).parent / name).read_bytes() for name in _SOURCES]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _processor() -> bytes:
    try:
        lines = Path("/proc/cpuinfo").read_bytes().split(b"\n\n")[0].splitlines()
    except OSError:
        return platform.processor().encode()
    kept = (b"model name", b"flags", b"Features", b"CPU part")
    return b"\n".join(line for line in lines if line.startswith(kept))


def _compile(compiler: list[str], file: Path) -> None:
    source = Path(__file__).parent / "decoder.c"
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        made = Path(folder) / file.name
        command = [*compiler, *_FLAGS, "-o", str(made), str(source), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
        except subprocess.CalledProcessError as exc:
            lines = exc.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise NativeUnavailable(f"{' '.join(compiler)} failed: {lines[0]}") from exc
        except subprocess.TimeoutExpired as exc:
            raise NativeUnavailable(f"{compiler[0]} took more than {_SECONDS} s") from exc
        made.replace(file)  # whole or not at all, whoever compiles beside us
