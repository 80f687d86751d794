"""What is read from the tensors of published files where their config says nothing."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from rxtmodel import CheckpointError, ReactiveTransformer
from rxtmodel.files import WEIGHTS_FILE

from .published_folders import (
    apart,
    assert_same,
    components,
    load,
    rewrite,
    without,
    write,
)
from .published_samples import ALPHA, BETA, FORMS, VARIANTS, experts, memory, tiny


@pytest.mark.parametrize("lost", ["decoder", "encoder"])
def test_an_embedding_that_a_file_lost_is_the_other_one(alpha, lost):
    rewrite(alpha, weights=without(f"{lost}.model.embedding.weight"))
    assert_same(load(alpha), tiny(ALPHA))


def test_tables_of_positions_and_names_of_compiled_modules_are_seen_through(beta):
    def compiled(w):
        out = {}
        for name, value in w.items():
            name = name.replace("layers.1.", "layers.1._orig_mod.")
            out[name.replace(".ff.", ".ff._orig_mod.")] = value
        out["decoder.model.layers.0.attention.rope.inv_freq"] = torch.full((2,), 9.0)
        out["decoder.model.layers.0.attention.rope.cache"] = torch.zeros(8, 2)
        return out

    assert_same(load(rewrite(beta, weights=compiled)), tiny(BETA))


@pytest.mark.parametrize(
    "name", ["alpha", "beta", "plain feed-forward", "one shared expert, own bias"]
)
def test_experts_with_keys_of_their_own_are_read(tmp_path, name):
    config = experts(FORMS[name], bias="local", shared_bias="local")
    model = tiny(config)
    write(model, tmp_path)
    rewrite(tmp_path, weights=apart(config), config=lambda c: c["decoder_config"].update(
        use_vectorized_moe=False))  # fmt: skip
    assert any(".experts.0." in name for name in load_file(tmp_path / WEIGHTS_FILE))
    assert_same(load(tmp_path), model)


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_shared_experts_and_biases_are_read_from_the_tensors(tmp_path, shared):
    """Old configs do not say how many there are, and the default has changed."""
    config = experts(BETA, num_shared=shared, bias="local", shared_bias="local")
    write(tiny(config), tmp_path)
    said = ("num_shared_experts", "shared_expert_dim", "moe_bias_mode",
            "moe_shared_experts_bias_mode")  # fmt: skip
    rewrite(tmp_path, config=lambda c: [c["decoder_config"].pop(k) for k in said])
    for profile in ("0.2", "0.3", "0.3.65"):
        assert_same(load(tmp_path, profile=profile), tiny(config))


def test_old_experts_have_their_own_biases_whatever_is_said(tmp_path):
    config = experts(BETA, bias="local", shared_bias="local")
    write(tiny(config), tmp_path)
    said = {"moe_bias_mode": "global", "moe_shared_experts_bias_mode": "off"}
    rewrite(tmp_path, weights=apart(config), config=lambda c: c["decoder_config"].update(said))
    assert_same(load(tmp_path), tiny(config))


@pytest.mark.parametrize("built", ["interlayer", "self-interlayer"])
def test_what_interlayer_was_is_read_from_the_tensors(tmp_path, built):
    """Since 0.3.65 the reference builds "self-interlayer" when it is asked for "interlayer"."""
    write(tiny(FORMS[built]), tmp_path)
    rewrite(tmp_path, config=lambda c: c.update(memory_attention_variant="interlayer"))
    loaded = load(tmp_path)
    assert loaded.config.memory.variant == built
    assert_same(loaded, tiny(FORMS[built]))


def test_without_gates_the_version_says_what_interlayer_was(tmp_path):
    write(tiny(memory(FORMS["self-interlayer"], gate="none")), tmp_path)
    rewrite(tmp_path, config=lambda c: c.update(memory_attention_variant="interlayer"))
    assert load(tmp_path, profile="0.3").config.memory.variant == "interlayer"
    assert load(tmp_path, profile="0.3.65").config.memory.variant == "self-interlayer"


def test_the_memory_read_has_the_heads_that_its_tensors_have(tmp_path):
    """Old versions ignored what their config said of it."""
    config = memory(BETA, read=dataclasses.replace(BETA.memory.read, num_kv_heads=2))
    write(tiny(config), tmp_path)
    rewrite(tmp_path, config=lambda c: c["decoder_config"].update(cross_att_groups=1))
    assert_same(load(tmp_path), tiny(config))


def test_a_config_of_few_words_is_completed_from_the_tensors(tmp_path):
    write(tiny(BETA), tmp_path)
    words = {
        "decoder_config": ("num_layers", "embed_dim", "vocab_size", "ff_dim", "att_heads",
                           "seq_len", "stm_size", "dense_layer_dim", "use_moe", "num_experts",
                           "moe_top_k", "stateless_layers_config", "rope_base",
                           "final_stateless_layers_config", "router_amp", "router_dtype"),
        "encoder_config": ("num_layers", "embed_dim", "vocab_size", "ff_dim", "att_heads",
                           "seq_len", "stm_size", "skip_memory_cross_attention", "rope_base"),
        "memory_attention_config": ("num_layers", "embed_dim", "att_heads", "seq_len", "stm_size",
                                    "num_groups", "residual_gate_type", "rope_base",
                                    "use_tanh_residual_gate"),
    }  # fmt: skip

    def shorten(c):
        for part, kept in words.items():
            c[part] = {key: value for key, value in c[part].items() if key in kept}

    assert_same(load(rewrite(tmp_path, config=shorten)), tiny(BETA))


def test_old_encoders_carry_a_memory_read_that_nothing_calls(alpha):
    def add(w):
        for i in range(4):
            layer = f"encoder.model.layers.{i}"
            w[f"{layer}.norm2.weight"] = torch.ones(16)
            w[f"{layer}.stm_norm.weight"] = torch.ones(16)
            w[f"{layer}.memory_cross_attention.q_proj.weight"] = torch.ones(16, 16)
        w["encoder.model.stm.memory"] = torch.ones(4, 1, 3, 16)

    rewrite(alpha, weights=add)
    with pytest.raises(CheckpointError, match=r"encoder\.model\.layers\.0\.memory_cross"):
        load(alpha)
    rewrite(alpha, config=lambda c: c["encoder_config"].update(skip_memory_cross_attention=False))
    assert_same(load(alpha), tiny(ALPHA))


@pytest.mark.parametrize("name", ["beta", *VARIANTS])
def test_repositories_of_single_components_make_a_model(tmp_path, name):
    """Their configs do not say the variant."""
    write(tiny(FORMS[name]), tmp_path / "whole")
    loaded = ReactiveTransformer.from_components(**components(tmp_path / "whole", tmp_path))
    assert_same(loaded, tiny(FORMS[name]))
    assert loaded.config.memory.variant == FORMS[name].memory.variant


def test_positions_of_components_are_rounded_where_the_one_who_loads_says_so(beta, tmp_path):
    folders = components(beta, tmp_path)
    loaded = ReactiveTransformer.from_components(**folders, rope_rounding="bfloat16")
    assert torch.equal(loaded.rope, load(beta, rope_rounding="bfloat16").rope)
    assert not torch.equal(loaded.rope, load(beta).rope)


def test_the_memory_of_the_memory_attention_is_the_one_that_components_share(beta, tmp_path):
    """Decoders that were trained alone have another one."""
    name = "decoder.model.stm.memory"
    rewrite(beta, weights=lambda w: w.update({name: torch.zeros_like(w[name])}))
    loaded = ReactiveTransformer.from_components(**components(beta, tmp_path))
    assert_same(loaded, tiny(BETA))


def test_usual_ids_of_unk_and_mask_give_way_to_those_of_the_file(beta):
    rewrite(beta, config=lambda c: c["tokenizer_config"].update(query_token_id=4))
    tokens = load(beta).config.tokens
    assert (tokens.query, tokens.unk, tokens.mask) == (4, 1, None)
