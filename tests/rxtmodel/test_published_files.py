"""Files of the reference implementation: exact round trips, and what is read from their tensors."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from rxtmodel import CheckpointError, ReactiveTransformer, SqaLM, TokenIds
from rxtmodel.checkpoint import weights_fingerprint
from rxtmodel.files import CONFIG_FILE, WEIGHTS_FILE

from .published_keys import expected_keys
from .published_samples import ALPHA, BETA, FORMS, experts, memory, tiny
from .tiny import tiny_model

load = ReactiveTransformer.from_pretrained


def write(model: ReactiveTransformer, folder) -> None:
    model.save_pretrained(folder, format="published")


def config_of(folder) -> dict:
    return json.loads((folder / CONFIG_FILE).read_text())


def rewrite(folder, *, config=None, weights=None):
    """Change the files of a folder in place; returns the folder."""
    data, tensors = config_of(folder), load_file(folder / WEIGHTS_FILE)
    if config is not None:
        config(data)
    if weights is not None:
        tensors = weights(tensors) or tensors
    (folder / CONFIG_FILE).write_text(json.dumps(data))
    save_file({n: t.contiguous().clone() for n, t in tensors.items()}, folder / WEIGHTS_FILE)
    return folder


def without(*names):
    """A change of weights: these are gone."""
    return lambda weights: {n: w for n, w in weights.items() if n not in names}


def assert_same(found: ReactiveTransformer, expected: ReactiveTransformer) -> None:
    """Every weight to the last bit, and the same answers and memories from them."""
    state = expected.state_dict()
    assert found.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    ids, stm = torch.randint(11, 24, (2, 5)), torch.randn(4, 2, 3, 16)
    assert torch.equal(found(ids, stm), expected(ids, stm))
    new = found.attend(stm, found.encode(ids))
    assert torch.equal(new, expected.attend(stm, expected.encode(ids)))


@pytest.fixture
def beta(tmp_path):
    write(tiny(BETA), tmp_path / "beta")
    return tmp_path / "beta"


@pytest.fixture
def alpha(tmp_path):
    write(tiny(ALPHA), tmp_path / "alpha")
    return tmp_path / "alpha"


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS.keys())
def test_save_load_share_save_is_exact(tmp_path, config):
    model = tiny(config)
    write(model, tmp_path / "first")
    loaded = load(tmp_path / "first")
    assert_same(loaded, model)
    loaded.share_embedding()
    write(loaded, tmp_path / "second")
    again = load(tmp_path / "second")
    assert_same(again, loaded)
    if config.share_embedding:
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            assert (tmp_path / "second" / name).read_bytes() == (
                tmp_path / "first" / name
            ).read_bytes()


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS.keys())
def test_our_own_format_holds_every_published_form(tmp_path, config):
    model = tiny(config)
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.config == config
    assert_same(loaded, model)


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS.keys())
def test_a_file_holds_the_published_keys_and_shapes(tmp_path, config):
    write(tiny(config), tmp_path)
    found = {name: tuple(t.shape) for name, t in load_file(tmp_path / WEIGHTS_FILE).items()}
    assert found == expected_keys(config_of(tmp_path))


def test_sharing_takes_the_embedding_of_the_encoder(tmp_path):
    model = tiny(FORMS["separate embeddings"])
    write(model, tmp_path)
    loaded = load(tmp_path)
    assert not loaded.config.share_embedding
    kept = loaded.encoder_embedding.weight
    loaded.share_embedding()
    assert loaded.embedding.weight is kept
    assert loaded.config.share_embedding
    assert torch.equal(kept, model.encoder_embedding.weight)


@pytest.mark.parametrize("lost", ["decoder", "encoder"])
def test_an_embedding_that_a_file_lost_is_the_other_one(alpha, lost):
    rewrite(alpha, weights=without(f"{lost}.model.embedding.weight"))
    assert_same(load(alpha), tiny(ALPHA))


def test_without_any_embedding_a_file_is_refused(alpha):
    def lose(w):
        for part in ("decoder", "encoder"):
            del w[f"{part}.model.embedding.weight"]

    with pytest.raises(CheckpointError, match=r"lacks .*decoder\.model\.embedding\.weight"):
        load(rewrite(alpha, weights=lose))


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


def test_a_stored_memory_is_restored_or_a_fresh_one_drawn(beta):
    stored, fresh = load(beta), load(beta, memory="fresh")
    assert torch.equal(stored.memory_init, tiny(BETA).memory_init)
    assert torch.equal(fresh.memory_init, ReactiveTransformer(BETA).memory_init)
    assert torch.equal(fresh.embedding.weight, stored.embedding.weight)
    old = load(beta, memory="fresh", profile="0.2").memory_init
    torch.testing.assert_close(old, 0.01 * fresh.memory_init)


def test_a_file_without_a_memory_starts_with_a_fresh_one(beta):
    def forget(w):
        return {name: value for name, value in w.items() if "stm." not in name}

    loaded = load(rewrite(beta, weights=forget))
    assert torch.equal(loaded.memory_init, ReactiveTransformer(BETA).memory_init)


def test_a_memory_of_many_conversations_is_no_memory_to_start_from(beta):
    def widen(w):
        for part in ("decoder", "memory_attention"):
            w[f"{part}.model.stm.memory"] = torch.randn(4, 2, 3, 16)

    rewrite(beta, weights=widen)
    with pytest.raises(CheckpointError, match=r"stm\.memory has shape \(4, 2, 3, 16\).*fresh"):
        load(beta)
    assert load(beta, memory="fresh").memory_init.shape == (4, 3, 16)


@pytest.mark.parametrize(
    "name", ["alpha", "beta", "plain feed-forward", "one shared expert, own bias"]
)
def test_experts_with_keys_of_their_own_are_read(tmp_path, name):
    config = experts(FORMS[name], bias="local", shared_bias="local")
    model = tiny(config)
    write(model, tmp_path)

    def old_layout(w):
        out, many = {}, config.experts.num_shared > 1
        for key, value in w.items():
            place, _, leaf = key.rpartition(".")
            shared = leaf.startswith("shared_")
            if leaf in ("w1", "w2", "b1", "b2") or (shared and many and leaf[7:] in "w1 w2 b1 b2"):
                which = leaf[-1]
                gated = ".linear" if config.gated and which == "1" else ""
                kind = "shared_experts" if shared else "experts"
                for e, part in enumerate(value):
                    suffix = "weight" if "w" in leaf[-2:] else "bias"
                    part = part.T if suffix == "weight" else part
                    out[f"{place}.{kind}.{e}.fc{which}{gated}.{suffix}"] = part
            elif ".shared_expert." in key:
                out[key.replace(".shared_expert.", ".shared_experts.0.")] = value
            else:
                out[key] = value
        return out

    rewrite(tmp_path, weights=old_layout, config=lambda c: c["decoder_config"].update(
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


@pytest.mark.parametrize("declared", ["interlayer", "self-interlayer"])
@pytest.mark.parametrize("built", ["interlayer", "self-interlayer"])
def test_the_variant_is_read_from_the_tensors(tmp_path, built, declared):
    """Since 0.3.65 the reference builds another than it is asked for."""
    write(tiny(FORMS[built]), tmp_path)
    rewrite(tmp_path, config=lambda c: c.update(memory_attention_variant=declared))
    loaded = load(tmp_path)
    assert loaded.config.memory.variant == built
    assert_same(loaded, tiny(FORMS[built]))


def test_without_gates_the_version_says_what_interlayer_was(tmp_path):
    write(tiny(memory(FORMS["interlayer"], gate="none")), tmp_path)
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


def test_every_single_weight_that_is_missing_is_named(beta):
    weights = load_file(beta / WEIGHTS_FILE)
    free = re.compile(r"\.stm\.memory|\.embedding\.weight")
    structure = re.compile(r"norm1|global_bias|shared_|gate_proj|head_norm|router|_proj\.weight")
    named = [n for n in weights if not free.search(n) and not structure.search(n)]
    assert len(named) > 60
    for name in named[::7]:
        rewrite(beta, weights=without(name))
        with pytest.raises(CheckpointError, match=re.escape(name)):
            load(beta)
        save_file(weights, beta / WEIGHTS_FILE)


@pytest.mark.parametrize(
    "name",
    ["decoder.model.layers.2.attention.q_proj.weight", "decoder.model.layers.1.ff.w2",
     "decoder.model.layers.3.ff.global_bias", "encoder.model.layers.1.norm1.weight",
     "memory_attention.model.attention_layers.1.k_proj.weight", "decoder.model.head.bias"],
)  # fmt: skip
def test_a_weight_that_its_neighbours_have_is_missing_and_not_optional(beta, name):
    rewrite(beta, weights=without(name))
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load(beta)


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
    ],
)
def test_a_config_that_cannot_be_is_refused(beta, part, change, words):
    rewrite(beta, config=lambda c: c[part].update(change))
    with pytest.raises(CheckpointError, match=words):
        load(beta)


def test_a_part_of_the_config_that_is_missing_is_named(beta):
    rewrite(beta, config=lambda c: c.pop("encoder_config"))
    with pytest.raises(CheckpointError, match="lacks encoder_config"):
        load(beta)


def test_an_unknown_profile_is_named_with_those_that_exist(beta):
    with pytest.raises(CheckpointError, match=r"one of 0\.3\.65, 0\.3, 0\.2, got '9'"):
        load(beta, profile="9")


def test_ids_of_special_tokens_come_from_the_file(beta):
    rewrite(beta, config=lambda c: c["tokenizer_config"].update(think_token_id=20))
    assert load(beta).config.tokens.think == 20
    rewrite(beta, config=lambda c: c["tokenizer_config"].pop("think_token_id"))
    assert load(beta).config.tokens.think is None


def test_repositories_of_single_components_make_a_model(beta, tmp_path):
    weights, config = load_file(beta / WEIGHTS_FILE), config_of(beta)
    folders = {}
    for part in ("decoder", "encoder", "memory_attention"):
        folders[part] = folder = tmp_path / part
        folder.mkdir()
        own = {n.removeprefix(f"{part}."): t for n, t in weights.items() if n.startswith(part)}
        save_file(own, folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(config[f"{part}_config"]))
    loaded = ReactiveTransformer.from_components(**folders)
    assert_same(loaded, tiny(BETA))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "memory variant 'delta'"),
        ({"variant": "interlayer", "memory": {"slot_ids": True}}, "slot identities"),
        ({"variant": "interlayer", "memory": {"null_key": True}}, "a null key"),
        ({"variant": "simple", "memory": {"gate": "channel"}}, "the 'channel' gate"),
        ({"variant": "simple"}, "a head that shares the embedding"),
        ({"variant": "simple", "tie_head": False}, "norms with an eps of their own"),
        ({"variant": "simple", "tokens": TokenIds(ends=(20,))}, "several tokens that end"),
    ],
)
def test_what_the_published_format_cannot_hold_is_named(tmp_path, settings, words):
    model = tiny_model(**{"variant": "delta", **settings})
    with pytest.raises(CheckpointError, match=f"cannot hold .*{words}"):
        write(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_class_is_refused(beta):
    with pytest.raises(CheckpointError, match="holds a ReactiveTransformer, not a SqaLM"):
        SqaLM.from_pretrained(beta)


def test_weights_can_be_read_in_half_precision(beta):
    loaded = load(beta, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert loaded.rope.dtype == torch.float32
    ids = torch.randint(11, 24, (1, 5))
    memory = loaded.attend(loaded.initial_memory(), loaded.encode(ids))
    expected = load(beta)
    after = expected.attend(expected.initial_memory(), expected.encode(ids))
    assert memory.dtype == torch.float32
    assert (memory - after).norm() < 0.1 * after.norm()
    assert loaded(ids, memory).isfinite().all()


def test_the_fingerprint_is_that_of_the_model_not_of_the_format(beta, tmp_path):
    model = load(beta)
    model.save_pretrained(tmp_path / "own")
    assert weights_fingerprint(load(tmp_path / "own")) == weights_fingerprint(model)


def test_a_published_model_does_what_it_has_the_tokens_for(beta):
    config = load(beta).config
    assert config.thinks and config.calls_tools and config.instructed

    def without_thinking(data):
        del data["tokenizer_config"]["think_token_id"]
        del data["tokenizer_config"]["tool_use_token_id"]
        del data["tokenizer_config"]["internal_token_id"]

    config = load(rewrite(beta, config=without_thinking)).config
    assert not (config.thinks or config.calls_tools or config.instructed)
    config = load(rewrite(beta, config=lambda data: data.pop("tokenizer_config"))).config
    assert not (config.thinks or config.calls_tools or config.instructed)
