"""``config.json`` of Llama-style decoders: every field that is read is checked, and named."""

from __future__ import annotations

from typing import Any

import pytest

from rxtmodel import CheckpointError
from rxtmodel.formats.llama_config import fields_of, token_ids

PLAIN: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
    "max_position_embeddings": 48, "hidden_act": "silu", "mlp_bias": False, "rms_norm_eps": 1e-5,
    "rope_theta": 500.0, "tie_word_embeddings": False, "attention_dropout": 0.0,
    "attention_bias": False, "rope_scaling": None, "layer_types": None, "sliding_window": None,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None,
}  # fmt: skip
NO_WHOLE = ("x", None, True, 1.5, 0, -3, [4])
NO_NUMBER = ("x", None, True, [1], float("nan"), float("inf"), 10**400, -1.0)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("vocab_size", NO_WHOLE, "vocab_size must be a whole number >= 1"),
        ("hidden_size", NO_WHOLE, "hidden_size must be a whole number >= 1"),
        ("intermediate_size", NO_WHOLE, "intermediate_size must be a whole number >= 1"),
        ("num_hidden_layers", NO_WHOLE, "num_hidden_layers must be a whole number >= 1"),
        ("num_attention_heads", NO_WHOLE, "num_attention_heads must be a whole number >= 1"),
        ("max_position_embeddings", NO_WHOLE, "max_position_embeddings must be a whole number"),
        ("head_dim", ("x", True, 1.5, 0, -3), "head_dim must be a whole number >= 1"),
        ("num_key_value_heads", ("x", True, 0), "num_key_value_heads must be a whole number >= 1"),
        ("rms_norm_eps", NO_NUMBER, "rms_norm_eps must be a number in"),
        ("rope_theta", (*NO_NUMBER, 0), "rope_theta must be a number in"),
        ("attention_dropout", NO_NUMBER, "attention_dropout must be a number in"),
        ("mlp_bias", ("x", 1), "mlp_bias must be true or false"),
        ("tie_word_embeddings", ("x", 1), "tie_word_embeddings must be true or false"),
        ("use_sliding_window", ("x", 1), "use_sliding_window must be true or false"),
        ("hidden_act", (None, ["silu"], 5), "hidden_act must be the name of one"),
        ("layer_types", (5, "full_attention", [5]), "layer_types must be a list of names"),
        ("rope_scaling", ("x", [1]), "rope_scaling must be an object or null"),
        ("rope_parameters", ("x", 5), "rope_parameters must be an object or null"),
    ],
)
def test_a_field_of_another_type_or_range_is_named_with_its_value(name, values, words):
    for value in values:
        with pytest.raises(CheckpointError, match=words) as caught:
            fields_of(PLAIN | {name: value})
        assert str(caught.value).endswith(f"found {value!r}")


@pytest.mark.parametrize("name", ["bos_token_id", "eos_token_id", "pad_token_id"])
@pytest.mark.parametrize("value", ["x", True, 1.5, [1, "x"], {"id": 1}])
def test_what_cannot_be_the_id_of_a_token_is_named(name, value):
    with pytest.raises(CheckpointError, match=f"{name} must be an id, a list of ids or null"):
        token_ids(PLAIN | {name: value}, 40, {})


def test_what_cannot_be_an_id_in_the_file_of_drawing_is_named_with_the_file():
    with pytest.raises(CheckpointError, match=r"eos_token_id of generation_config.json .* 'x'"):
        token_ids(PLAIN, 40, {"eos_token_id": "x"})


def test_null_stands_for_what_transformers_takes_it_for():
    names = ("num_key_value_heads", "head_dim", "mlp_bias", "tie_word_embeddings")
    fields = fields_of(PLAIN | dict.fromkeys(names))
    assert (fields["attention"].num_kv_heads, fields["head_dim"]) == (4, 4)
    assert fields["ff_bias"] is fields["tie_head"] is False


@pytest.mark.parametrize("model_type", ["mistral", "qwen3"])
@pytest.mark.parametrize("kinds", [None, ["full_attention", "sliding_attention"]])
def test_a_window_as_long_as_the_longest_interaction_hides_nothing(model_type, kinds):
    data = PLAIN | {"model_type": model_type, "use_sliding_window": True, "layer_types": kinds}
    assert fields_of(data | {"sliding_window": 16}, 16)["max_seq_len"] == 16
    for longest in (17, None):
        with pytest.raises(CheckpointError, match="sliding_window=16 .*max_seq_len is at most 16"):
            fields_of(data | {"sliding_window": 16}, longest)


def test_a_decoder_for_long_texts_with_a_window_of_our_longest_interaction_is_taken():
    data = PLAIN | {"model_type": "mistral", "max_position_embeddings": 32_768}
    assert fields_of(data | {"sliding_window": 4096})["max_seq_len"] == 4096


def test_mistral_has_no_switch_for_its_window():
    data = PLAIN | {"model_type": "mistral", "use_sliding_window": False, "sliding_window": 16}
    with pytest.raises(CheckpointError, match="sliding_window=16"):
        fields_of(data)


def test_a_window_that_is_switched_off_is_not_looked_at():
    assert fields_of(PLAIN | {"model_type": "qwen3", "sliding_window": "x"})


def test_layers_with_a_window_of_unknown_length_are_refused():
    with pytest.raises(CheckpointError, match="layer_types=.'sliding_attention'"):
        fields_of(PLAIN | {"layer_types": ["sliding_attention"]})


def test_a_window_that_is_no_length_is_named():
    data = PLAIN | {"model_type": "mistral", "sliding_window": "x"}
    with pytest.raises(CheckpointError, match="sliding_window must be a whole number >= 1"):
        fields_of(data)


@pytest.mark.parametrize("partial", [0.5, 0, "x"])
def test_positions_of_a_part_of_each_head_are_refused(partial):
    with pytest.raises(CheckpointError, match=f"partial_rotary_factor={partial!r}"):
        fields_of(PLAIN | {"partial_rotary_factor": partial})


@pytest.mark.parametrize(
    ("name", "value"),
    [("rope_parameters", {"full_attention": {"rope_theta": 1e6}}), ("rope_interleaved", True)],
)
def test_positions_by_kinds_of_layers_or_of_pairs_side_by_side_are_refused(name, value):
    with pytest.raises(CheckpointError, match=f"a decoder with {name}="):
        fields_of(PLAIN | {name: value})
