"""``rxt train`` and ``rxt eval`` on a model small enough for a test."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import training
from adapters.cli import main, train
from adapters.cli.recall import wilson
from curriculum import recipes
from curriculum.dialogue_data import BatchShape
from curriculum.dialogues import Mix
from curriculum.trainer import Phase, TrainConfig
from rxtmodel import AttentionConfig, MemoryConfig, RxtConfig

from .rxt import Rxt

TRAIN = ["train", "micro", "--workers", "0", "--device", "cpu"]


def micro(vocab_size: int) -> recipes.Recipe:
    """A few steps of next to nothing."""
    shape = BatchShape(dialogues=2, turns=2, states=1, probes=1)
    return recipes.Recipe(
        model=RxtConfig(
            vocab_size=vocab_size,
            embed_dim=32,
            num_layers=1,
            head_dim=16,
            attention=AttentionConfig(num_query_heads=2, num_kv_heads=1),
            memory=MemoryConfig(variant="delta", num_slots=4, num_heads=2),
            ff_dim=32,
        ),
        train=TrainConfig(phases=(Phase(steps=3, mix=Mix(max_facts=2), shape=shape),), warmup=1),
    )


@pytest.fixture(scope="module", autouse=True)
def recipe() -> Iterator[None]:
    """``rxt train micro`` exists."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recipes.RECIPES, "micro", micro)
        patch.setitem(training.VOCABULARY, "micro", 300)
        patch.setattr(training, "tokenizer_texts", lambda: ["my dog is called Biscuit"])
        patch.setattr(train, "PLOT_QUESTIONS", 1)
        patch.setattr(train, "PLOT_DISTANCE", 2)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run of ``rxt train``."""
    folder = tmp_path_factory.mktemp("micro")
    assert main([*TRAIN, "--out", str(folder), "--no-plots"]) == 0
    return folder


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "trained"))


def test_train_then_chat_then_eval(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(trained / "model")
    done = Rxt(tmp_path).run("chat", "--model", model, "--max-tokens", "3", typed="hello\nyes\n")
    assert (len(done.stdout.splitlines()), done.returncode) == (2, 0), done.stderr

    out = tmp_path / "eval"
    command = ["eval", "recall", "--model", model, "--questions", "2", "--seeds", "2"]
    command += ["--max-distance", "2", "--out", str(out)]
    assert main([*command, "--suite", "distance, up to 4"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["suite", "distance,", "distance,"]
    result = json.loads((out / "recall.json").read_text())
    assert [(row["cell"], row["questions"]) for row in result["rows"]] == [("1", 2), ("2", 2)]
    assert (out / "recall.png").read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--suite", "nonsense"]) == 1


def test_the_same_command_goes_on_and_draws(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that is complete is found complete; what it had left out is drawn."""
    assert main([*TRAIN, "--out", str(trained)]) == 0
    told = capsys.readouterr().out
    assert "(unfinished" not in told
    for name in ("loss.png", "recall.png"):
        assert str(trained / name) in told
        assert (trained / name).read_bytes().startswith(b"\x89PNG")


def test_a_recipe_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "absent"]) == 1
    assert "no recipe 'absent'; there are: recall" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_folder_with_a_file_missing(
    trained: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    (trained / "model" / missing).unlink()
    refused(trained / "model", capsys, says=missing)


def test_a_truncated_weights_file(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = trained / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(trained / "model", capsys, says="model.safetensors")


def refused(model: Path, capsys: pytest.CaptureFixture[str], *, says: str) -> None:
    """``rxt chat`` does not begin, and one line says why."""
    capsys.readouterr()
    assert main(["chat", "--model", str(model), "--store", "memory:"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and says in err


def test_interval() -> None:
    """Wilson's interval holds the share, stays in [0, 1] and narrows with more questions."""
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    rng = random.Random(0)
    for _ in range(100):
        n = rng.randint(1, 1000)
        k = rng.randint(0, n)
        low, high = wilson(k, n)
        assert 0 <= low <= k / n <= high <= 1
