"""CUDA C++ compiled where it runs, by NVRTC, and launched on PyTorch's current stream."""

from __future__ import annotations

import ctypes
import functools
from importlib import resources
from typing import Any

import torch
from cuda.bindings import driver, nvrtc

from ..errors import BackendUnavailable


class Kernel:
    """A kernel whose blocks are all on the device at once, so that they may wait for each other.

    Args:
        folder: of this package, with ``entry.cu`` and the headers that it includes.
        defines: macros, by name.
        shared_bytes: dynamic shared memory of a block.
    """

    def __init__(
        self, folder: str, entry: str, defines: tuple[tuple[str, object], ...], shared_bytes: int
    ) -> None:
        self._function = _loaded(folder, entry, defines, torch.cuda.current_device())
        self._shared = shared_bytes
        limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _checked(driver.cuFuncSetAttribute(self._function, limit, shared_bytes))

    def launch(self, blocks: int, threads: int, arguments: ctypes.Structure) -> None:
        """``arguments`` is copied; what it points to must stay until the kernel has run."""
        pointer = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        stream = torch.cuda.current_stream().cuda_stream
        _checked(
            driver.cuLaunchCooperativeKernel(
                self._function, blocks, 1, 1, threads, 1, 1, self._shared, stream,
                ctypes.addressof(pointer),
            )
        )  # fmt: skip


@functools.cache
def _loaded(folder: str, entry: str, defines: tuple[tuple[str, object], ...], device: int) -> Any:
    """The function in the context of one device: another one cannot launch it."""
    torch.cuda.current_stream()  # the context that the module is loaded into
    files = resources.files(__package__) / folder
    headers = [file for file in files.iterdir() if file.name.endswith(".h")]
    lines = "".join(f"#define {name} {value}\n" for name, value in defines)
    source = lines + (files / f"{entry}.cu").read_text("utf-8")
    try:
        program = _checked(
            nvrtc.nvrtcCreateProgram(
                source.encode(), f"{entry}.cu".encode(), len(headers),
                [file.read_bytes() for file in headers], [file.name.encode() for file in headers],
            )
        )  # fmt: skip
    except RuntimeError as error:  # what cuda-bindings raises where there is no such library
        raise BackendUnavailable(f"NVRTC cannot be loaded ({error})") from error
    major, minor = torch.cuda.get_device_capability(device)
    # "a": what just this architecture has, such as copies that announce their end.
    architecture = f"--gpu-architecture=sm_{major}{minor}a"
    options = [architecture.encode(), b"--std=c++17", b"-default-device"]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise BackendUnavailable(
            f"{entry}.cu was not compiled: {log.decode(errors='replace').strip()}"
        )
    binary = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
    _checked(nvrtc.nvrtcGetCUBIN(program, binary))
    module = _checked(driver.cuModuleLoadData(binary))
    return _checked(driver.cuModuleGetFunction(module, entry.encode()))


def _checked(answer: tuple[Any, ...]) -> Any:
    status, *values = answer
    if status:
        raise BackendUnavailable(f"a call of the CUDA driver failed: {status!r}")
    return values[0] if values else None
