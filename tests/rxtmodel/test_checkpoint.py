"""Model folders: exact round trips, and errors that name what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from rxtmodel import CheckpointError, ReactiveTransformer, load_model, save_model
from rxtmodel.checkpoint import CONFIG_FILE, WEIGHTS_FILE, weights_fingerprint

from .tiny import EVERY_OPTION, VARIANTS, random_ids, random_memory, tiny_model


@pytest.fixture
def folder(tmp_path):
    save_model(tiny_model("interlayer"), tmp_path / "model")
    return tmp_path / "model"


def rewrite_weights(folder, change) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    change(weights)
    save_file(weights, folder / WEIGHTS_FILE)


def rewrite_config(folder, change) -> None:
    data = json.loads((folder / CONFIG_FILE).read_text())
    change(data)
    (folder / CONFIG_FILE).write_text(json.dumps(data))


@pytest.mark.parametrize("options", [{}, EVERY_OPTION], ids=["plain", "options"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_comes_back_to_the_last_bit(tmp_path, variant, options):
    model = tiny_model(variant, memory=options, tie_head=False).requires_grad_(False)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(v, expected[n]) for n, v in loaded.state_dict().items())
    ids, memory = random_ids(2, 5), random_memory(model, 2)
    assert torch.equal(loaded(ids, memory), model(ids, memory))
    encoded = model.encode(ids)
    assert torch.equal(loaded.attend(memory, encoded), model.attend(memory, encoded))


def test_a_loaded_model_is_for_use_not_for_training(folder):
    loaded = load_model(folder)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_weights_may_be_kept_in_half_the_space(tmp_path):
    model = tiny_model()
    save_model(model, tmp_path, dtype=torch.bfloat16)
    loaded = load_model(tmp_path).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded[name], value.bfloat16().float())


def test_loading_leaves_the_saved_files_as_they_were(folder):
    before = [(folder / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)]
    loaded = load_model(folder)
    with torch.no_grad():
        loaded.embedding.weight.zero_()
    assert [(folder / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)] == before


def test_a_model_outlives_its_files(folder):
    loaded = load_model(folder)
    before = weights_fingerprint(loaded)
    with open(folder / WEIGHTS_FILE, "r+b") as file:  # in place, as `cp` does
        file.write(bytes((folder / WEIGHTS_FILE).stat().st_size))
    assert weights_fingerprint(loaded) == before


def test_loading_draws_no_random_numbers(folder):
    before = torch.get_rng_state()
    load_model(folder)
    assert torch.equal(torch.get_rng_state(), before)


LIGHT = """
import sys
from rxtmodel import load_model
load_model(sys.argv[1])
assert "torch._dynamo" not in sys.modules
"""


def test_loading_takes_none_of_the_compiler(folder):
    """Its import alone takes longer than everything else on the way to a chat."""
    subprocess.run([sys.executable, "-c", LIGHT, str(folder)], check=True)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(folder, monkeypatch, name):
    before, real = (folder / name).read_bytes(), os.replace

    def replace(source, target):
        if target.name == name:
            raise OSError("the disk is full")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="full"):
        save_model(tiny_model("simple"), folder)
    assert (folder / name).read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}


def test_the_fingerprint_stands_for_every_weight(folder):
    model = load_model(folder)
    first = weights_fingerprint(model)
    assert first == weights_fingerprint(load_model(folder))
    seen = {first}
    for _, parameter in sorted(model.named_parameters()):
        flat = parameter.data.view(-1)
        kept = flat[-1].item()
        flat[-1] += 0.001
        seen.add(weights_fingerprint(model))
        flat[-1] = kept
    assert len(seen) == 1 + len(list(model.parameters()))
    assert weights_fingerprint(model) == first


def test_the_fingerprint_stands_for_the_configuration_too():
    state = tiny_model().state_dict()
    other = tiny_model(rope_base=500.0)
    other.load_state_dict(state)
    assert weights_fingerprint(tiny_model()) != weights_fingerprint(other)


def test_missing_weights_are_named(folder):
    rewrite_weights(folder, lambda w: (w.pop("memory_init"), w.pop("embedding.weight")))
    with pytest.raises(CheckpointError, match=r"lacks .*: embedding\.weight, memory_init"):
        load_model(folder)


def test_unexpected_weights_are_named(folder):
    rewrite_weights(folder, lambda w: w.update({"head.weight": torch.zeros(2)}))
    with pytest.raises(CheckpointError, match=r"has weights that its config lacks: head\.weight"):
        load_model(folder)


def test_a_weight_of_another_shape_is_named_with_both_shapes(folder):
    rewrite_weights(folder, lambda w: w.update({"memory_init": torch.zeros(4, 9, 8)}))
    with pytest.raises(CheckpointError, match=r"memory_init has .*\(4, 9, 8\).*\(4, 3, 8\)"):
        load_model(folder)


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64, torch.bool])
def test_a_weight_that_is_no_floating_point_number_is_named(folder, dtype):
    rewrite_weights(folder, lambda w: w.update({"memory_init": w["memory_init"].to(dtype)}))
    with pytest.raises(CheckpointError, match=f"memory_init holds {dtype}, not floating-point"):
        load_model(folder)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_a_weight_that_is_not_finite_is_named(folder, value):
    rewrite_weights(folder, lambda w: w["memory_init"][1, 2].fill_(value))
    with pytest.raises(CheckpointError, match="memory_init holds values that are not finite"):
        load_model(folder)


def test_a_weight_beyond_a_short_type_is_named_when_it_is_read_and_when_it_is_written(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.embedding.weight[3, 0] = 70_000.0
    save_model(model, tmp_path / "whole")
    with pytest.raises(CheckpointError, match="embedding.weight .* not finite torch.float16"):
        ReactiveTransformer.from_pretrained(tmp_path / "whole", dtype=torch.float16)
    with pytest.raises(CheckpointError, match="embedding.weight holds values beyond torch.float16"):
        save_model(model, tmp_path / "short", dtype=torch.float16)
    assert not (tmp_path / "short").exists()


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float64, "bfloat16", None])
def test_a_type_that_weights_are_not_kept_in_is_refused(folder, tmp_path, dtype):
    """In int8 every weight below one would be zero."""
    words = "dtype must be torch.float32, torch.bfloat16 or torch.float16, got "
    with pytest.raises(CheckpointError, match=words):
        save_model(tiny_model(), tmp_path / "new", dtype=dtype)
    assert not (tmp_path / "new").exists()
    with pytest.raises(CheckpointError, match=words):
        ReactiveTransformer.from_pretrained(folder, dtype=dtype)
    with pytest.raises(CheckpointError, match=words):
        parts = dict.fromkeys(("decoder", "encoder", "memory_attention"), folder)
        ReactiveTransformer.from_components(**parts, dtype=dtype)


def test_weights_of_another_variant_are_refused(folder):
    rewrite_config(folder, lambda data: data["memory"].update(variant="simple"))
    with pytest.raises(CheckpointError, match=r"memory_write\.pre_norm\.weight"):
        load_model(folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(folder, share):
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "not json", '{"vocab_size": NaN}'])
def test_a_config_that_is_none_is_refused(folder, text):
    (folder / CONFIG_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json is not a model configuration"):
        load_model(folder)


def test_a_config_that_is_no_text_is_refused(folder):
    (folder / CONFIG_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="not a model configuration"):
        load_model(folder)


def test_an_unknown_key_of_the_config_is_named(folder):
    rewrite_config(folder, lambda data: data["memory"].update(num_slotz=4))
    with pytest.raises(CheckpointError, match="MemoryConfig has no field num_slotz"):
        load_model(folder)


def test_a_value_of_the_config_that_cannot_be_is_named(folder):
    rewrite_config(folder, lambda data: data.update(embed_dim="wide"))
    with pytest.raises(CheckpointError, match="embed_dim.*'wide'"):
        load_model(folder)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        load_model(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        load_model(tmp_path / "nowhere")


def test_nothing_in_a_model_folder_is_pickled(folder):
    assert {path.name for path in folder.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}
    assert b"__reduce__" not in (folder / WEIGHTS_FILE).read_bytes()
    assert isinstance(load_model(folder), ReactiveTransformer)
