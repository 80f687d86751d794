"""Kernels of the GPU's engine on a CPU, line by line in Triton's interpreter, beside the modules.

What only a device has stays for ``pytest -m gpu``: kernels that overlap, graphs, tensor maps.
"""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch

from rxtmodel import ReactiveTransformer, RxTAlpha, SamplerConfig
from rxtmodel.backends import load_kernel
from rxtmodel.engine.fused import FusedStep
from rxtmodel.engine.fused_fold import FusedFold
from rxtmodel.engine.fused_layers import FusedLayers
from rxtmodel.engine.fused_read import FusedRead
from rxtmodel.engine.handover import Outbox
from rxtmodel.engine.memory import MemoryVersion
from rxtmodel.engine.module_fold import ModuleFold
from rxtmodel.engine.plain import PlainStep
from rxtmodel.engine.pool import MemoryPool
from rxtmodel.engine.rows import DRAWN, MIN_P, PENALISED, TOP_K, TOP_P, DeviceRows
from rxtmodel.engine.update import Updater
from rxtmodel.rope import rope_table, rotate

pytest.importorskip("triton")
pytestmark = [
    pytest.mark.skipif("TRITON_INTERPRET" not in os.environ, reason="here they run on a device"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # numbers beyond what a type holds
]
ROWS, LENGTH = 20, 32


def model_of(scale: float = 3.0, **memory: object) -> ReactiveTransformer:
    torch.manual_seed(0)
    config = RxTAlpha(
        vocab_size=300, embed_dim=64, num_layers=3, num_heads=4, query_heads=4, kv_heads=2,
        ff_dim=96, encoder_ff_dim=96, num_slots=20, max_seq_len=LENGTH, experts=None,
        variant="self-interlayer",
    )  # fmt: skip
    chosen = dataclasses.replace(config.memory, **{"gate": "elementwise", **memory})
    model = ReactiveTransformer(dataclasses.replace(config, memory=chosen))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale) if weight.dim() > 1 else weight.add_(0.1 * torch.randn_like(weight))
    return model.eval().requires_grad_(False)


MODEL = model_of()


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.fixture
def place() -> tuple[DeviceRows, MemoryPool]:
    """Rows, and a pool in which some memories stand."""
    rows, pool = DeviceRows(MODEL, ROWS, LENGTH), MemoryPool(MODEL, 6)
    with torch.inference_mode():
        for slot in range(4):
            memory = torch.randn(MODEL.config.memory_shape)
            pool.write(torch.tensor([slot]), MODEL.project_memory(memory[:, None]))
    return rows, pool


@pytest.mark.parametrize(("count", "length"), [(1, 16), (1, 9), (3, 12), (16, 20)])
@torch.inference_mode()
def test_queries_leave_the_keys_and_values_that_the_modules_leave(place, count, length):
    rows, pool = place
    ids = torch.randint(11, 300, (count, length))
    given = torch.zeros(count, 8, dtype=torch.int64)  # of which the engine gives columns
    given[:, 0], given[:, 3] = torch.randperm(ROWS)[:count], torch.arange(count) % 4
    index, slots = given[:, 0], given[:, 3]
    PlainStep(MODEL, rows, pool).read(ids, index, slots)
    expected = rows.k.clone(), rows.v.clone()
    rows.k.zero_(), rows.v.zero_()
    FusedRead(FusedLayers(MODEL, pdl=False), rows, pool)(ids, index, slots)
    for found, part in zip((rows.k, rows.v), expected, strict=True):
        assert apart(found, part) < 1e-4


@pytest.mark.parametrize("count", [1, 3, 20])
@torch.inference_mode()
def test_steps_give_the_logits_that_the_modules_give(place, count):
    rows, pool = place
    rows.pos.copy_(torch.arange(ROWS + 1) % 9)
    rows.token.copy_(torch.randint(11, 300, (ROWS + 1,)))
    rows.slot.copy_(torch.arange(ROWS + 1) % 4)
    rows.k.normal_(), rows.v.normal_()
    before = rows.k.clone(), rows.v.clone()
    order = torch.randperm(ROWS)[:count].int()
    expected = PlainStep(MODEL, rows, pool).logits(order)
    after = rows.k.clone()
    rows.k.copy_(before[0]), rows.v.copy_(before[1])
    found = FusedStep(MODEL, rows, pool, pdl=False, parts=1).logits(order)
    assert apart(found, expected) < 1e-4
    assert apart(rows.k, after) < 1e-4


@pytest.mark.parametrize(
    "flags", [0, DRAWN, DRAWN | TOP_K, DRAWN | TOP_P, DRAWN | MIN_P | PENALISED], ids=bin
)
@pytest.mark.parametrize("tied", [False, True], ids=["all apart", "many tie"])
@torch.inference_mode()
def test_tokens_are_drawn_as_plain_tensors_draw_them(place, flags, tied):
    rows, pool = place
    order = torch.tensor([3, 0, 7, ROWS], dtype=torch.int32)
    rows.flags.fill_(flags)
    rows.top_k.fill_(5 if flags & TOP_K else 0)
    config = SamplerConfig()
    rows.numbers.copy_(torch.tensor([0.9 if flags & DRAWN else 0.0, config.top_p, 0.0, 1.0]))
    rows.numbers[:, 1] = 0.7 if flags & TOP_P else 1.0
    rows.numbers[:, 2] = 0.05 if flags & MIN_P else 0.0
    rows.numbers[:, 3] = 1.3 if flags & PENALISED else 1.0
    rows.seed.copy_(torch.arange(ROWS + 1) * 7_919)
    rows.seen[:, 40:60] = 1
    step = FusedStep(MODEL, rows, pool, pdl=False, parts=1)
    logits = 3 * torch.randn(4, 300)
    logits = logits.round() if tied else logits
    found, expected = (Outbox(4, torch.device("cpu"), None) for _ in range(2))
    for _ in range(3):
        kept = [part.clone() for part in (rows.token, rows.pos, rows.drawn, rows.seen)]
        rows.draw(logits, order, expected.drawn)
        after = [part.clone() for part in (rows.token, rows.pos, rows.drawn, rows.seen)]
        for part, value in zip((rows.token, rows.pos, rows.drawn, rows.seen), kept, strict=True):
            part.copy_(value)
        step.draw(logits.clone(), order, found.drawn)
        assert found.fetch().read() == expected.fetch().read()
        assert rows.pos.tolist() == after[1].tolist(), "nobody's row stays where it is"
        assert rows.drawn[order[:3].long()].tolist() == after[2][order[:3].long()].tolist()
        if flags & PENALISED:  # else nobody looks
            assert torch.equal(rows.seen[:ROWS], after[3][:ROWS])


@pytest.mark.parametrize(
    "memory",
    [
        {},
        {"gate": "linear", "gate_activation": "tanh", "gate_init": 0.7, "slot_ids": True},
        {"gate": "static", "variant": "interlayer", "gate_activation": "tanh", "gate_init": 0.7},
        {"variant": "grouped-self-interlayer", "num_groups": 3},
        {"gate_per_slot": False, "variant": "self"},
        {"gate": "replace", "variant": "self", "gate_self_step": False},
        {"gate": "none", "variant": "simple", "slot_ids": True},
    ],
    ids=lambda memory: ", ".join(map(str, memory.values())) or "self-interlayer",
)
@torch.inference_mode()
def test_updates_are_those_of_the_modules(memory):
    model = model_of(1.0, **memory).half()  # places are counted in elements of two bytes
    ids = [list(range(20, 20 + length)) for length in (31, 2, 17)]
    memories = [MemoryVersion(torch.randn(model.config.memory_shape)) for _ in ids]
    found = []
    for kind in (ModuleFold, FusedFold):
        pool = MemoryPool(model, 8)
        updater = Updater(model, pool, fused=False)
        updater.fold = kind(model, pool, None)
        new = updater.attend(memories, updater.encode(ids))
        slots = [pool.find(version) for version in new]
        read = [part[slots] for layer in pool.layers for part in layer]
        found.append((torch.stack([version.tensor for version in new]), torch.stack(read)))
    for modules, kernels in zip(*found, strict=True):
        assert apart(kernels, modules) < 3e-3


@pytest.mark.parametrize("shift", [0.0, -300.0, 300.0], ids=["as they come", "low", "high"])
@pytest.mark.parametrize("spread", [1.0, 40.0], ids=["near each other", "far apart"])
def test_scores_may_be_of_any_size(shift, spread):
    from rxtmodel.kernels.sequences import attend_first

    q, k, v = (torch.randn(2, n, heads, 16).transpose(1, 2)
               for n, heads in ((70, 4), (50, 2), (50, 2)))  # fmt: skip
    k = k * spread
    q[..., 0], k[..., 0] = 16**0.5, shift  # which every score is moved by
    q[:, :, :40, 0] = 0.0  # some rows of a tile need what others do not
    counts = torch.tensor([50, 33], dtype=torch.int32)
    mask = (torch.arange(50) < counts[:, None])[:, None, None]
    expected = load_kernel("eager")(q.double(), k.double(), v.double(), mask=mask)
    found = attend_first(q, k, v, counts)
    assert apart(found, expected) < 1e-4


def test_keys_may_lie_in_rows_of_a_slab():
    from rxtmodel.kernels.sequences import attend_causal, attend_first

    q = torch.randn(3, 20, 4, 16).transpose(1, 2)
    k, v = torch.randn(2, 5, 2, 32, 16).unbind()
    index = torch.tensor([4, 0, 2])
    eager = load_kernel("eager")
    found = attend_causal(q, k[:, :, :20], v[:, :, :20], index)
    expected = eager(q, k[index, :, :20], v[index, :, :20], causal=True)
    assert apart(found, expected) < 1e-4
    found, expected = attend_first(q, k, v, None, index), eager(q, k[index], v[index])
    assert apart(found, expected) < 1e-4


@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
@pytest.mark.parametrize("heads", [1, 3])
def test_positions_turn_the_first_heads_of_every_row(heads, in_place):
    from rxtmodel.kernels.encode import turn

    batch, length, head = 2, 5, 12
    table = rope_table(9, head)
    x = torch.randn(batch * length, heads * head + 8)
    expected = rotate(x[:, : heads * head].view(batch, length, heads, head).transpose(1, 2),
                      table[:, :length]).transpose(1, 2).reshape(batch * length, -1)  # fmt: skip
    given, out = x.clone(), x if in_place else torch.empty_like(x[:, : heads * head])
    turn(x, table, out, length, heads * head, head)
    torch.testing.assert_close(out[:, : heads * head], expected)
    assert torch.equal(x[:, heads * head :], given[:, heads * head :])
    assert in_place or torch.equal(x, given)
