"""The engine on a GPU: its kernels beside the model's own modules. Run with ``pytest -m gpu``."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from rxtmodel import ReactiveTransformer, RxTAlpha, Sampler, SamplerConfig
from rxtmodel.backends import load_kernel
from rxtmodel.engine.device import DeviceBatch
from rxtmodel.engine.fused import FusedStep
from rxtmodel.engine.memory import MemoryVersion
from rxtmodel.engine.pool import MemoryPool
from rxtmodel.engine.support import why_not, why_not_encode, why_not_fold
from rxtmodel.engine.update import Updater
from rxtmodel.layout import arrange
from rxtmodel.sampler import Rows, draw, uniform

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
WANTED = SamplerConfig(temperature=0.9, top_k=50, top_p=0.9, min_p=0.02, repetition_penalty=1.2)


def model_of(dtype: torch.dtype = torch.bfloat16, **fields: Any) -> ReactiveTransformer:
    torch.manual_seed(0)
    config = RxTAlpha(
        vocab_size=1_000, embed_dim=128, num_layers=3, num_heads=4, query_heads=4, kv_heads=2,
        ff_dim=192, encoder_ff_dim=192, num_slots=80, max_seq_len=128, variant="self-interlayer",
        experts=None,
    )  # fmt: skip
    memory = dataclasses.replace(config.memory, **{"gate": "elementwise", **fields})
    model = ReactiveTransformer(dataclasses.replace(config, memory=memory))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(0.1 * torch.randn_like(weight))
    model = arrange(model.to("cuda", dtype).eval().requires_grad_(False))
    model.use_backend("triton")
    return model


def memories_of(model: ReactiveTransformer, count: int) -> list[MemoryVersion]:
    generator = torch.Generator("cuda").manual_seed(1)
    shape = model.config.memory_shape
    return [
        MemoryVersion(torch.randn(shape, device="cuda", generator=generator)) for _ in range(count)
    ]


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


def test_a_row_draws_the_same_whatever_the_other_rows_of_its_bucket_are():
    model = model_of()
    some = queries(model, 12, WANTED)
    said = []
    for others in (some[1:], some[1:][::-1]):
        batch = DeviceBatch(model, 12, 80)
        rows = batch.add_all([some[0], *others])
        said.append([batch.step(rows)[0] for _ in range(30)])
    assert said[0] == said[1]


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
    logits, out = 4 * torch.randn(32, 1_000, device="cuda"), torch.zeros_like(order)
    torch.cuda.synchronize()
    expected = []
    for row, (_, _, sampler) in zip(range(32), some, strict=True):
        line = (logits[row] + batch.rows.banned).cpu()
        expected.append(Sampler(sampler.config, sampler.seed, seen=sampler.seen).draw(line))
    with torch.inference_mode():
        batch.launches.fused.draw(logits, order, out)
    assert out.tolist() == expected


@pytest.mark.parametrize("shape", [(3, 4, 2, 37, 70), (2, 8, 8, 5, 16), (1, 4, 1, 130, 257)])
def test_padded_rows_attend_to_what_exists(shape):
    rows, heads, groups, length, keys = shape
    generator = torch.Generator("cuda").manual_seed(4)

    def normal(*size):
        return torch.randn(*size, device="cuda", generator=generator).half()

    q, k, v = normal(rows, heads, length, 32), *(normal(rows, groups, keys, 32) for _ in "kv")
    mask = torch.arange(keys, device="cuda") < torch.tensor(
        [[9 + 5 * i] for i in range(rows)], device="cuda"
    )
    mask = mask[:, None, None]
    with torch.inference_mode():
        found = load_kernel("triton")(q, k, v, mask=mask)
        expected = load_kernel("eager")(q.float(), k.float(), v.float(), mask=mask)
    torch.testing.assert_close(found.float(), expected, rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize("shape", [(3, 4, 2, 37, 70, 32), (2, 8, 8, 130, 130, 16)])
def test_sequences_attend_to_their_first_keys(shape):
    from rxtmodel.kernels.sequences import attend_first

    rows, heads, groups, length, keys, width = shape
    q, k, v = heads_of(rows, heads, groups, length, keys, width)
    counts = torch.tensor([keys, 9, 0][:rows], device="cuda", dtype=torch.int32)
    mask = (torch.arange(keys, device="cuda") < counts[:, None])[:, None, None]
    eager = load_kernel("eager")
    with torch.inference_mode():
        found, every = attend_first(q, k, v, counts), attend_first(q, k, v)
        expected = eager(q.float(), k.float(), v.float(), mask=mask).nan_to_num(0.0)
        torch.testing.assert_close(found.float(), expected, rtol=3e-3, atol=3e-3)
        expected = eager(q.float(), k.float(), v.float())
    torch.testing.assert_close(every.float(), expected, rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize(("heads", "length", "width"), [(4, 130, 16), (2, 64, 32), (8, 7, 16)])
def test_narrow_heads_attend_causally(heads, length, width):
    q, k, v = heads_of(2, heads, 2, length, length, width)
    with torch.inference_mode():
        found = load_kernel("triton")(q, k, v, causal=True)
        expected = load_kernel("eager")(q.float(), k.float(), v.float(), causal=True)
    torch.testing.assert_close(found.float(), expected, rtol=3e-3, atol=3e-3)


def heads_of(rows, heads, groups, length, keys, width) -> list[torch.Tensor]:
    """Queries, keys and values as a projection leaves them: heads of a token side by side."""
    generator = torch.Generator("cuda").manual_seed(4)
    sizes = ((length, heads), (keys, groups), (keys, groups))
    return [
        torch.randn(rows, *size, width, device="cuda", generator=generator).half().transpose(1, 2)
        for size in sizes
    ]


@pytest.mark.parametrize(("count", "inner", "width"), [(300, 128, 192), (5, 96, 200)])
def test_gate_and_up_are_one_product(count, inner, width):
    from rxtmodel.kernels.wide import gate_up

    generator = torch.Generator("cuda").manual_seed(6)
    x, weight, bias = (
        torch.randn(*size, device="cuda", generator=generator).half() / 4
        for size in ((count, inner), (2 * width, inner), (2 * width,))
    )
    gate, up = (x.float() @ weight.float().T + bias.float()).chunk(2, dim=-1)
    expected = torch.nn.functional.silu(gate) * up
    torch.testing.assert_close(gate_up(x, weight, bias).float(), expected, rtol=3e-3, atol=3e-3)


INTERACTIONS = [list(range(20, 20 + n)) for n in (60, 31, 2, 90, 44)]
WAYS = {
    "kernels": {},
    "modules": {"fused": False},
    "compiled": {"fused": False, "compiled": True},
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what the compiler imports
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_updates_together_are_updates_alone(way):
    model = model_of()
    batch = DeviceBatch(model, 4, 64)
    updater = Updater(model, batch.pool, batch.graphs, **WAYS[way])
    memories = memories_of(model, 5)
    found = updater.attend(memories, updater.encode(INTERACTIONS))
    torch.cuda.synchronize()
    with torch.inference_mode():
        for memory, ids, new in zip(memories, INTERACTIONS, found, strict=True):
            encoded = model.encode(torch.tensor([ids], device="cuda"))
            alone = model.attend(memory.tensor[:, None], encoded)[:, 0]
            assert ((new.tensor - alone).norm() / alone.norm()).item() < 1e-2
            assert new.tensor.dtype == torch.float32


@pytest.mark.parametrize(
    "memory",
    [
        {"gate": "linear", "gate_activation": "tanh", "gate_init": 0.7, "slot_ids": True},
        {"gate": "linear", "gate_per_slot": False},
        {"gate": "static", "variant": "interlayer", "gate_activation": "tanh", "gate_init": 0.7},
        {"gate": "elementwise", "variant": "grouped-self-interlayer", "num_groups": 3},
        {"gate": "elementwise", "gate_per_slot": False, "variant": "self"},
        {"gate": "replace", "variant": "self", "gate_self_step": False},
        {"gate": "none", "variant": "simple", "slot_ids": True},
    ],
    ids=lambda memory: ", ".join(map(str, memory.values())),
)
def test_updates_by_kernels_are_those_of_the_modules(memory):
    model = model_of(torch.float16, **memory)
    assert why_not_fold(model) is None
    assert why_not_encode(model) is None
    found = []
    for fused in (False, True):
        pool = MemoryPool(model, 20)
        updater = Updater(model, pool, fused=fused)
        memories = memories_of(model, 5)
        for _ in range(2):
            memories = updater.attend(memories, updater.encode(INTERACTIONS))
        slots = [pool.find(version) for version in memories]
        torch.cuda.synchronize()
        read = [part[slots].float() for layer in pool.layers for part in layer]
        found.append((torch.stack([version.tensor for version in memories]), torch.stack(read)))
    for modules, kernels in zip(*found, strict=True):
        assert ((kernels - modules).norm() / modules.norm()).item() < 1e-2


def test_a_memory_becomes_the_same_whatever_is_updated_beside_it():
    model = model_of()
    updater = Updater(model, MemoryPool(model, 20))
    memories = memories_of(model, 5)
    kept, beside = [memory.tensor.clone() for memory in memories], []
    for order in ([0, 1, 2, 3, 4], [3, 0, 4, 2, 1], [0, 2, 3, 3, 3]):
        some = [memories[i] for i in order]
        found = updater.attend(some, updater.encode([INTERACTIONS[i] for i in order]))
        torch.cuda.synchronize()
        beside.append(found[order.index(0)].tensor)
    assert all(torch.equal(here, beside[0]) for here in beside)
    for memory, value in zip(memories, kept, strict=True):
        assert torch.equal(memory.tensor, value), "a version never changes"


def test_the_sampler_in_torch_draws_the_same_on_both_devices():
    torch.manual_seed(5)
    logits = torch.randn(6, 500)
    rows = Rows(temperature_B=torch.full((6,), 0.8), top_p_B=torch.full((6,), 0.9))
    numbers = uniform(torch.arange(6), torch.full((6,), 3))
    on_gpu = Rows(*(part if part is None else part.cuda() for part in rows))
    found = draw(logits.cuda(), on_gpu, numbers.cuda())
    assert found.tolist() == draw(logits, rows, numbers).tolist()
