"""Files of the reference implementation: exact round trips."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from rxtmodel import ConfigError, ReactiveTransformer, TokenIds
from rxtmodel.checkpoint import weights_fingerprint
from rxtmodel.files import CONFIG_FILE, WEIGHTS_FILE

from .published_folders import assert_same, config_of, load, rewrite, write
from .published_keys import expected_keys
from .published_samples import ALPHA, BETA, FORMS, counts, memory, tiny


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


def test_a_stored_memory_is_restored_or_a_fresh_one_drawn(beta):
    stored, fresh = load(beta), load(beta, memory="fresh")
    assert torch.equal(stored.memory_init, tiny(BETA).memory_init)
    assert torch.equal(fresh.memory_init, ReactiveTransformer(BETA).memory_init)
    assert torch.equal(fresh.embedding.weight, stored.embedding.weight)
    old = load(beta, memory="fresh", profile="0.2").memory_init
    torch.testing.assert_close(old, 0.02 * fresh.memory_init)


def test_a_file_without_a_memory_starts_with_a_fresh_one(beta):
    def forget(w):
        return {name: value for name, value in w.items() if "stm." not in name}

    loaded = load(rewrite(beta, weights=forget))
    assert torch.equal(loaded.memory_init, ReactiveTransformer(BETA).memory_init)


def test_ids_of_special_tokens_come_from_the_file(beta):
    rewrite(beta, config=lambda c: c["tokenizer_config"].update(think_token_id=20))
    assert load(beta).config.tokens.think == 20
    rewrite(beta, config=lambda c: c["tokenizer_config"].pop("think_token_id"))
    assert load(beta).config.tokens.think is None


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


def test_a_file_holds_the_ids_of_what_the_model_does(alpha, beta, tmp_path):
    """Five ids of a model that only answers, nine of one that does all; flags come back."""
    only_answers, all_of_it = config_of(alpha), config_of(beta)
    answering = {f"{name}_token_id" for name in ("pad", "bos", "eos", "query", "answer")}
    assert set(only_answers["tokenizer_config"]) == answering
    assert "system_prompt_title" not in only_answers
    assert len(all_of_it["tokenizer_config"]) == 9
    assert all_of_it["system_prompt_title"] == "SYSTEM INSTRUCTIONS"
    for flags in ({}, {"thinks": True}, {"calls_tools": True}, {"instructed": True}):
        config = dataclasses.replace(ALPHA, tokens=TokenIds(), **flags)
        write(tiny(config), tmp_path / "other")
        found = load(tmp_path / "other").config
        for name in ("thinks", "calls_tools", "instructed"):
            assert getattr(found, name) == getattr(config, name)


@pytest.mark.parametrize("config", [ALPHA, BETA], ids=["alpha", "beta"])
def test_a_preset_has_the_tokens_and_the_parts_that_its_published_file_has(tmp_path, config):
    write(tiny(config), tmp_path)
    found = load(tmp_path).config
    same = ("tokens", "thinks", "calls_tools", "instructed")
    assert [getattr(found, name) for name in same] == [getattr(config, name) for name in same]


def test_positions_are_rounded_where_the_one_who_loads_says_so(beta, tmp_path):
    """The format does not say whether a checkpoint learned with them; our own does."""
    rounded, exact = load(beta, rope_rounding="bfloat16"), load(beta)
    assert exact.config.rope_rounding == "none"
    for name in ("rope", "encoder_rope", "write_rope"):
        table, expected = getattr(rounded, name), getattr(exact, name)
        assert (table is None) == (expected is None)
        assert table is None or not torch.equal(table, expected)
    rounded.save_pretrained(tmp_path / "own")
    again = load(tmp_path / "own")
    assert again.config.rope_rounding == again.config.encoder.rope_rounding == "bfloat16"
    assert_same(load(tmp_path / "own", rope_rounding="none"), exact)
    with pytest.raises(ConfigError, match="rope_rounding must be one of none.*got 'float8'"):
        load(beta, rope_rounding="float8")


@pytest.mark.parametrize("gate", ["silu", "gelu", "relu", "linear"])
def test_a_gate_of_the_memory_read_alone_keeps_its_activation(tmp_path, gate):
    read = counts(2, 1, output_bias=True, output_gate=gate)
    config = memory(dataclasses.replace(ALPHA, attention=counts(2, 1, output_bias=True)), read=read)
    write(tiny(config), tmp_path)
    assert load(tmp_path).config.memory.read.output_gate == gate
    assert_same(load(tmp_path), tiny(config))
