"""The interaction template: ids of what is asked, and what is allowed to come next."""

from __future__ import annotations

import pytest

from rxtmodel import ConfigError, TokenIds
from rxtmodel.template import (
    ANSWER,
    BOS,
    EOS,
    INTERNAL,
    PAD,
    QUERY,
    SPECIAL_TOKENS,
    THINK,
    TOOL_CALL,
    TOOL_USE,
    interaction_ids,
    query_ids,
)

OURS = TokenIds()
ALPHA = TokenIds(think=None, internal=None, tool_use=None, tool_call=None)
ELSEWHERE = TokenIds(pad=90, bos=91, eos=92, query=93, answer=94, think=95, internal=96,
                     tool_use=97, tool_call=98, unk=None, mask=None)  # fmt: skip


def test_an_interaction_begins_with_what_the_decoder_was_given():
    assert query_ids([20, 21]) == [BOS, QUERY, 20, 21, ANSWER]
    assert interaction_ids([20, 21], [22]) == [BOS, QUERY, 20, 21, ANSWER, 22, EOS]


def test_the_ids_of_special_tokens_are_their_places():
    assert [SPECIAL_TOKENS[i] for i in (PAD, BOS, EOS, QUERY, ANSWER)] == [
        "[PAD]",
        "[BOS]",
        "[EOS]",
        "[Q]",
        "[A]",
    ]
    assert len(set(SPECIAL_TOKENS)) == 11


@pytest.mark.parametrize(
    ("thinking", "end"), [("fast", [ANSWER]), ("extended", [THINK]), ("auto", [])]
)
def test_a_prompt_ends_as_the_mode_of_thinking_says(thinking, end):
    assert OURS.query_ids([20], thinking=thinking) == [BOS, QUERY, 20, *end]


def test_a_mode_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="one of fast, extended, auto, got 'slow'"):
        OURS.query_ids([20], thinking="slow")


def test_a_tool_result_takes_the_place_of_a_query():
    assert OURS.query_ids([20], tool_result=True) == [BOS, TOOL_USE, 20, ANSWER]


def test_an_instruction_comes_first_and_may_come_alone():
    assert OURS.query_ids([20], internal=[30]) == [BOS, INTERNAL, 30, QUERY, 20, ANSWER]
    assert OURS.instruction_ids([30, 31]) == [BOS, INTERNAL, 30, 31, EOS]


def test_every_part_of_an_interaction_in_its_place():
    assert ELSEWHERE.interaction_ids(
        [1], [2, 3], thinking=[4], tool_call=[5], internal=[6], tool_result=True
    ) == [91, 96, 6, 97, 1, 95, 4, 94, 2, 3, 98, 5, 92]


def test_a_call_may_come_without_an_answer():
    assert OURS.interaction_ids([20], [], tool_call=[40]) == [BOS, QUERY, 20, ANSWER, TOOL_CALL, 40,
                                                              EOS]  # fmt: skip
    assert OURS.interaction_ids([20], [], thinking=[30], tool_call=[40]) == [
        BOS, QUERY, 20, THINK, 30, TOOL_CALL, 40, EOS,
    ]  # fmt: skip


def test_thinking_that_led_to_nothing_is_an_empty_answer():
    ids = OURS.interaction_ids([20], [], thinking=[30])
    assert ids == [BOS, QUERY, 20, THINK, 30, ANSWER, EOS]


def test_what_was_generated_is_remembered_as_it_was_and_ends_once():
    prompt = OURS.query_ids([20], thinking="extended")
    for drawn in ([30, ANSWER, 21], [30, ANSWER, 21, EOS], [30, ANSWER, 21, EOS, 22]):
        assert OURS.completed_ids(prompt, drawn) == [*prompt, 30, ANSWER, 21, EOS]
    assert OURS.completed_ids(prompt, []) == [*prompt, EOS]


def test_any_of_several_ends_ends_an_answer_and_one_of_them_is_remembered():
    tokens = TokenIds(ends=(40, 41))
    assert tokens.all_ends == (EOS, 40, 41)
    for end in tokens.all_ends:
        assert tokens.completed_ids([20], [21, end, 22]) == [20, 21, EOS]
    assert tokens.allowed("answer") == tokens.allowed("tool_call") == (EOS, 40, 41)
    assert set(tokens.special()) == {*range(11), 40, 41}
    assert not {EOS, 40, 41} & set(tokens.not_drawn())


def test_ids_without_further_ends_are_written_as_ever():
    """Fingerprints are made of them."""
    assert "ends" not in OURS.to_dict()
    assert TokenIds(ends=(40,)).to_dict()["ends"] == (40,)


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda t: t.query_ids([1], thinking="extended"), "think"),
        (lambda t: t.query_ids([1], thinking="auto"), "think"),
        (lambda t: t.query_ids([1], tool_result=True), "tool_use"),
        (lambda t: t.query_ids([1], internal=[2]), "internal"),
        (lambda t: t.instruction_ids([2]), "internal"),
        (lambda t: t.interaction_ids([1], [2], thinking=[3]), "think"),
        (lambda t: t.interaction_ids([1], [2], tool_call=[3]), "tool_call"),
    ],
)
def test_what_a_model_has_no_token_for_is_refused(ask, name):
    with pytest.raises(ConfigError, match=f"this model was trained without the token {name}"):
        ask(ALPHA)


def test_the_model_chooses_between_thinking_and_answering_only_when_it_may():
    assert set(OURS.allowed("query")) == {ANSWER, THINK}
    assert OURS.allowed("thinking") == (ANSWER,)
    assert set(OURS.allowed("thinking", tools=True)) == {ANSWER, TOOL_CALL}
    assert OURS.allowed("answer") == (EOS,)
    assert set(OURS.allowed("answer", tools=True)) == {EOS, TOOL_CALL}
    assert OURS.allowed("tool_call", tools=True) == (EOS,)
    assert ALPHA.allowed("query") == (ANSWER,)
    assert ALPHA.allowed("answer", tools=True) == (EOS,)


def test_special_ids_are_those_that_the_model_has():
    assert OURS.special() == tuple(range(11))
    assert ALPHA.special() == tuple(range(7))
