"""What the host does around the kernel of a whole step; the kernel itself needs a GPU."""

from __future__ import annotations

import ctypes
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from rxtmodel import BackendUnavailable, ReactiveTransformer, RxTAlpha
from rxtmodel.engine import driver
from rxtmodel.engine.fused import FusedStep
from rxtmodel.engine.matrices import LayerMatrices, head_of
from rxtmodel.engine.persistent import Arguments, PersistentStep
from rxtmodel.engine.pool import MemoryPool
from rxtmodel.engine.rows import DeviceRows
from rxtmodel.engine.support import why_not_persistent

MODEL = ReactiveTransformer(
    RxTAlpha(
        vocab_size=100, embed_dim=64, num_layers=2, num_heads=4, query_heads=4, kv_heads=2,
        ff_dim=64, encoder_ff_dim=64, num_slots=8, max_seq_len=16, variant="self-interlayer",
        experts=None,
    )
)  # fmt: skip


class Kernel:
    """Keeps what it is made of and launched with."""

    made: list[Kernel]

    def __init__(self, folder, entry, defines, shared_bytes) -> None:
        self.defines, self.launches = dict(defines), []
        Kernel.made.append(self)

    def launch(self, blocks, threads, arguments) -> None:
        given = Arguments.from_buffer_copy(arguments)
        self.launches.append((blocks, threads, given.count, given.order, given.logits))


@pytest.fixture(autouse=True)
def device(monkeypatch):
    Kernel.made = []
    monkeypatch.setitem(sys.modules, "rxtmodel.kernels.cuda", SimpleNamespace(Kernel=Kernel))
    properties = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())


@torch.inference_mode()
def step_of(max_rows: int) -> PersistentStep:
    rows, pool = DeviceRows(MODEL, max_rows, 16), MemoryPool(MODEL, max_rows)
    matrices = [LayerMatrices.of(layer) for layer in MODEL.decoder]
    return PersistentStep(MODEL, rows, pool, matrices, head_of(MODEL), MODEL.rope, 1e-6)


@pytest.mark.parametrize(
    ("max_rows", "blocks"), [(65, 64), (128, 64), (192, 44), (256, 32), (900, 32)]
)
def test_the_kernel_for_most_rows_is_made_before_anybody_waits_for_it(max_rows, blocks):
    step_of(max_rows)
    assert [kernel.defines["BLOCKS"] for kernel in Kernel.made] == [blocks]


def test_more_rows_than_a_launch_takes_are_several_launches():
    step, order = step_of(600), torch.arange(600, dtype=torch.int32)
    logits = torch.zeros(600, 100)
    step.run(order, logits)
    launches = [launch for kernel in Kernel.made for launch in kernel.launches]
    assert [(blocks, threads, count) for blocks, threads, count, *_ in launches] == [
        (128, 352, 256), (128, 352, 256), (128, 352, 88)
    ]  # fmt: skip
    assert [at for *_, at, _ in launches] == [order[i:].data_ptr() for i in (0, 256, 512)]
    assert [at for *_, at in launches] == [logits[i:].data_ptr() for i in (0, 256, 512)]
    assert [kernel.defines["BLOCKS"] for kernel in Kernel.made] == [32, 64]


def test_numbers_between_two_meeting_places_keep_groups_apart():
    step = step_of(256)
    places = step._scratch["meetings"]
    assert places.numel() == 4 * Kernel.made[0].defines["APART"]
    assert not places.any()


def test_arguments_are_laid_out_as_the_header_says():
    """18 pointers, five sizes, two ints, three floats, without a gap before the end."""
    assert Arguments.layer_stride.offset == 18 * ctypes.sizeof(ctypes.c_void_p)
    assert Arguments.count.offset == 23 * 8
    assert Arguments.read_scale.offset == 23 * 8 + 4 * 4


@pytest.fixture
def fused(monkeypatch):
    """``FusedStep``, of which nothing is run."""
    for name in ("attend", "linear", "sample"):
        stub = SimpleNamespace(MAX_PARTS=128)
        monkeypatch.setitem(sys.modules, f"rxtmodel.kernels.{name}", stub)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: object())
    monkeypatch.setattr("rxtmodel.engine.fused.why_not_persistent", lambda _: None)

    @torch.inference_mode()
    def make(max_rows: int, **options: bool) -> FusedStep:
        rows, pool = DeviceRows(MODEL, max_rows, 16), MemoryPool(MODEL, max_rows)
        return FusedStep(MODEL, rows, pool, **options)

    return make


def test_many_rows_are_one_kernel_and_few_are_not(fused):
    assert [fused(256).goes_whole(count) for count in (1, 64, 65, 256)] == [
        False,
        False,
        True,
        True,
    ]
    few = fused(64)
    assert few.why_not_whole == "there are no more than 64 rows" and not few.goes_whole(64)
    parts = fused(256, persistent=False)
    assert parts.why_not_whole == "it was not asked for" and not parts.goes_whole(256)


def test_where_the_kernel_cannot_be_had_steps_go_in_parts_and_say_why(fused, monkeypatch):
    def refuse(self, *_: object) -> None:
        raise BackendUnavailable("NVRTC cannot be loaded")

    monkeypatch.setattr(Kernel, "__init__", refuse)
    step = fused(256)
    assert step.why_not_whole == "NVRTC cannot be loaded" and not step.goes_whole(256)


@pytest.mark.parametrize(("status", "value"), [(0, 0), (0, 1), (1, 1)])
def test_processes_that_share_a_device_do_not_run_two_such_kernels_at_once(
    monkeypatch, status, value
):
    """The driver says so, or, an older one, that it does not know what it is asked."""

    def answer(found, attribute, device) -> int:
        assert (attribute, device.value) == (133, 7)
        found.value = value
        return status

    def device_of(found, index) -> int:
        found.value = 7 + index
        return 0

    answers = {"cuDeviceGet": device_of, "cuDeviceGetAttribute": answer}
    monkeypatch.setattr(driver, "function", lambda name, *_: answers[name])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setitem(sys.modules, "rxtmodel.kernels.cuda", SimpleNamespace())
    reason = why_not_persistent(MODEL)
    shared = not status and bool(value)
    assert ("MPS" in (reason or "")) == shared
