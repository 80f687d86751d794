"""Writing to memory and reading from it, in every variant, against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rxtmodel import MemoryConfig

from .memory_reference import MemoryReference
from .tiny import EVERY_OPTION, LAYERS, VARIANTS, random_ids, random_memory, tiny_model

PUBLISHED = [v for v in VARIANTS if v != "delta"]
GATES = ("none", "static", "elementwise", "linear", "channel")


def check_write(model, *, masked: bool = False) -> None:
    """``attend`` on a batch equals the loops on every row; masked tokens are not there at all."""
    model = model.double()
    memory, ids = random_memory(model, 2), random_ids(2, 5)
    lengths = [3, 5] if masked else [5, 5]
    mask = torch.arange(5)[None] < torch.tensor(lengths)[:, None] if masked else None
    with torch.no_grad():
        encoded = model.encode(ids, mask)
        found = model.attend(memory, encoded, mask)
    loops = MemoryReference(model)
    for row, length in enumerate(lengths):
        tokens = loops.encode(ids[row, :length].numpy())
        np.testing.assert_allclose(encoded[:, row, :length], tokens, atol=1e-10)
        expected = loops.attend(memory[:, row].numpy(), tokens)
        np.testing.assert_allclose(found[:, row], expected, atol=1e-10)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_write_follows_its_formula(double, variant, masked):
    check_write(tiny_model(variant), masked=masked)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("gate", GATES)
def test_every_gate_works_in_a_write(double, gate, activation):
    settings = {"gate": gate, "gate_activation": activation}
    check_write(tiny_model("self-interlayer", memory=settings))


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("variant", PUBLISHED)
def test_slot_identities_and_a_null_key_work_in_a_write(double, variant, masked):
    check_write(tiny_model(variant, memory=EVERY_OPTION), masked=masked)


@pytest.mark.parametrize("options", [{}, EVERY_OPTION], ids=["plain", "options"])
@pytest.mark.parametrize("variant", ["interlayer", "delta"])
def test_a_read_follows_its_formula(double, variant, options):
    options = options if variant != "delta" else {}
    model = tiny_model(variant, memory=options).double()
    loops, x = MemoryReference(model), torch.randn(2, 4, 8, dtype=torch.float64)
    memory, layer = random_memory(model, 2), model.decoder[1].memory_read
    with torch.no_grad():
        found = layer(x, layer.project(memory[1]), rope=model.rope.double()[:, :4])
    for row in range(2):
        name = "decoder.1.memory_read"
        expected = loops.memory_read(name, x[row].numpy(), memory[1, row].numpy())
        np.testing.assert_allclose(found[row], expected, atol=1e-7)


def influence(variant: str, **settings) -> np.ndarray:
    """[changed layer, layer]: whether a change of one layer's memory reaches another's update."""
    model = tiny_model(variant, **settings)
    memory, encoded = random_memory(model, 1), torch.randn(LAYERS, 1, 3, 8)
    with torch.no_grad():
        before = model.attend(memory, encoded)
        out = np.zeros((LAYERS, LAYERS), bool)
        for layer in range(LAYERS):
            changed = memory.clone()
            changed[layer, 0, 0] += 1
            moved = (model.attend(changed, encoded) - before).abs().amax(dim=(1, 2, 3))
            out[layer] = (moved > 1e-7).numpy()
    return out


@pytest.mark.parametrize("variant", ["simple", "self", "delta"])
def test_layers_are_separate_where_nothing_joins_them(variant):
    assert (influence(variant) == np.eye(LAYERS, dtype=bool)).all()


@pytest.mark.parametrize("variant", ["interlayer", "self-interlayer"])
def test_interlayer_attention_joins_all_layers(variant):
    assert influence(variant).all()


def test_grouped_attention_joins_the_layers_of_a_group():
    expected = np.kron(np.eye(2), np.ones((2, 2))).astype(bool)
    assert (influence("grouped-self-interlayer") == expected).all()


@pytest.mark.parametrize("variant", ["interlayer", "self-interlayer"])
def test_groups_are_for_the_grouped_variant_only(variant):
    assert influence(variant, memory={"num_groups": 2}).all()
    assert MemoryConfig(variant=variant, num_groups=2).num_groups == 2


def test_without_slot_identities_equal_slots_stay_equal():
    """Nothing else tells the slots of a layer apart."""
    for slot_ids in (False, True):
        settings = {"slot_ids": slot_ids, "gate": "none"}
        model = tiny_model("simple", memory=settings)
        memory = random_memory(model, 1)[:, :, :1].expand(-1, -1, 3, -1)
        with torch.no_grad():
            new = model.attend(memory, torch.randn(LAYERS, 1, 4, 8))
        assert torch.allclose(new[:, :, 0], new[:, :, 1], atol=1e-6) == (not slot_ids)
