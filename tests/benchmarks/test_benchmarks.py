"""Every case runs and writes what it says; how fast things are is no test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adapters.model import load_model
from adapters.tokenizer import Tokenizer
from benchmarks.__main__ import CASES, main
from benchmarks.floor import products_of
from benchmarks.loop import answer, endless
from benchmarks.measure import interleave
from benchmarks.report import Check, Report, Table
from benchmarks.stateless import Stateless, decoder_weights
from benchmarks.users_load import Wanted
from benchmarks.users_processes import divided
from rxstream.model import Sampling
from rxtmodel import AttentionConfig, MemoryConfig, ReactiveTransformer, RxtConfig, save_model

TEXTS = ("my dog is called Biscuit", "what is my dog called?", "Your dog is called Biscuit.")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = Tokenizer.train(TEXTS, vocab_size=300)
    config = RxtConfig(
        vocab_size=tokenizer.vocab_size,
        embed_dim=32,
        num_layers=2,
        head_dim=8,
        ff_dim=48,
        attention=AttentionConfig(num_query_heads=2, num_kv_heads=1),
        memory=MemoryConfig(num_slots=8, num_heads=2, variant="delta"),
    )
    torch.manual_seed(0)
    save_model(ReactiveTransformer(config), folder)
    tokenizer.save(folder)
    return folder


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it could run")
def test_a_case_that_needs_a_gpu_says_so(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engine", "--quick", "--model", str(tiny), "--out", str(tmp_path)]) == 2
    assert "needs a CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize("case", [case for case in CASES if case != "engine"])
def test_a_case_runs(
    case: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([case, "--quick", "--model", str(tiny), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    text = (tmp_path / f"{case}.json").read_text()
    assert str(tmp_path) not in text and str(tiny.parent) not in text, "no paths of this machine"
    found = json.loads(text)
    assert found["command"] == f"python -m benchmarks {case} --model tiny --quick"
    assert found["environment"]["versions"]["torch"] and found["date"]
    assert found["tables"] and found["checks"]
    for table in found["tables"]:
        assert table["title"] in printed and table["rows"]
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
    for check in found["checks"]:
        assert check["measured"] > 0 and isinstance(check["met"], bool)


def test_a_process_of_many_that_fails_ends_the_measurement() -> None:
    with pytest.raises(RuntimeError, match="a process that measures has failed"):
        divided(Wanted("no-such-model", 4, 0.1), 2)


def test_an_unknown_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["turn", "--model", "no-such-model"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_case_is_refused() -> None:
    with pytest.raises(SystemExit):
        main(["no-such-case"])


def test_the_stateless_model_reads_the_same_in_one_go_and_in_pieces() -> None:
    config = RxtConfig(vocab_size=50, embed_dim=32, num_layers=2, head_dim=4, ff_dim=48)
    torch.manual_seed(1)
    model = Stateless(config, 32)
    ids = [11, 12, 13, 14, 15, 16, 17]
    model.keep(0)
    whole = model.read(ids)
    model.keep(0)
    model.read(ids[:3])
    pieces = [model.read(ids[3:6]), model.read(ids[6:])]
    assert pieces[-1] == whole
    with torch.inference_mode():
        logits = model.model(torch.tensor([ids]), None)
    assert int(logits[0, -1].argmax()) == whole


def test_the_stateless_model_is_of_the_same_size() -> None:
    config = RxtConfig(vocab_size=50, memory=MemoryConfig(variant="delta"))
    ours, theirs = decoder_weights(ReactiveTransformer(config)), Stateless(config, 8).weights_read
    assert theirs == pytest.approx(ours, rel=0.01)


def test_endless_answers_have_the_same_length(tiny: Path) -> None:
    model = endless(load_model(str(tiny)))
    memory = model.initial_memory()
    for query in TEXTS:
        memory, count = answer(model, memory, query, Sampling(max_tokens=9))
        assert count == 9


def test_interleaving_takes_slow_variants_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, now = {"fast": 0, "slow": 0}, [0.0]
    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: now[0])

    def variant(name: str, seconds: float):
        def measured() -> dict[str, float]:
            calls[name] += 1
            now[0] += seconds
            return {"seconds": 2.0 if name == "slow" else 1.0}

        return measured

    variants = {"fast": variant("fast", 0), "slow": variant("slow", 0.02)}
    found = interleave(variants, 12, seconds_each=0.1)
    assert calls == {"fast": 13, "slow": 6}
    assert found["slow"].ratio("seconds", found["fast"]) == 2


def test_products_are_those_of_the_computation() -> None:
    weight = torch.eye(3)
    seen = []

    class Noisy(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append(func.__name__)
            return super().__torch_function__(func, types, args, kwargs)

    x = torch.ones(1, 3).as_subclass(Noisy)
    replay = products_of(lambda: torch.nn.functional.linear(x, weight).exp())
    seen.clear()
    replay()
    assert seen == ["linear"]


def test_checks_and_cells() -> None:
    assert Check("share", 0.96, 0.95, at_least=True).met
    assert not Check("flat", 0.06, 0.05).met
    report = Report("case", "about", [Table("title", ["a", "b"])])
    report.tables[0].add("x", None)
    assert "-" in report.text()
    with pytest.raises(ValueError, match="1 cells"):
        report.tables[0].add("x")
