"""Tokenizers of other models: their text comes out as it went in, piece by piece."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from adapters.answer_parts import Drafts, Parts
from adapters.extended_tokenizer import ForeignVocabulary
from adapters.spelling import SpellingError, spelling_of
from adapters.tokenizer import IncrementalDetokenizer, Tokenizer, TokenizerError
from rxtmodel import TokenIds

from .foreign import BOS, EOS, KINDS, byte_level, sentencepiece

REPEATABLE = settings(derandomize=True, deadline=None, database=None, max_examples=60)
SAMPLES = [
    "my dog is called Biscuit", " two  spaces ", "naïve café", "東京 🦊\n\ttabs", "a", " ",
    f"{BOS} [Q] [A] {EOS}", "▁", "<0x0A>",
]  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(SAMPLES)


def extended(inner: tokenizers.Tokenizer, folder: Path) -> Tokenizer:
    folder.mkdir(exist_ok=True)
    inner.save(str(folder / "tokenizer.json"))
    vocabulary = ForeignVocabulary.find(folder)
    assert vocabulary is not None
    size = vocabulary.size
    names = ("pad", "query", "answer", "think", "internal", "tool_use", "tool_call")
    ids = {name: size + i for i, name in enumerate(names)}
    bos, eos = inner.token_to_id(BOS), inner.token_to_id(EOS)
    return vocabulary.with_template(TokenIds(bos=bos, eos=eos, unk=None, mask=None, **ids))


@pytest.fixture(scope="module", params=list(KINDS))
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return extended(KINDS[request.param](), tmp_path_factory.mktemp("kind"))


@REPEATABLE
@given(text=texts)
def test_text_survives_and_gives_no_special_id(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    # U+2581 is what a space is written as: such a vocabulary cannot tell them apart.
    expected = text.replace("▁", " ") if tokenizer.leads else text
    assert tokenizer.decode(ids) == expected
    assert not set(ids) & set(tokenizer.tokens.special())


@REPEATABLE
@given(data=st.data())
def test_pieces_are_the_text_whatever_ids_come(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    detokenizer = IncrementalDetokenizer(tokenizer)
    text = "".join([detokenizer.push(i) for i in ids] + [detokenizer.finish()])
    assert text == tokenizer.decode(ids)


@REPEATABLE
@given(data=st.data())
def test_answers_do_not_change_each_others_tokens(tokenizer: Tokenizer, data: st.DataObject):
    """What one answer has looked up, others take as it is: texts, and never a wrong one."""
    ids = st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=12)
    shared, stops = Drafts(tokenizer), data.draw(st.sampled_from([(), ("a",), ("dog", "\n")]))
    for said in data.draw(st.lists(ids, max_size=6)):
        ready = Parts(shared, "answer", True, stops)
        alone = Parts(Drafts(tokenizer), "answer", True, stops)
        for place, token in enumerate(said):
            last = place + 1 == len(said)
            draft = ready.push(token, last)
            assert draft == alone.push(token, last)
            if draft.finish is not None:
                break


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", SAMPLES)
def test_text_is_what_the_library_decodes(kind: str, text: str) -> None:
    """An oracle that shares nothing with our tables."""
    inner = KINDS[kind]()
    ids = [inner.token_to_id(BOS), *inner.encode(text, add_special_tokens=False).ids]
    spelling = spelling_of(json.loads(inner.to_str()), ())
    found = b"".join(spelling.bytes[i] for i in ids).decode()
    assert (found.removeprefix(" ") if spelling.leads else found) == inner.decode(ids)


def test_a_character_of_several_tokens_is_held_back(tokenizer: Tokenizer) -> None:
    ids = [i for i in tokenizer.encode("🙈") if tokenizer.token_bytes(i) != b" "]
    detokenizer = IncrementalDetokenizer(tokenizer)
    assert len(ids) > 1
    assert [detokenizer.push(i) for i in ids] == [""] * (len(ids) - 1) + ["🙈"]


def test_a_space_that_was_put_before_a_text_is_taken_away_once(tmp_path: Path) -> None:
    tokenizer = extended(sentencepiece(), tmp_path)
    detokenizer = IncrementalDetokenizer(tokenizer)
    pieces = [detokenizer.push(i) for i in tokenizer.encode("dog is dog")]
    assert "".join(pieces) == "dog is dog" and not pieces[0].startswith(" ")
    plain = extended(byte_level(), tmp_path / "plain")
    assert plain.decode(plain.encode(" dog")) == " dog"
    prefixed = extended(byte_level(add_prefix_space=True), tmp_path / "prefixed")
    assert prefixed.decode(prefixed.encode("dog")) == "dog"


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_metaspace_says_whether_there_is_a_space(scheme: str) -> None:
    inner = sentencepiece()
    inner.normalizer = None
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    inner.decoder = decoders.Metaspace(prepend_scheme=scheme)
    spelling = spelling_of(json.loads(inner.to_str()), ())
    assert spelling.leads == (scheme != "never")
    ids = inner.encode("my dog", add_special_tokens=False).ids
    text = b"".join(spelling.bytes[i] for i in ids).decode()
    assert text == (" my dog" if spelling.leads else "my dog")


def test_a_file_is_the_same_tokenizer_again(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path, tokenizer.tokens)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode("<s> my [Q] dog") == tokenizer.encode("<s> my [Q] dog")


def test_what_is_done_before_the_merges_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    plain = extended(byte_level(), tmp_path)
    prefixed = extended(byte_level(add_prefix_space=True), tmp_path)
    assert plain.fingerprint != prefixed.fingerprint


def test_a_template_token_that_is_a_word_already_gets_another_name(tmp_path: Path) -> None:
    inner = byte_level()
    inner.add_tokens(["[Q]"])
    tokenizer = extended(inner, tmp_path)
    word = inner.token_to_id("[Q]")
    assert tokenizer.encode("[Q]") == [word] and tokenizer.tokens.query != word
    assert tokenizer.decode([word, tokenizer.tokens.query]) == "[Q]"


def test_rows_that_no_token_has_say_nothing(tmp_path: Path) -> None:
    tokenizer = extended(byte_level(), tmp_path)
    tokenizer.save(tmp_path)
    size = tokenizer.vocab_size
    padded = Tokenizer.load(tmp_path, tokenizer.tokens, size=size + 5)
    assert padded.decode([size, size + 4]) == ""
    assert padded.largest_id == size - 1


def test_an_end_that_is_text_is_refused(tmp_path: Path) -> None:
    tokenizer = extended(byte_level(), tmp_path)
    tokenizer.save(tmp_path)
    (word,) = tokenizer.encode("a")
    tokens = dataclasses.replace(tokenizer.tokens, ends=(word,))
    with pytest.raises(TokenizerError, match=f"id {word} should be the special token 'ends'"):
        Tokenizer.load(tmp_path, tokens)


def test_the_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    byte_level().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match=r"id 2 should be the special token 'bos' .* the text"):
        Tokenizer.load(tmp_path)
    with pytest.raises(TokenizerError, match="id 9999 .*'answer' of the template, but is no token"):
        Tokenizer.load(tmp_path, TokenIds(bos=300, eos=301, query=301, answer=9999))


def test_a_vocabulary_that_spells_in_another_way_is_refused(tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer(models.WordLevel({"dog": 0, "<unk>": 1}, unk_token="<unk>"))
    inner.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="must be BPE or Unigram, found WordLevel"):
        ForeignVocabulary.find(tmp_path)
    words = tokenizers.Tokenizer(models.BPE({"d": 0, "o": 1, "do": 2}, [("d", "o")]))
    with pytest.raises(SpellingError, match="neither by bytes"):
        spelling_of(json.loads(words.to_str()), ())


def test_a_unigram_vocabulary_that_text_could_trick_is_refused(tmp_path: Path) -> None:
    inner = tokenizers.Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.0), ("</s>", -1.0)], 0))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.add_special_tokens(["</s>"])
    inner.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match="'</s>' would become the special token 'bos'"):
        ids = dict.fromkeys(("think", "internal", "tool_use", "tool_call", "unk", "mask"))
        Tokenizer.load(tmp_path, TokenIds(bos=2, eos=2, query=2, answer=2, **ids))
