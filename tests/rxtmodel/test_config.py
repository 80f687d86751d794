"""Configurations that cannot be built say which field is at fault."""

from __future__ import annotations

import json

import pytest

from rxtmodel import (
    AttentionConfig,
    ConfigError,
    MemoryConfig,
    RxtConfig,
    RxtModelError,
    TokenIds,
)

from .tiny import EVERY_OPTION, VARIANTS, tiny_config


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_configuration_survives_json(variant):
    config = tiny_config(variant, memory=EVERY_OPTION, encoder_ff_dim=None)
    assert RxtConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_default_is_written_out():
    data = RxtConfig(vocab_size=30).to_dict()
    assert data["memory"]["num_slots"] == 64
    assert data["attention"] == {
        "num_query_heads": 4, "num_kv_heads": 4,
        "output_bias": False, "output_gate": "none", "qk_norm": False,
    }  # fmt: skip
    assert data["encoder_ff_dim"] is None


@pytest.mark.parametrize("place", [(), ("memory",), ("attention",)], ids=str)
def test_an_unknown_key_is_named(place):
    data = tiny_config().to_dict()
    inner = data
    for key in place:
        inner = inner[key]
    inner["colour"] = "red"
    with pytest.raises(ConfigError, match="has no field colour"):
        RxtConfig.from_dict(data)


def test_a_missing_key_is_named():
    with pytest.raises(ConfigError, match="vocab_size"):
        RxtConfig.from_dict({})
    with pytest.raises(ConfigError, match="num_kv_heads"):
        RxtConfig.from_dict({"vocab_size": 9, "attention": {"num_query_heads": 2}})


@pytest.mark.parametrize("data", [None, [], "x", {"vocab_size": 9, "memory": None}])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(ConfigError, match="needs an object"):
        RxtConfig.from_dict(data)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"vocab_size": 0}, "vocab_size"),
        ({"num_layers": 0}, "num_layers"),
        ({"num_layers": 2.0}, "num_layers.*2.0"),
        ({"embed_dim": 0}, "embed_dim"),
        ({"ff_dim": -1}, "ff_dim"),
        ({"encoder_ff_dim": 0}, "encoder_ff_dim"),
        ({"max_seq_len": True}, "max_seq_len"),
        ({"head_dim": 0}, "head_dim"),
        ({"head_dim": 5}, "head_dim must be even.*5"),
        ({"embed_dim": 9}, "embed_dim=9.*num_heads=2"),
        ({"memory": {"num_slots": 0}}, "num_slots"),
        ({"memory": {"num_heads": 0}}, "num_heads"),
        ({"memory": {"num_groups": 0}}, "num_groups"),
        ({"memory": {"num_groups": 3}}, "num_layers=4.*num_groups=3"),
        ({"memory": {"gate": "wooden"}}, "gate must be one of.*'wooden'"),
        ({"memory": {"gate_activation": "relu"}}, "gate_activation must be one of.*'relu'"),
        ({"norm_eps": -1.0}, "norm_eps must be a number > 0, got -1.0"),
        ({"norm_eps": 0.0}, "norm_eps must be a number > 0, got 0.0"),
        ({"norm_eps": "x"}, "norm_eps must be a number > 0, got 'x'"),
        ({"rope_base": 0}, "rope_base must be a number > 0, got 0"),
        ({"rope_base": -5.0}, "rope_base must be a number > 0, got -5.0"),
        ({"rope_base": float("nan")}, "rope_base must be a number > 0, got nan"),
        ({"rope_base": float("inf")}, "rope_base must be a number > 0, got inf"),
        ({"rope_base": None}, "rope_base must be a number > 0, got None"),
        ({"memory": {"rope_base": 0.0}}, "rope_base must be a number > 0, got 0.0"),
        ({"memory": {"gate_init": "x"}}, "gate_init must be a finite number, got 'x'"),
        ({"memory": {"gate_init": float("nan")}}, "gate_init must be a finite number, got nan"),
        ({"memory": {"norm_gate_init": None}}, "norm_gate_init must be a finite number, got None"),
        ({"gated": "no"}, "gated must be True or False, got 'no'"),
        ({"tie_head": "no"}, "tie_head must be True or False, got 'no'"),
        ({"thinks": 1}, "thinks must be True or False, got 1"),
        ({"memory": {"slot_ids": "x"}}, "slot_ids must be True or False, got 'x'"),
        ({"attention": None}, "attention must be of class AttentionConfig, got None"),
        ({"attention": {}}, "attention must be of class AttentionConfig, got dict"),
        ({"experts": {"top_k": 1}}, "experts must be of class ExpertsConfig, got dict"),
        ({"encoder": 5}, "encoder must be of class StackConfig, got int"),
        ({"tokens": None}, "tokens must be of class TokenIds, got None"),
        ({"memory": {"read": 3}}, "read must be of class AttentionConfig, got int"),
        ({"stateless_before": "dense"}, "stateless_before must hold .*got 'dense'"),
        ({"stateless_after": None}, "stateless_after must hold .*got None"),
        ({"stateless_after": ("thin",)}, "stateless_after must hold .*'thin'"),
    ],
)
def test_a_value_that_cannot_be_is_named(fields, words):
    with pytest.raises(ConfigError, match=words):
        tiny_config(**fields)


@pytest.mark.parametrize("memory", [None, {}])
def test_a_memory_that_is_no_configuration_is_named(memory):
    with pytest.raises(ConfigError, match="memory must be of class MemoryConfig, got"):
        RxtConfig(vocab_size=40, memory=memory)


@pytest.mark.parametrize("variant", VARIANTS)
def test_memory_heads_that_carry_positions_are_of_even_width(variant):
    if variant == "delta":
        assert tiny_config(variant, memory={"head_dim": 5}).memory_head_dim == 5
        return
    with pytest.raises(ConfigError, match="memory head_dim must be even for RoPE, got 5"):
        tiny_config(variant, memory={"head_dim": 5})


@pytest.mark.parametrize("name", ["pad", "eos", "unk", "tool_call"])
@pytest.mark.parametrize("token", [-5, "x", True, 3.0])
def test_an_id_that_cannot_be_is_named(name, token):
    with pytest.raises(ConfigError, match=f"tokens.{name} must be an id >= 0.*got {token!r}"):
        TokenIds(**{name: token})


@pytest.mark.parametrize("name", ["pad", "bos", "eos", "query", "answer"])
def test_every_model_has_the_tokens_of_the_frame(name):
    with pytest.raises(ConfigError, match=f"tokens.{name} must be an id >= 0, got None"):
        TokenIds(**{name: None})


@pytest.mark.parametrize("ends", [5, (-1,), ("x",), None])
def test_ends_are_ids(ends):
    with pytest.raises(ConfigError, match="tokens.ends must be a tuple of ids >= 0"):
        TokenIds(ends=ends)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (TokenIds(mask=24), "tokens.mask=24 must be below vocab_size=24"),
        (TokenIds(ends=(11, 30)), r"tokens.ends\[1\]=30 must be below vocab_size=24"),
        (TokenIds(answer=5), "tokens.query=5 is the id of answer too"),
        (TokenIds(answer=3), "tokens.answer=3 is the id of eos too"),
        (TokenIds(ends=(6,)), r"tokens.answer=6 is the id of ends\[0\] too"),
    ],
)
def test_ids_that_do_not_fit_a_model_are_named(tokens, words):
    with pytest.raises(ConfigError, match=words):
        tiny_config(tokens=tokens)


def test_tokens_that_a_model_does_not_use_may_share_an_id():
    shared = TokenIds(bos=3, eos=3, think=9, tool_use=9)
    assert tiny_config(tokens=shared).tokens == shared
    with pytest.raises(ConfigError, match="tokens.think=9 is the id of tool_use too"):
        tiny_config(tokens=shared, thinks=True)


def test_an_unknown_variant_is_named():
    with pytest.raises(ConfigError, match="variant must be one of.*'dleta'"):
        MemoryConfig(variant="dleta")


@pytest.mark.parametrize(("q", "kv"), [(0, 1), (1, 0), (4, 3), (3, 4)])
def test_head_counts_must_divide(q, kv):
    with pytest.raises(ConfigError, match="heads"):
        AttentionConfig(num_query_heads=q, num_kv_heads=kv)


@pytest.mark.parametrize("variant", VARIANTS)
def test_memory_heads_are_as_wide_as_the_others_where_they_carry_positions(variant):
    """All rotated keys and queries share a table of one width; the delta rule rotates nothing."""
    if variant == "delta":
        assert tiny_config(variant, memory={"num_heads": 4}).memory.num_heads == 4
        return
    with pytest.raises(ConfigError, match="embed_dim=8 must be memory num_heads=4 times"):
        tiny_config(variant, memory={"num_heads": 4, "num_groups": 1})


def test_configuration_errors_are_also_value_errors_of_the_package():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, RxtModelError)


def test_the_fingerprint_tells_any_two_configurations_apart():
    configs = [
        tiny_config(),
        tiny_config("simple"),
        tiny_config(ff_dim=13),
        tiny_config(rope_base=9999.0),
        tiny_config(memory={"gate_init": 2.0}),
        tiny_config(attention=AttentionConfig(num_query_heads=2, num_kv_heads=2)),
    ]
    assert len({config.fingerprint() for config in configs}) == len(configs)
    assert tiny_config().fingerprint() == tiny_config().fingerprint()
