"""Published files that cannot be read: the error says what is wrong with which field or weight."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from rxtmodel import CheckpointError, SqaLM
from rxtmodel.files import WEIGHTS_FILE

from .published_folders import apart, load, rewrite, unsaid, without, write
from .published_samples import BETA, FORMS, experts, tiny


def test_without_any_embedding_a_file_is_refused(alpha):
    def lose(w):
        for part in ("decoder", "encoder"):
            del w[f"{part}.model.embedding.weight"]

    with pytest.raises(CheckpointError, match=r"lacks .*decoder\.model\.embedding\.weight"):
        load(rewrite(alpha, weights=lose))


def assert_only_named(folder, name):
    """The error says the weight, and blames no other."""
    with pytest.raises(CheckpointError, match=re.escape(name)) as caught:
        load(folder)
    others = [key for key in load_file(folder / WEIGHTS_FILE) if key != name]
    assert [key for key in others if re.search(rf"{re.escape(key)}\b", str(caught.value))] == []


def test_every_single_weight_that_is_missing_is_named(beta):
    weights = load_file(beta / WEIGHTS_FILE)
    named = [n for n in weights if not re.search(r"\.stm\.memory|\.embedding\.weight", n)]
    assert len(named) > 250
    for name in named[::7]:
        rewrite(beta, weights=without(name))
        assert_only_named(beta, name)
        save_file(weights, beta / WEIGHTS_FILE)


STRUCTURE = [
    "final_stateless_layers.0.ff.global_bias", "layers.0.ff.global_bias", "layers.3.ff.shared_w2",
    "stateless_layers.1.ff.shared_w2", "layers.0.ff.shared_experts_bias",
    "final_stateless_layers.1.ff.shared_expert_gate.weight", "layers.0.ff.router.gate.weight",
    "layers.0.attention.q_proj.weight", "layers.0.attention.gate_proj.weight",
    "layers.0.memory_cross_attention.k_proj.weight", "layers.0.norm1.weight",
]  # fmt: skip
SAID = ["num_experts", "num_shared_experts", "shared_expert_dim", "moe_bias_mode", "att_groups",
        "moe_shared_experts_bias_mode", "att_query_groups", "use_gated_attention"]  # fmt: skip


@pytest.mark.parametrize("said", [True, False], ids=["said", "unsaid"])
@pytest.mark.parametrize("name", STRUCTURE)
def test_the_layer_that_lacks_a_weight_is_named_and_not_its_neighbours(beta, name, said):
    """Also where only the other layers say what the model is."""
    name = f"decoder.model.{name}"
    rewrite(beta, weights=without(name), config=None if said else unsaid(*SAID))
    assert_only_named(beta, name)


@pytest.mark.parametrize("said", [True, False], ids=["said", "unsaid"])
@pytest.mark.parametrize("name", STRUCTURE)
def test_the_layer_with_a_weight_of_another_shape_is_named(beta, name, said):
    name = f"decoder.model.{name}"

    def grow(weights):
        weights[name] = torch.zeros([1 + 2 * size for size in weights[name].shape])

    rewrite(beta, weights=grow, config=None if said else unsaid(*SAID))
    assert_only_named(beta, name)


@pytest.mark.parametrize(
    ("form", "lost", "named"),
    [
        ("one shared expert", "shared", "decoder.model.layers.0.ff.shared_expert.fc2.weight"),
        ("beta", "shared", "decoder.model.layers.2.ff.shared_w1"),
        ("beta", "global_bias", "decoder.model.layers.0.ff.global_bias"),
        ("interlayer", "mean_", "memory_attention.model.mean_attention_layers.0.q_proj.weight"),
        ("self-interlayer", "interlayer_gate", "memory_attention.model.interlayer_gate_layers.0"),
        ("self", "self_", "memory_attention.model.self_attention_layers.3.k_proj.weight"),
        ("alpha", "residual_gate", "memory_attention.model.residual_gate_layers.1.gate.bias"),
        ("beta", "gate_proj", "encoder.model.layers.1.attention.gate_proj.weight"),
    ],
)
def test_weights_that_a_file_lost_in_every_layer_are_named(tmp_path, form, lost, named):
    """What the config says is there, or the error says what is not."""
    write(tiny(FORMS[form]), tmp_path)
    rewrite(tmp_path, weights=lambda w: {n: t for n, t in w.items() if lost not in n})
    with pytest.raises(CheckpointError, match=f"lacks weights.*{re.escape(named)}"):
        load(tmp_path)


@pytest.fixture
def old(tmp_path):
    """A file in which every expert has keys of its own."""
    config = experts(BETA, bias="local", shared_bias="local")
    write(tiny(config), tmp_path)
    return rewrite(tmp_path, weights=apart(config))


FEED = "decoder.model.layers.1.ff"


@pytest.mark.parametrize(
    "name",
    [f"{FEED}.experts.1.fc2.weight", f"{FEED}.experts.4.fc1.linear.bias",
     f"{FEED}.shared_experts.1.fc1.linear.weight", f"{FEED}.shared_expert_gate.weight"],
)  # fmt: skip
def test_an_expert_that_lacks_a_weight_is_named_by_the_key_of_the_file(old, name):
    weights = load_file(old / WEIGHTS_FILE)
    rewrite(old, weights=without(name))
    assert_only_named(old, name)
    save_file({**weights, name: torch.zeros(3, 3)}, old / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)} has shape \(3, 3\)"):
        load(old)


def test_a_weight_that_all_old_experts_lack_is_named_for_each(old):
    lost = [f"{FEED}.experts.{i}.fc2.weight" for i in range(5)]
    with pytest.raises(CheckpointError, match=".*".join(map(re.escape, lost))):
        load(rewrite(old, weights=without(*lost)))


def test_an_old_expert_with_a_weight_too_many_is_named(old):
    name = f"{FEED}.experts.1.fc3.weight"
    rewrite(old, weights=lambda w: w.update({name: torch.zeros(3, 3)}))
    with pytest.raises(CheckpointError, match=rf"config lacks: {re.escape(name)}"):
        load(old)


def test_a_weight_that_is_there_twice_is_named(beta):
    twice = "decoder.model._orig_mod.head.weight"
    rewrite(beta, weights=lambda w: w.update({twice: torch.zeros(24, 16)}))
    with pytest.raises(CheckpointError, match=r"decoder\.model\.head\.weight twice.*_orig_mod"):
        load(beta)


@pytest.mark.parametrize("part", ["decoder", "memory_attention"])
def test_a_memory_of_another_shape_is_named_though_the_other_part_has_one(beta, part):
    name = f"{part}.model.stm.memory"
    for shape in ((4, 1, 5, 16), (4, 3, 16)):
        rewrite(beta, weights=lambda w, shape=shape: w.update({name: torch.zeros(shape)}))
        with pytest.raises(CheckpointError, match=rf"{name}.*{re.escape(str(shape))}.*'fresh'"):
            load(beta)
    assert load(beta, memory="fresh").memory_init.shape == (4, 3, 16)


def test_a_way_to_start_that_does_not_exist_is_named(beta):
    with pytest.raises(CheckpointError, match="must be 'restore' or 'fresh', got 'stored'"):
        load(beta, memory="stored")


def test_an_unexpected_weight_is_named(beta):
    rewrite(beta, weights=lambda w: w.update({"decoder.model.layers.9.x": torch.ones(1)}))
    with pytest.raises(CheckpointError, match=r"config lacks: decoder\.model\.layers\.9\.x"):
        load(beta)


def test_a_weight_of_another_shape_is_named_with_both(beta):
    rewrite(beta, weights=lambda w: w.update({"decoder.model.head.bias": torch.ones(7)}))
    with pytest.raises(CheckpointError, match=r"head\.bias has shape \(7,\).*\(24,\)"):
        load(beta)


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("decoder_config", {"colour": 1}, "decoder_config has no field colour"),
        ("decoder_config", {"self_att_type": "hybrid"}, "'hybrid'.*not supported"),
        ("decoder_config", {"self_att_type": "gma"}, "one of mha, gqa, mqa, sqa, got 'gma'"),
        ("decoder_config", {"ff_activation": "tanh"}, "activation.*'tanh'"),
        ("encoder_config", {"num_layers": 3}, "num_layers must be the same.*4.*3"),
        ("memory_attention_config", {"norm_type": "huge"}, "norm must be one of.*'huge'"),
        ("tokenizer_config", {"eos_token_id": None}, "tokenizer_config lacks eos_token_id"),
        ("tokenizer_config", {"pad_token_id": "x"}, "pad must be an id.*'x'"),
        ("tokenizer_config", {"pad_token_id": 999}, "pad=999 must be below vocab_size=24"),
        ("tokenizer_config", {"pad_token_id": 6}, "answer=6 is the id of pad too"),
        ("decoder_config", {"att_heads": 0}, "decoder_config: att_heads must be.*>= 1, got 0"),
        ("encoder_config", {"att_heads": None}, "att_heads must be a whole number.*None"),
        ("encoder_config", {"att_heads": 5}, "embed_dim=16 must be a multiple of att_heads=5"),
        ("decoder_config", {"embed_dim": None}, "embed_dim must be a whole number.*None"),
        ("decoder_config", {"rope_base": "x"}, "rope_base must be a finite number, got 'x'"),
        ("decoder_config", {"rope_base": 0}, "rope_base must be a number > 0, got 0"),
        ("memory_attention_config", {"rope_base": -1}, "rope_base must be a number > 0, got -1"),
        ("decoder_config", {"head_norm_type": "x"}, "one of layer_norm, rms_norm, got 'x'"),
        ("decoder_config", {"use_moe": "yes"}, "use_moe must be true or false, got 'yes'"),
        ("decoder_config", {"use_moe": False}, "layers of kind 'moe' with use_moe=false"),
        ("decoder_config", {"ff_activation": ["silu"]}, "ff_activation must be a name"),
        ("decoder_config", {"num_shared_experts": -1}, "num_shared_experts must be.*>= 0, got -1"),
        ("decoder_config", {"stateless_layers_config": "dense"}, "must be a list of 'dense'"),
        ("memory_attention_config", {"residual_gate_init": "x"}, "residual_gate_init must be"),
        ("memory_attention_config", {"disable_residual": True}, "the variant 'simple' only"),
    ],
)
def test_a_config_that_cannot_be_is_refused(beta, part, change, words):
    rewrite(beta, config=lambda c: c[part].update(change))
    with pytest.raises(CheckpointError, match=rf"config\.json is not a model.*{words}"):
        load(beta)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("tokenizer_config", 5, "tokenizer_config must be an object, got 5"),
        ("memory_attention_variant", ["self"], "memory_attention_variant must be a name"),
        ("memory_attention_variant", "x", "variant must be one of simple.*got 'x'"),
    ],
)
def test_a_config_with_something_else_in_place_of_a_part_is_refused(beta, name, value, words):
    rewrite(beta, config=lambda c: c.update({name: value}))
    with pytest.raises(CheckpointError, match=rf"config\.json is not a model.*{words}"):
        load(beta)


def test_a_part_of_the_config_that_is_missing_is_named(beta):
    rewrite(beta, config=lambda c: c.pop("encoder_config"))
    with pytest.raises(CheckpointError, match="lacks encoder_config"):
        load(beta)


def test_an_unknown_profile_is_named_with_those_that_exist(beta):
    with pytest.raises(CheckpointError, match=r"one of 0\.3\.65, 0\.3, 0\.2, got '9'"):
        load(beta, profile="9")


def test_a_memory_of_many_conversations_is_no_memory_to_start_from(beta):
    def widen(w):
        for part in ("decoder", "memory_attention"):
            w[f"{part}.model.stm.memory"] = torch.randn(4, 2, 3, 16)

    rewrite(beta, weights=widen)
    with pytest.raises(CheckpointError, match=r"stm\.memory has shape \(4, 2, 3, 16\).*fresh"):
        load(beta)
    assert load(beta, memory="fresh").memory_init.shape == (4, 3, 16)


def test_a_model_of_another_class_is_refused(beta):
    with pytest.raises(CheckpointError, match="holds a ReactiveTransformer, not a SqaLM"):
        SqaLM.from_pretrained(beta)
