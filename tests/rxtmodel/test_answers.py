"""Reading answers as they are generated: thinking, answer, tool calls, and what is malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtmodel import AnswerReader, TokenIds, ToolCall, ToolCallError, parse_tool_calls, read_answer
from rxtmodel.template import ANSWER, BOS, EOS, PAD, QUERY, THINK, TOOL_CALL

OURS = TokenIds()
text = st.lists(st.integers(11, 40), max_size=5)


@given(text, text, text, st.booleans())
def test_what_the_template_builds_is_read_back(thinking, answer, call, chosen):
    """In "auto" the first token says what comes; else the prompt has said it."""
    ids = OURS.interaction_ids([20], answer, thinking=thinking, tool_call=call)
    mode = "auto" if chosen else "extended" if thinking else "fast"
    prompt = OURS.query_ids([20], thinking=mode)
    assert ids[: len(prompt)] == prompt
    parts = read_answer(OURS, ids[len(prompt) :], mode)
    assert parts.thinking == tuple(thinking)
    assert parts.answer == tuple(answer)
    assert parts.tool_calls == ((tuple(call),) if call else ())
    assert parts.ended and not parts.stray


def test_every_token_says_at_once_what_it_is_part_of():
    reader = AnswerReader(OURS, "auto")
    drawn = [THINK, 20, 21, ANSWER, 22, TOOL_CALL, 23, EOS]
    assert [reader.push(token) for token in drawn] == [
        None, "thinking", "thinking", None, "answer", None, "tool_call", None,
    ]  # fmt: skip
    assert reader.parts() == read_answer(OURS, drawn, "auto")


def test_an_answer_under_way_says_where_it_stands():
    reader = AnswerReader(OURS, "auto")
    assert reader.parts().section == "query"
    reader.push(THINK)
    assert (reader.parts().section, reader.parts().ended) == ("thinking", False)
    reader.push(ANSWER)
    assert reader.parts().section == "answer"


def test_several_calls_are_kept_apart():
    parts = read_answer(OURS, [TOOL_CALL, 20, TOOL_CALL, 21, 22, EOS])
    assert parts.tool_calls == ((20,), (21, 22))


def test_an_answer_that_was_cut_off_has_not_ended():
    parts = read_answer(OURS, [20, TOOL_CALL, 21])
    assert (parts.ended, parts.section, parts.tool_calls) == (False, "tool_call", ((21,),))


def test_an_answer_ends_with_any_of_its_ends():
    parts = read_answer(TokenIds(ends=(40, 41)), [20, 41, 21])
    assert (parts.answer, parts.ended, parts.stray) == ((20,), True, (21,))


def test_a_model_that_thinks_twice_is_followed():
    parts = read_answer(OURS, [20, ANSWER, 30, THINK, 21, ANSWER, 31, EOS], "extended")
    assert (parts.thinking, parts.answer) == ((20, 21), (30, 31))


def test_what_has_no_place_is_kept_aside():
    parts = read_answer(OURS, [20, ANSWER, PAD, 21, QUERY, EOS, 22, BOS], "auto")
    assert (parts.answer, parts.stray) == ((21,), (20, PAD, QUERY, 22, BOS))


def test_a_model_without_such_tokens_only_answers():
    alpha = TokenIds(think=None, internal=None, tool_use=None, tool_call=None)
    parts = read_answer(alpha, [THINK, 20, TOOL_CALL, EOS])
    assert (parts.answer, parts.tool_calls) == ((THINK, 20, TOOL_CALL), ())


@pytest.mark.parametrize(
    ("written", "calls"),
    [
        ('{"name": "f"}', [ToolCall(name="f", arguments={})]),
        (' {"name": "f", "arguments": {"x": [1, null]}}\n',
         [ToolCall(name="f", arguments={"x": [1, None]})]),
        ('{"name": "f", "arguments": "{\\"x\\": 1}", "id": "a"}',
         [ToolCall(name="f", arguments={"x": 1}, id="a")]),
        ('[{"name": "f"}, {"name": "g"}]',
         [ToolCall(name="f", arguments={}), ToolCall(name="g", arguments={})]),
    ],
)  # fmt: skip
def test_calls_are_read(written, calls):
    assert parse_tool_calls(written) == tuple(calls)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "Expecting value at character 0"),
        ("weather(Oslo)", "Expecting value at character 0"),
        ('{"name": "f", "arguments": {"x": ', "Expecting value at character 33"),
        ('{"name": "f"} and so on', "Extra data at character 14"),
        ("{'name': 'f'}", "Expecting property name"),
        ("[]", "the list is empty"),
        ("null", "an object is needed, found nothing"),
        ("true", "an object is needed, found a truth value"),
        ('["f"]', "an object is needed, found a string"),
        ('[{"name": "f"}, 3]', "an object is needed, found a number"),
        ("{}", "'name' must be the name of a function"),
        ('{"name": " "}', "'name' must be the name of a function"),
        ('{"name": 3}', "'name' must be the name of a function"),
        ('{"name": "f", "arguments": [1]}', "'arguments' must be an object, found a list"),
        ('{"name": "f", "arguments": null}', "'arguments' must be an object, found nothing"),
        ('{"name": "f", "arguments": "x"}', "Expecting value at character 0"),
        ('{"name": "f", "arguments": "3"}', "'arguments' must be an object, found a number"),
        ('{"name": "f", "id": 3}', "'id' must be a string, found a number"),
        ('{"name": "f", "city": "Oslo"}', "a call has no field city"),
        ('{"name": "f", "name": "g"}', "name is given twice"),
        ('{"name": "f", "arguments": {"x": NaN}}', "NaN is not a number of JSON"),
        ('{"name": "f", "arguments": {"x": 1e999}}', "1e999 is too large for a number"),
        ('{"name": "f", "arguments": {"x": -1e999}}', "-1e999 is too large for a number"),
        ('{"name": "f", "arguments": {"x": %s}}' % ("1" * 5000), "5000 digits is too long"),
        ('{"name": "f", "arguments": "{\\"x\\": 1e999}"}', "1e999 is too large for a number"),
        (None, "text is needed, found NoneType"),
        (b"{}", "text is needed, found bytes"),
        ("[" * 200_000, "it is nested too deeply"),
    ],
)
def test_what_is_no_call_says_why_and_keeps_the_text(written, reason):
    with pytest.raises(ToolCallError) as caught:
        parse_tool_calls(written)
    assert reason in str(caught.value)
    assert caught.value.text == written


@given(st.text() | st.text('{}[]",:name arguments123', max_size=30))
def test_no_text_does_anything_else_than_to_be_read_or_refused(written):
    try:
        calls = parse_tool_calls(written)
    except ToolCallError:
        return
    assert all(call.name for call in calls)
