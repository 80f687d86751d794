"""``rxt convert llama``: a folder in, a folder out, or one line that says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adapters.cli import main
from rxtmodel import ReactiveTransformer


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="2KB")
    return folder


def convert(*arguments: object) -> int:
    return main(["convert", "llama", *map(str, arguments)])


def test_a_folder_becomes_a_model_folder(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted((p.name, p.read_bytes()) for p in llama.iterdir())
    assert convert(llama, "--slots", 5, "--max-seq-len", 20) == 0
    printed, errors = capsys.readouterr()
    assert (
        "tiny-rxt: " in printed and "a memory of (2, 5, 16)" in printed and "'query': " in printed
    )
    assert "has no tokenizer.json, which rxt chat needs" in errors.splitlines()[-1]
    model = ReactiveTransformer.from_pretrained(tmp_path / "tiny-rxt")
    theirs = LlamaForCausalLM.from_pretrained(llama)
    ids = torch.randint(40, (1, 20))
    with torch.inference_mode():
        found = model(ids, model.initial_memory())[..., :40]
        torch.testing.assert_close(found, theirs(ids).logits, atol=1e-5, rtol=1e-5)
    assert sorted((p.name, p.read_bytes()) for p in llama.iterdir()) == before


def test_a_variant_and_a_type_can_be_chosen(llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert convert(llama, "--out", out, "--variant", "delta", "--dtype", "bfloat16") == 0
    assert json.loads((out / "config.json").read_text())["memory"]["variant"] == "delta"
    whole = tmp_path / "whole"
    assert convert(llama, "--out", whole, "--variant", "delta") == 0
    size = [(folder / "model.safetensors").stat().st_size for folder in (out, whole)]
    assert size[0] < 0.6 * size[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--variant", "other"], "rxt convert: variant must be one of"),
        (["--out", "{llama}"], "exists and is not empty; choose another folder with --out"),
    ],
)
def test_what_cannot_be_is_one_line(
    llama: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert convert(llama, *(a.format(llama=llama) for a in arguments)) == 1
    errors = capsys.readouterr().err
    assert words in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("attention_bias", True, "attention_bias=True cannot be converted exactly"),
        ("hidden_act", None, "hidden_act must be the name of one, found None"),
        ("layer_types", 5, "layer_types must be a list of names, found 5"),
        ("head_dim", "x", "head_dim must be a whole number >= 1, found 'x'"),
        ("rms_norm_eps", "x", "rms_norm_eps must be a number in [0, 1), found 'x'"),
    ],
)
def test_a_field_that_cannot_be_is_one_line_and_leaves_nothing(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, value, words: str
) -> None:
    path = llama / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    capsys.readouterr()
    assert convert(llama, "--out", tmp_path / "out") == 1
    errors = capsys.readouterr().err
    assert words in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_cannot_be_used_is_one_line_and_leaves_nothing(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (llama / "tokenizer.json").write_text("{}")
    assert convert(llama, "--out", tmp_path / "out") == 1
    errors = capsys.readouterr().err
    assert "tokenizer.json is not a tokenizer file" in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_does_not_exist_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(tmp_path / "none", "--out", tmp_path / "out") == 1
    assert "none does not exist" in capsys.readouterr().err
