"""Batches of dialogues: reproducible, rightly encoded, with the answers marked."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch

from adapters.tokenizer import Tokenizer
from curriculum.batch import DialogueBatch
from curriculum.dialogue_data import BatchShape, DialogueBatches, WordEncoder, batches, make_batch
from curriculum.dialogues import Mix, sample_dialogue
from rxtmodel.template import ANSWER, BOS, EOS, PAD, QUERY

from .tiny import SHAPE, batch, data, encode

MIX = Mix(max_facts=3)


def same(one: DialogueBatch, other: DialogueBatch) -> bool:
    names = [f.name for f in dataclasses.fields(DialogueBatch)]
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in names)


def test_a_batch_is_a_pure_function_of_seed_and_number():
    first = data()
    expected = [first[i] for i in range(3)]
    again = data()
    assert all(same(again[i], expected[i]) for i in (2, 0, 1, 1))
    assert not same(expected[0], expected[1])
    assert not same(expected[0], data(seed=1)[0])


def test_the_global_generators_have_no_say():
    random.seed(1)
    one = data()[5]
    random.seed(2)
    torch.manual_seed(2)
    assert same(one, data()[5])


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_come_in_the_order_that_was_asked_for(workers):
    source = data()
    found = list(batches(source, [4, 0, 2], workers=workers))
    assert [same(b, source[i]) for b, i in zip(found, (4, 0, 2), strict=True)] == [True] * 3


def test_the_shapes_are_as_announced():
    b = batch()
    assert b.turns_BTW.shape == (3, 4, 40)
    assert b.probes_BRPW.shape == b.targets_BRPW.shape == (3, 3, 2, 40)
    assert b.targets_BRPW.dtype == torch.bool
    states = b.states_R.tolist()
    assert len(set(states)) == 3
    assert states == sorted(states)
    assert states[0] >= 1
    assert states[-1] == 4, "the last state is always probed"


def test_turns_are_those_of_the_dialogue_drawn():
    rng, twin = random.Random(7), random.Random(7)
    b = make_batch(encode, rng, dataclasses.replace(SHAPE, dialogues=1), MIX)
    earlier = twin.sample(range(1, 4), 2)
    states = sorted((*earlier, 4))
    dialogue = sample_dialogue(twin, 4, MIX, probe_after=[s - 1 for s in states], probes=2)
    for turn, row in zip(dialogue.turns, b.turns_BTW[0].tolist(), strict=True):
        ids = [BOS, QUERY, *encode(turn.query), ANSWER, *encode(turn.answer), EOS]
        assert row == ids + [PAD] * (40 - len(ids))
    last = b.probes_BRPW[0, -1].tolist()
    for turn, row in zip(dialogue.probes[-1], last, strict=True):
        ids = [BOS, QUERY, *encode(turn.query), ANSWER, *encode(turn.answer), EOS]
        assert row[: len(ids)] == ids


def test_the_first_probe_of_a_state_is_the_next_turn_where_there_is_one():
    b = batch()
    for r, state in enumerate(b.states_R.tolist()):
        for row in range(3):
            if state < 4:
                assert torch.equal(b.probes_BRPW[row, r, 0], b.turns_BTW[row, state])


def test_exactly_the_answer_and_its_end_are_scored():
    b = batch()
    for ids, scored in zip(
        b.probes_BRPW.flatten(0, 2).tolist(), b.targets_BRPW.flatten(0, 2).tolist(), strict=True
    ):
        start, end = ids.index(ANSWER) + 1, ids.index(EOS)
        assert end > start
        assert [i for i, flag in enumerate(scored) if flag] == list(range(start, end + 1))


def test_dialogues_with_a_turn_that_is_too_long_are_drawn_again():
    wide = make_batch(encode, random.Random(3), dataclasses.replace(SHAPE, dialogues=40), MIX)
    lengths = (wide.turns_BTW != PAD).sum(-1).flatten().tolist()
    narrow = dataclasses.replace(SHAPE, dialogues=40, width=sorted(lengths)[-8])
    b = make_batch(encode, random.Random(3), narrow, MIX)
    assert max(lengths) > narrow.width
    for ids in (*b.turns_BTW.flatten(0, 1).tolist(), *b.probes_BRPW.flatten(0, 2).tolist()):
        assert ids[0] == BOS
        assert ids.count(EOS) == 1, "a turn is whole, with nothing left of the one drawn before"
        assert set(ids[ids.index(EOS) + 1 :]) <= {PAD}


def test_a_width_that_nothing_fits_into_is_an_error_and_no_endless_search():
    with pytest.raises(ValueError, match="more than 5 tokens; use a larger width"):
        make_batch(encode, random.Random(0), dataclasses.replace(SHAPE, width=5), MIX)


def test_ids_of_a_large_vocabulary_survive():
    def far(text: str) -> list[int]:
        return [100_000 + i for i in encode(text)]

    b = make_batch(far, random.Random(0), SHAPE, MIX)
    ids = b.turns_BTW[b.turns_BTW > ANSWER + 4]
    assert ids.min() >= 100_000


@pytest.fixture(scope="module")
def texts() -> list[str]:
    found = []
    for seed in range(150):
        for turn in sample_dialogue(random.Random(seed), 6).turns:
            found += [turn.query, turn.answer]
    return found


def test_encoding_by_words_is_encoding_the_whole_text(texts):
    tokenizer = Tokenizer.train(texts, 600)
    by_words = WordEncoder(tokenizer.encode)
    odd = ["", " ", "a", " a", "two  spaces", "end ", "tab\tline\nbreak", "Zoë's 12 cafés — 日本"]
    for _ in range(2):  # looked up the second time
        for text in texts + odd:
            assert by_words(text) == tokenizer.encode(text)


def test_each_word_is_encoded_once():
    asked = []

    def spy(text: str) -> list[int]:
        asked.append(text)
        return encode(text)

    by_words = WordEncoder(spy)
    for text in ("my dog my dog", "my dog", "dog"):
        by_words(text)
    assert sorted(asked) == sorted(["my", " dog", " my", "dog"])


def test_a_batch_moves_whole():
    moved = batch().to("cpu")
    assert isinstance(moved, DialogueBatch)
    assert same(moved, batch())


def test_every_phase_sees_dialogues_of_its_own():
    other = DialogueBatches(encode, BatchShape(dialogues=2, turns=6, states=1, probes=1), MIX, 0)[0]
    assert other.turns_BTW.shape[:2] == (2, 6)
    assert other.states_R.tolist() == [6]
