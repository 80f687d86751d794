"""Our own files: every default spelled out, a version, and old files that stay what they were."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import adapters.model
from rxtmodel import CheckpointError, ConfigError, ReactiveTransformer, RxtConfig, TokenIds
from rxtmodel.checkpoint import weights_fingerprint
from rxtmodel.config.models import NEW_IN_2, NEW_IN_3, NEW_IN_4
from rxtmodel.files import CONFIG_FILE

from .published_samples import BETA, tiny
from .tiny import VARIANTS, tiny_config, tiny_model

BUNDLED = Path(adapters.model.__file__).parent / "models" / "recall"
FINGERPRINT = "7121290b21ddd253c24b2140bd401101"
"""Of the bundled model. People's saved memories name it: it may change with the weights only."""


def config_of(folder) -> dict:
    return json.loads((folder / CONFIG_FILE).read_text())


def leaves(data: dict, place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    out = []
    for name, value in data.items():
        out.append((*place, name))
        if isinstance(value, dict):
            out += leaves(value, (*place, name))
    return out


def as_version_1(data: dict, new: dict = NEW_IN_2) -> dict:
    """What a version 1 file of the same model looked like."""
    out = {}
    for name, value in data.items():
        if name in ("format", "format_version", "model", *NEW_IN_3, *NEW_IN_4):
            continue
        if isinstance(new.get(name), dict) and name != "tokens":
            out[name] = as_version_1(value, new[name])
        elif name not in new:
            out[name] = value
    return out


@pytest.mark.parametrize("config", [tiny_config(), BETA], ids=["ours", "published"])
def test_every_single_default_is_in_the_file(tmp_path, config):
    """Without any one of them the file is refused, and the error names it."""
    ReactiveTransformer(config).save_pretrained(tmp_path)
    whole = config_of(tmp_path)
    every = [p for p in leaves(whole) if p[0] not in ("format", "format_version", "model")]
    assert len(every) > 50
    for place in every:
        data = json.loads(json.dumps(whole))
        inner = data
        for name in place[:-1]:
            inner = inner[name]
        del inner[place[-1]]
        (tmp_path / CONFIG_FILE).write_text(json.dumps(data))
        with pytest.raises(CheckpointError, match=place[-1]):
            ReactiveTransformer.from_pretrained(tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_of_version_1_is_the_model_that_it_was(tmp_path, variant):
    model = tiny_model(variant)
    model.save_pretrained(tmp_path)
    old = as_version_1(config_of(tmp_path))
    assert "gated" not in old
    assert "gate_per_slot" not in old["memory"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(old))
    loaded = ReactiveTransformer.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert weights_fingerprint(loaded) == weights_fingerprint(model)


@pytest.mark.parametrize(("version", "new"), [(2, NEW_IN_3 | NEW_IN_4), (3, NEW_IN_4)])
def test_a_file_of_an_earlier_version_says_nothing_of_what_came_after(tmp_path, version, new):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    data = {name: value for name, value in config_of(tmp_path).items() if name not in new}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(data | {"format_version": version}))
    assert ReactiveTransformer.from_pretrained(tmp_path).config == model.config


def test_what_a_model_was_trained_for_is_kept_and_is_not_its_shape(tmp_path):
    config = dataclasses.replace(tiny_config(), thinks=True, calls_tools=True, instructed=True)
    ReactiveTransformer(config).save_pretrained(tmp_path)
    assert ReactiveTransformer.from_pretrained(tmp_path).config == config
    assert config.fingerprint() == tiny_config().fingerprint()
    with pytest.raises(ConfigError, match="thinks needs a think token"):
        dataclasses.replace(config, tokens=TokenIds(think=None))
    with pytest.raises(ConfigError, match="instructed needs an internal token"):
        dataclasses.replace(config, tokens=TokenIds(internal=None))
    with pytest.raises(ConfigError, match="calls_tools needs tokens tool_call and tool_use"):
        dataclasses.replace(config, tokens=TokenIds(tool_use=None))


def test_what_version_1_stood_for_does_not_follow_the_defaults(tmp_path, monkeypatch):
    config = tiny_config()
    assert RxtConfig.from_dict(config.to_dict()) == config
    model = tiny_model()
    model.save_pretrained(tmp_path)
    old = as_version_1(config_of(tmp_path))
    (tmp_path / CONFIG_FILE).write_text(json.dumps(old))
    monkeypatch.setitem(NEW_IN_2, "activation", "gelu")
    assert ReactiveTransformer.from_pretrained(tmp_path).config.activation == "gelu"


def test_the_bundled_model_is_the_same_model():
    model = ReactiveTransformer.from_pretrained(BUNDLED)
    assert weights_fingerprint(model)[:32] == FINGERPRINT
    assert model.config.memory.variant == "delta"


def test_a_setting_that_is_not_neutral_changes_the_fingerprint():
    config = tiny_config("interlayer")
    others = [
        dataclasses.replace(config, gated=False),
        dataclasses.replace(config, nope=True),
        dataclasses.replace(config, rope_rounding="bfloat16"),
        dataclasses.replace(config, attention=dataclasses.replace(config.attention, qk_norm=True)),
        dataclasses.replace(config, memory=dataclasses.replace(config.memory, gate_per_slot=False)),
        dataclasses.replace(config, tokens=dataclasses.replace(config.tokens, eos=9)),
    ]
    assert len({c.fingerprint() for c in (config, *others)}) == 7


@pytest.mark.parametrize(
    ("field", "value"), [("rope_base", "x"), ("norm_eps", "x"), ("tie_head", "no")]
)
def test_a_value_that_cannot_be_is_refused(tmp_path, field, value):
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config_of(tmp_path) | {field: value}))
    with pytest.raises(CheckpointError, match=f"{field} must be .* got {value!r}"):
        ReactiveTransformer.from_pretrained(tmp_path)


def test_a_configuration_without_end_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / CONFIG_FILE).write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="is not a model configuration: .*recursion"):
        ReactiveTransformer.from_pretrained(tmp_path)


@pytest.mark.parametrize("version", [5, "2", None])
def test_a_newer_version_is_refused(tmp_path, version):
    tiny_model().save_pretrained(tmp_path)
    data = config_of(tmp_path) | {"format_version": version}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="format version .* reads up to 4; update it"):
        ReactiveTransformer.from_pretrained(tmp_path)


def test_a_format_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="format must be 'native' or 'published', got 'x'"):
        tiny_model().save_pretrained(tmp_path, format="x")


def test_native_and_published_files_of_a_model_are_one_model(tmp_path):
    model = tiny(BETA)
    model.save_pretrained(tmp_path / "a", format="published")
    ReactiveTransformer.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    ReactiveTransformer.from_pretrained(tmp_path / "b").save_pretrained(
        tmp_path / "c", format="published"
    )
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_weights_in_half_the_space_are_rounded_once(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path, dtype=torch.bfloat16)
    loaded = ReactiveTransformer.from_pretrained(tmp_path)
    assert torch.equal(loaded.embedding.weight, model.embedding.weight.bfloat16().float())
