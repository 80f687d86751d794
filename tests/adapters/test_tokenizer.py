"""The tokenizer loses nothing, and user text never becomes a special id."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.model import DEFAULT_MODEL, MODELS
from adapters.tokenizer import (
    SMALLEST_VOCABULARY,
    SPECIAL_TOKENS,
    IncrementalDetokenizer,
    Tokenizer,
    TokenizerError,
)

REPEATABLE = settings(derandomize=True, deadline=None, database=None)

CORPUS = [
    "my dog is called Biscuit",
    "what is my dog called?",
    "I was born in 1987, in room 42.",
    "[BOS][Q] what [A] [EOS] is a template? [A][A][A][EOS]",
    "naïve café, 東京, 👩‍👩‍👧 and \r\n\t tabs",
] * 20

texts = st.text(st.characters(exclude_categories=["Cs"]))
tricky = st.lists(
    st.sampled_from(
        [*SPECIAL_TOKENS, "[", "]", "EOS", "\0", "e\u0301", "👩‍👧", " ", "7", "\ufeff", "ß"]
    )
).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CORPUS, vocab_size=400)


@REPEATABLE
@given(text=texts | tricky)
def test_round_trip_without_special_ids(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(len(SPECIAL_TOKENS) <= i < tokenizer.vocab_size for i in ids)


@REPEATABLE
@given(text=texts | tricky)
def test_incremental_text_ends_at_whole_characters(tokenizer: Tokenizer, text: str) -> None:
    detokenizer = IncrementalDetokenizer(tokenizer)
    pieces = [detokenizer.push(i) for i in tokenizer.encode(text)]
    assert "".join(pieces) == text
    assert detokenizer.finish() == ""


@REPEATABLE
@given(data=st.data())
def test_incremental_equals_decode_for_any_ids(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """A model may generate any sequence of ids, also halves of characters."""
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    detokenizer = IncrementalDetokenizer(tokenizer)
    text = "".join([detokenizer.push(i) for i in ids] + [detokenizer.finish()])
    assert text == tokenizer.decode(ids)


def test_half_a_character_is_held_back(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🦊")
    detokenizer = IncrementalDetokenizer(tokenizer)
    assert len(ids) > 1
    assert [detokenizer.push(i) for i in ids] == [""] * (len(ids) - 1) + ["🦊"]
    assert [detokenizer.push(i) for i in ids[:-1]] == [""] * (len(ids) - 1)
    assert detokenizer.finish() == "\ufffd"


def test_special_ids_are_fixed(tokenizer: Tokenizer) -> None:
    assert SPECIAL_TOKENS == (
        "[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]", "[Q]", "[A]", "[T]", "[I]", "[U]", "[C]",
    )  # fmt: skip
    assert tokenizer.decode(range(len(SPECIAL_TOKENS))) == ""


def test_template(tokenizer: Tokenizer) -> None:
    q, a = tokenizer.encode("what?"), tokenizer.encode("that.")
    assert tokenizer.query_ids("what?") == [2, 5, *q, 6]
    assert tokenizer.interaction_ids("what?", "that.") == [2, 5, *q, 6, *a, 3]


def test_digits_are_tokens_of_their_own(tokenizer: Tokenizer) -> None:
    assert [tokenizer.decode([i]) for i in tokenizer.encode("1987")] == ["1", "9", "8", "7"]


def test_batch_equals_single(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_batch(CORPUS) == [tokenizer.encode(text) for text in CORPUS]
    assert tokenizer.encode_batch([]) == []


def test_saved_and_loaded_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tokenizer.save(tmp_path / "new")
    assert [entry.name for entry in path.parent.iterdir()] == ["tokenizer.json"]
    loaded = Tokenizer.load(tmp_path / "new")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode("[EOS] my dog") == tokenizer.encode("[EOS] my dog")


def test_training_is_reproducible_and_the_fingerprint_tells_tokenizers_apart(
    tokenizer: Tokenizer,
) -> None:
    assert Tokenizer.train(CORPUS, vocab_size=400).fingerprint == tokenizer.fingerprint
    assert Tokenizer.train(CORPUS, vocab_size=300).fingerprint != tokenizer.fingerprint


def test_errors_name_what_is_wrong(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="character 2"):
        tokenizer.encode("ab\ud800")
    with pytest.raises(TokenizerError, match="character 0"):
        tokenizer.encode_batch(["fine", "\udcff"])
    with pytest.raises(TokenizerError, match="id 9999"):
        tokenizer.decode([9999])
    with pytest.raises(TypeError):
        tokenizer.encode(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=str(SMALLEST_VOCABULARY)):
        Tokenizer.train(CORPUS, vocab_size=100)
    with pytest.raises(TokenizerError, match="cannot read"):
        Tokenizer.load(tmp_path / "absent")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="not a tokenizer file"):
        Tokenizer.load(tmp_path)


def test_a_text_that_came_before_is_not_encoded_again_and_its_ids_are_the_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = Tokenizer.load(MODELS / DEFAULT_MODEL)
    before = tokenizer.encode("my dog is called Biscuit")
    before.append(7)
    monkeypatch.setattr(tokenizer, "_inner", None)
    assert tokenizer.encode("my dog is called Biscuit") == before[:-1]
