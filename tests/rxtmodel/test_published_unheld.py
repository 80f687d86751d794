"""Models that the published format cannot hold are refused, with the setting and what to do."""

from __future__ import annotations

import dataclasses

import pytest

from rxtmodel import AttentionConfig, CheckpointError, LmConfig, SqaLM, TokenIds

from .published_folders import assert_same, load, write
from .published_samples import ALPHA, FORMS, VARIANTS, counts, memory, tiny
from .tiny import tiny_model


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


def encoder(**fields):
    return dataclasses.replace(ALPHA, encoder=dataclasses.replace(ALPHA.encoder, **fields))


UNHELD = {
    "memory variant 'interlayer' with gate='none'": memory(FORMS["interlayer"], gate="none"),
    **{
        f"gate='replace' of memory variant '{variant}'": memory(FORMS[variant], gate="replace")
        for variant in VARIANTS if variant != "simple"
    },
    "rope_base=12345.5": dataclasses.replace(ALPHA, rope_base=12345.5),
    "rope_base=0.5": dataclasses.replace(ALPHA, rope_base=0.5),
    "encoder rope_base=500.5": encoder(rope_base=500.5),
    "memory rope_base=333.7": memory(ALPHA, rope_base=333.7),
    "rope_rounding='bfloat16'": dataclasses.replace(ALPHA, rope_rounding="bfloat16"),
    "encoder rope_rounding='float16'": encoder(rope_rounding="float16"),
    "head_dim=6, which does not divide embed_dim=16": dataclasses.replace(ALPHA, head_dim=6),
    "encoder head_dim=10, which does not divide": encoder(head_dim=10),
    "memory write head_dim=12, which does not divide": memory(ALPHA, head_dim=12),
    "num_kv_heads=3, which does not divide the 4 heads": dataclasses.replace(
        ALPHA, attention=counts(3, 3, output_bias=True)
    ),
    "two activations of output gates": memory(
        dataclasses.replace(ALPHA, attention=counts(2, 1, output_bias=True, output_gate="silu")),
        read=counts(2, 1, output_bias=True, output_gate="relu"),
    ),
    "other ids of [UNK] and [MASK]": dataclasses.replace(
        ALPHA, tokens=dataclasses.replace(ALPHA.tokens, unk=None)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("setting", "config"), UNHELD.items(), ids=UNHELD.keys())
def test_a_setting_that_would_be_another_when_it_is_read_is_refused(tmp_path, setting, config):
    model = tiny(config)
    with pytest.raises(CheckpointError, match="native format") as caught:
        write(model, tmp_path)
    assert f"cannot hold {setting}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    model.save_pretrained(tmp_path)
    assert_same(load(tmp_path), model)


def test_a_language_model_without_memory_is_refused(tmp_path):
    heads = AttentionConfig(num_query_heads=2, num_kv_heads=1)
    model = SqaLM(LmConfig(vocab_size=24, embed_dim=8, num_layers=1, head_dim=4, attention=heads))
    with pytest.raises(CheckpointError, match="cannot hold a language model without memory"):
        model.save_pretrained(tmp_path, format="published")
    assert list(tmp_path.iterdir()) == []
