"""The engine on a GPU: its kernels beside the model's own modules. Run with ``pytest -m gpu``."""

from __future__ import annotations

import threading

import pytest
import torch

from rxtmodel import ReactiveTransformer, Sampler, SamplerConfig
from rxtmodel.engine.device import DeviceBatch
from rxtmodel.engine.driver import Queue
from rxtmodel.engine.fused import FusedStep
from rxtmodel.engine.fused_layers import FusedLayers
from rxtmodel.engine.fused_read import FusedRead
from rxtmodel.engine.gpu import DeviceEngine
from rxtmodel.engine.graphs import Graphs, put
from rxtmodel.engine.handover import Inbox, Outbox
from rxtmodel.engine.memory import MemoryVersion
from rxtmodel.engine.support import why_not, why_not_persistent
from rxtmodel.sampler import Rows, draw, uniform

from .gpu import memories_of, model_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
WANTED = SamplerConfig(temperature=0.9, top_k=50, top_p=0.9, min_p=0.02, repetition_penalty=1.2)


def queries(model: ReactiveTransformer, count: int, config: SamplerConfig) -> list:
    memories = memories_of(model, 3)
    generator = torch.Generator().manual_seed(2)
    lengths = torch.randint(1, 40, (count,), generator=generator).tolist()
    ids = [torch.randint(11, 1_000, (n,), generator=generator).tolist() for n in lengths]
    return [(ids[i], memories[i % 3], Sampler(config, i, seen=ids[i])) for i in range(count)]


def added(batch: DeviceBatch, some: list) -> list:
    return [row for i in range(0, len(some), 16) for row in batch.add_all(some[i : i + 16])]


@pytest.mark.parametrize("count", [1, 2, 16, 40, 100, 150])
@pytest.mark.parametrize("pdl", [False, True], ids=["one after another", "overlapping"])
def test_fused_steps_compute_what_the_modules_compute(count, pdl):
    model = model_of(torch.float16)
    assert why_not(model) is None
    batch = DeviceBatch(model, count, 64, lookahead=False)
    batch.launches.fused = FusedStep(model, batch.rows, batch.pool, pdl=pdl)
    rows = added(batch, queries(model, count, SamplerConfig()))
    order = torch.tensor([row.index for row in rows], device="cuda", dtype=torch.int32)
    with torch.inference_mode():
        fused, plain = (
            batch.launches.fused.logits(order).clone(),
            batch.launches.plain.logits(order).float(),
        )
    assert ((fused - plain).norm() / plain.norm()).item() < 2e-3


@pytest.mark.parametrize(("count", "length"), [(1, 16), (3, 32), (16, 64)])
@pytest.mark.parametrize("pdl", [False, True], ids=["one after another", "overlapping"])
@torch.inference_mode()
def test_queries_read_by_kernels_leave_what_the_modules_leave(count, length, pdl):
    model = model_of(torch.float16)
    batch = DeviceBatch(model, 20, 64)
    memories = memories_of(model, 3)
    given = torch.zeros(count, 8, device="cuda", dtype=torch.int64)
    for place in range(count):
        given[place, 3] = batch._slot_of(memories[place % 3])
    generator = torch.Generator("cuda").manual_seed(8)
    ids = torch.randint(11, 1_000, (count, length), device="cuda", generator=generator)
    given[:, 0] = torch.randperm(20, device="cuda", generator=generator)[:count]
    index, slots, left = given[:, 0], given[:, 3], []  # columns, as the engine gives them
    torch.cuda.synchronize()
    for read in (
        FusedRead(FusedLayers(model, pdl=pdl), batch.rows, batch.pool), batch.launches.plain.read,
    ):  # fmt: skip
        batch.rows.k.zero_(), batch.rows.v.zero_()
        read(ids, index, slots)
        left.append([part.float().clone() for part in (batch.rows.k, batch.rows.v)])
    for fused, plain in zip(*left, strict=True):
        assert ((fused - plain).norm() / plain.norm()).item() < 2e-3
        assert plain.norm() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("count", "ff_dim"), [(65, 192), (100, 192), (256, 192), (300, 192), (256, 1088), (256, 1280)]
)
def test_a_step_as_one_kernel_computes_what_a_step_in_parts_computes(count, ff_dim, dtype):
    model = model_of(dtype, ff_dim=ff_dim)
    assert why_not_persistent(model) is None
    batch = DeviceBatch(model, count, 64, lookahead=False)
    rows = added(batch, queries(model, count, SamplerConfig()))
    order = torch.tensor([row.index for row in rows], device="cuda", dtype=torch.int32)
    torch.cuda.synchronize()
    parts = FusedStep(model, batch.rows, batch.pool, persistent=False)
    with torch.inference_mode():
        whole, expected = batch.launches.fused.logits(order).clone(), parts.logits(order)
    assert ((whole - expected).norm() / expected.norm()).item() < (
        2e-3 if dtype == torch.float16 else 1e-2
    )


def test_a_step_as_one_kernel_has_the_same_bits_every_time():
    """Blocks wait for each other, and copies run ahead of them: no order may show."""
    model = model_of(num_slots=600)
    batch = DeviceBatch(model, 256, 64, lookahead=False)
    rows = added(batch, queries(model, 256, SamplerConfig()))
    order = torch.tensor([row.index for row in rows], device="cuda", dtype=torch.int32)
    torch.cuda.synchronize()
    with torch.inference_mode():
        first = batch.launches.fused.logits(order).clone()
        different = sum(
            not torch.equal(first, batch.launches.fused.logits(order)) for _ in range(300)
        )
    assert different == 0


@pytest.mark.parametrize("count", [12, 100])
def test_a_row_draws_the_same_whatever_the_other_rows_of_its_bucket_are(count):
    model = model_of()
    some = queries(model, count, WANTED)
    said = []
    for others in (some[1:], some[1:][::-1]):
        batch = DeviceBatch(model, count, 80)
        rows = added(batch, [some[0], *others])
        said.append([batch.step(rows)[0] for _ in range(30)])
    assert said[0] == said[1]


def test_steps_of_two_batches_that_each_want_the_whole_device_both_end():
    model = model_of()
    batches = [DeviceBatch(model, 100, 64) for _ in range(2)]
    rows = [added(batch, queries(model, 100, SamplerConfig())) for batch in batches]
    said = [[], []]

    def steps(which: int) -> None:
        said[which] = [batches[which].step(rows[which]) for _ in range(20)]

    threads = [threading.Thread(target=steps, args=(which,), daemon=True) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert said[0] == said[1]


@pytest.mark.parametrize("max_rows", [8, 130])
def test_what_fills_up_a_batch_stays_where_it_is(max_rows):
    """Else its keys would be written behind its row, where another layer's first row lies."""
    model = model_of()
    batch = DeviceBatch(model, max_rows, 48)
    rows = added(batch, queries(model, max_rows // 2 + 1, WANTED))
    for _ in range(60):
        for row in [row for row in rows if batch.room(row) < 2]:
            batch.remove(rows.pop(rows.index(row)))
            rows += batch.add_all(queries(model, 1, WANTED))
        batch.step(rows)
    assert batch.rows.pos[batch.rows.nobody].item() == 0


def test_the_step_ahead_changes_nothing():
    model = model_of()
    said = []
    for lookahead in (False, True):
        batch = DeviceBatch(model, 8, 80, lookahead=lookahead)
        rows = batch.add_all(queries(model, 8, WANTED))
        tokens = [batch.step(rows) for _ in range(10)]
        batch.remove(rows.pop(3))
        rows += batch.add_all(queries(model, 1, WANTED))
        said.append(tokens + [batch.step(rows) for _ in range(10)])
    assert said[0] == said[1]


def test_the_kernel_that_draws_is_the_sampler():
    model = model_of()
    batch = DeviceBatch(model, 32, 80)
    configs = [
        SamplerConfig(),
        WANTED,
        SamplerConfig(temperature=1.3),
        SamplerConfig(temperature=0.7, top_p=0.5, logit_bias={20: 3.0}),
        SamplerConfig(repetition_penalty=2.0),
    ]
    some = [
        (ids, memory, Sampler(configs[i % 5], i, seen=ids))
        for i, (ids, memory, _) in enumerate(queries(model, 32, WANTED))
    ]
    rows = added(batch, some)
    order = torch.tensor([row.index for row in rows], device="cuda", dtype=torch.int32)
    torch.manual_seed(3)
    logits, out = (
        4 * torch.randn(32, 1_000, device="cuda"),
        Outbox(32, order.device, batch.graphs.queue),
    )
    torch.cuda.synchronize()
    expected = []
    for row, (_, _, sampler) in zip(range(32), some, strict=True):
        line = (logits[row] + batch.rows.banned).cpu()
        expected.append(Sampler(sampler.config, sampler.seed, seen=sampler.seen).draw(line))
    with torch.inference_mode():
        batch.launches.fused.draw(logits, order, out.drawn)
    torch.cuda.synchronize()
    assert out.fetch().read() == expected


def test_the_sampler_in_torch_draws_the_same_on_both_devices():
    torch.manual_seed(5)
    logits = torch.randn(6, 500)
    rows = Rows(temperature_B=torch.full((6,), 0.8), top_p_B=torch.full((6,), 0.9))
    numbers = uniform(torch.arange(6), torch.full((6,), 3))
    on_gpu = Rows(*(part if part is None else part.cuda() for part in rows))
    found = draw(logits.cuda(), on_gpu, numbers.cuda())
    assert found.tolist() == draw(logits, rows, numbers).tolist()


def test_after_the_sizes_were_prepared_nothing_is_recorded(monkeypatch):
    model = model_of()
    engine = DeviceEngine(model, 5, 64)
    engine.warm_up()
    monkeypatch.setattr(Graphs, "_record", None)
    some = queries(model, 5, SamplerConfig())
    rows = engine.add_all(some[:1]) + engine.add_all(some[1:])
    said = [engine.step(rows[n:]) for n in range(4)]
    for row in rows:
        engine.remove(row)
    for count in (1, 2, 3, 5):
        memories = [memory for _, memory, _ in some[:count]]
        engine.attend(memories, engine.encode([ids for ids, _, _ in some[:count]]))
    torch.cuda.synchronize()
    assert all(len(tokens) == 5 - n for n, tokens in enumerate(said))


def handing_over(count: int) -> tuple[Queue, torch.Tensor, Inbox, Outbox]:
    queue = Queue(torch.cuda.Stream())
    tensor = torch.zeros(count, dtype=torch.int32, device="cuda")
    outbox = Outbox(count, tensor.device, queue)
    torch.cuda.synchronize()
    return queue, tensor, Inbox(tensor, queue), outbox


def write(queue: Queue, tensor: torch.Tensor, outbox: Outbox) -> None:
    """As the last kernel of a step does."""
    places, turns = outbox.drawn
    with torch.cuda.stream(queue.stream):
        places[turns.long(), torch.arange(len(turns), device="cuda")] = tensor
        turns.add_(1).remainder_(len(places))


def test_what_is_handed_over_comes_in_order_and_is_read_at_any_time():
    """Memory of the host is used again and again while the device is far behind."""
    queue, tensor, inbox, outbox = handing_over(64)
    letters = {}
    with torch.cuda.stream(queue.stream):
        torch.cuda._sleep(10**8)
    for number in range(60):
        outbox.make_room()
        put(inbox.open(), 0, "i", [number] * 64)
        inbox.send()
        write(queue, tensor, outbox)
        letters[number] = outbox.fetch()
        if number % 3 == 0:
            del letters[number]  # nobody reads it, and its memory is not free yet
    for number in sorted(letters, reverse=True):
        assert letters[number].read() == [number] * 64


def test_memory_of_the_host_is_not_let_go_while_it_is_written_to():
    """A write to memory that is gone would be an error that ends the process' work there."""
    for _ in range(8):
        queue, tensor, _, outbox = handing_over(1 << 16)
        with torch.cuda.stream(queue.stream):
            torch.cuda._sleep(10**8)
        write(queue, tensor, outbox)
        letter = outbox.fetch()
        del letter, outbox  # nobody reads it any more
    torch.cuda.synchronize()
    assert not tensor.any()


def test_a_queue_waits_for_another_one():
    one, tensor, inbox, _ = handing_over(1)
    two, _, _, outbox = handing_over(1)
    for number in range(1, 20):
        with torch.cuda.stream(one.stream):
            torch.cuda._sleep(10**6)
        put(inbox.open(), 0, "i", [number])
        inbox.send()
        two.follow(one)
        write(two, tensor, outbox)
        letter = outbox.fetch()
        one.follow(two)  # or the next number could come before this one was fetched
        assert letter.read() == [number]


def test_a_thread_that_has_never_called_the_device_can_hand_over():
    queue, tensor, inbox, outbox = handing_over(2)
    found = []

    def work() -> None:
        put(inbox.open(), 0, "i", (3, 4))
        inbox.send()
        write(queue, tensor, outbox)
        found.extend(outbox.fetch().read())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [3, 4]


def test_a_memory_comes_to_the_host_as_it_is():
    tensor = torch.randn(3, 40, 16, device="cuda")
    host = MemoryVersion(tensor).on_host()
    assert host.device.type == "cpu" and torch.equal(host, tensor.cpu())
