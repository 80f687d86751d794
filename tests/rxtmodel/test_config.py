"""Configurations that cannot be built say which field is at fault."""

from __future__ import annotations

import json

import pytest

from rxtmodel import AttentionConfig, ConfigError, MemoryConfig, RxtConfig, RxtModelError

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
    ],
)
def test_a_value_that_cannot_be_is_named(fields, words):
    with pytest.raises(ConfigError, match=words):
        tiny_config(**fields)


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
