"""``rxt chat`` with models that were not trained here: converted ones, and published ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file

from adapters.cli import main
from adapters.model import ModelError, RxtAdapter, load_model
from rxstream import Runtime, Sampling
from rxtmodel import ReactiveTransformer, TokenIds

from ..rxtmodel.published_samples import ALPHA, tiny
from .foreign import KINDS, byte_level, llama
from .rxt import Rxt

QUERIES = ["what is my dog called? 🦊", " naïve 東京", "<s> [Q] </s>"]


def convert(folder: Path, out: Path, *arguments: str) -> Path:
    assert main(["convert", "llama", str(folder), "--out", str(out), *arguments]) == 0
    return out


@pytest.fixture(scope="module", params=list(KINDS))
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """The base model, and the folder that was made of it."""
    folder = tmp_path_factory.mktemp("base")
    base = llama(folder, KINDS[request.param](), spare=3)
    return base, convert(folder, folder / "out")


def said(base, adapter: RxtAdapter, query: str, count: int) -> list[int]:
    """What the base model says to the same ids, with the rows that the template's tokens have."""
    rows = adapter.model.embedding.weight
    head = rows if adapter.model.head is None else adapter.model.head.weight
    base.resize_token_embeddings(len(rows), mean_resizing=False)
    with torch.no_grad():
        base.get_input_embeddings().weight.copy_(rows)
        base.get_output_embeddings().weight.copy_(head)
    ids, found = adapter.tokenizer.query_ids(query), []
    for _ in range(count):
        with torch.inference_mode():
            logits = base(torch.tensor([[*ids, *found]])).logits[0, -1].clone()
            logits[adapter.model.config.tokens.not_drawn()] = -torch.inf
        found.append(int(logits.argmax()))
        if found[-1] == adapter.tokenizer.tokens.eos:
            return found[:-1]
    return found


def test_a_converted_model_answers_as_the_base_model_and_remembers(converted) -> None:
    base, out = converted
    adapter = load_model(str(out))
    with Runtime(adapter, "memory:") as runtime:
        memory = runtime.memory("m")
        chat = memory.conversation()
        for version, query in enumerate(QUERIES, start=1):
            it = chat.ask(query, sampling=Sampling(max_tokens=20))
            answer, events = it.result(timeout=60), list(it.blocking())
            assert list(answer.token_ids) == said(base, adapter, query, 20)
            assert answer.text == adapter.tokenizer.decode(answer.token_ids)
            assert "".join(e.text for e in events if e.kind == "token") == answer.text
            assert events[-1].kind == "memory_updated" and memory.version == version
        assert not torch.equal(memory.value.tensor, adapter.initial_memory().tensor)


def test_old_tokens_have_their_rows_and_new_ones_the_mean(converted) -> None:
    base, out = converted
    model = ReactiveTransformer.from_pretrained(out)
    tokens = model.config.tokens
    old = min(tokens.query, tokens.pad)
    table = load_file(out.parent / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(model.embedding.weight[:old], table[:old])
    expected = table[:old].mean(0)
    torch.testing.assert_close(model.embedding.weight[tokens.query], expected)
    assert len(model.embedding.weight) == max(len(table), max(tokens.special()) + 1)
    file = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    assert file.id_to_token(tokens.query) == "[Q]" and file.id_to_token(tokens.answer) == "[A]"
    assert file.id_to_token(tokens.bos) == "<s>" and tokens.eos == file.token_to_id("</s>")


@pytest.mark.parametrize("kind", KINDS)
def test_the_chat_opens_a_converted_model_and_goes_on(tmp_path: Path, kind: str) -> None:
    llama(tmp_path / "base", KINDS[kind]())
    out = str(convert(tmp_path / "base", tmp_path / "out", "--slots", "6"))
    rxt = Rxt(tmp_path)
    first = rxt.chat("--max-tokens", "12", model=out, typed="my dog is called Biscuit\n/memory\n")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() and first.stdout.count("\n") == 1
    again = rxt.chat("--max-tokens", "12", model=out, typed="/memory\nwhat is it? 🦊\n/memory\n")
    assert again.returncode == 0 and again.stdout.count("\n") == 1
    versions = [line for line in again.stderr.splitlines() if "version" in line]
    assert "version 1," in versions[0] and "version 2," in versions[1]


def test_a_vocabulary_larger_than_the_embedding_gets_rows(tmp_path: Path) -> None:
    inner = byte_level()
    llama(tmp_path / "base", inner)
    inner.add_special_tokens(["<pad>", "<extra>"])
    inner.save(str(tmp_path / "base" / "tokenizer.json"))
    adapter = load_model(str(convert(tmp_path / "base", tmp_path / "out")))
    assert adapter.model.config.vocab_size == adapter.tokenizer.vocab_size
    assert adapter.tokenizer.encode("<extra>") != [inner.token_to_id("<extra>")]


# Published ones


TOKENS = TokenIds(
    pad=0, unk=1, bos=2, eos=3, mask=4, query=6, answer=5, think=9, tool_call=8, tool_use=7,
    internal=10,
)  # fmt: skip
NAMES = ("[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]", "[A]", "[Q]", "[U]", "[C]", "[T]", "[I]")


def published(folder: Path) -> Path:
    """A model in the format of the reference, with a tokenizer as it trains them."""
    inner = byte_level(add_prefix_space=True, specials=NAMES)
    inner.decoder = None  # type: ignore[assignment]
    config = dataclasses.replace(
        ALPHA, vocab_size=inner.get_vocab_size(), tokens=TOKENS, thinks=True, calls_tools=True,
        instructed=True,
    )  # fmt: skip
    tiny(config).save_pretrained(folder, format="published")
    inner.save(str(folder / "tokenizer.json"))
    return folder


def test_the_chat_opens_a_published_model_with_its_tokenizer(tmp_path: Path) -> None:
    folder = published(tmp_path / "alpha")
    adapter = load_model(str(folder))
    found = adapter.model.config.tokens
    assert (found.query, found.answer, found.tool_call) == (6, 5, 8)
    with Runtime(adapter, "memory:") as runtime:
        it = runtime.memory("m").conversation().ask("dog", sampling=Sampling(max_tokens=9))
        answer = it.result(timeout=60)
        assert [event.kind for event in it.blocking()][-1] == "memory_updated"
    assert answer.text == adapter.tokenizer.decode(answer.token_ids) != ""
    assert not set(answer.token_ids) & set(adapter.tokenizer.tokens.not_drawn())
    done = Rxt(tmp_path).chat("--max-tokens", "9", model=str(folder), typed="dog\n/memory\n")
    assert done.returncode == 0 and "version 1," in done.stderr, done.stderr


def test_a_published_model_without_tokenizer_is_one_line(tmp_path: Path) -> None:
    folder = published(tmp_path / "alpha")
    (folder / "tokenizer.json").unlink()
    done = Rxt(tmp_path).chat(model=str(folder), typed="dog\n")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "alpha holds no tokenizer.json; put the one there that the model was" in done.stderr


def test_one_part_of_a_published_model_is_one_line(tmp_path: Path) -> None:
    folder = published(tmp_path / "alpha")
    weights = load_file(folder / "model.safetensors")
    decoder = {name.removeprefix("decoder."): value for name, value in weights.items()
               if name.startswith("decoder.")}  # fmt: skip
    save_file(decoder, folder / "model.safetensors")
    with pytest.raises(ModelError, match="lacks weights that its config needs") as error:
        load_model(str(folder))
    assert "\n" not in str(error.value)


def test_a_tokenizer_that_is_too_large_for_its_model_is_refused(tmp_path: Path) -> None:
    folder = published(tmp_path / "alpha")
    inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    size = inner.get_vocab_size()
    inner.add_tokens(["biscuits"])
    inner.save(str(folder / "tokenizer.json"))
    with pytest.raises(ModelError, match=rf"ids up to {size}, the model's vocabulary has {size}"):
        load_model(str(folder))
