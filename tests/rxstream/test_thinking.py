"""Thinking and tool calls: channels of their own, on record, and only by models that can."""

from __future__ import annotations

import pytest
import reactivex as rx

from rxstream import CompletedInteraction, Sampling, operators
from rxstream.errors import QueryRejected
from rxstream.operators import Query
from rxstream.store import LogRecord
from rxstream.stores import records
from rxstream.testing import FakeModel, Recorder
from rxstream.wire import from_wire, to_wire

from .talk import setups

setup = pytest.fixture(setups)
CALL = '{"name": "look"}'
ALL = ("answer", "thinking", "tool_call")


def thinker(**options):
    return FakeModel(channels=ALL, instructed=True, **options)


def recorded(s):
    return [record.completed for record in s.runtime._core.engine.store.log("m")]


def test_each_token_says_what_it_is_part_of_and_the_answer_is_the_answer(setup):
    s = setup(thinker())
    it = s.chat.ask("hello", thinking="extended", tools=True)
    texts = {channel: Recorder(it.pipe(operators.text(channel))) for channel in ALL}
    s.lab.run()
    assert s.letters() == "QSTTTTTTTAUD"
    assert {channel: "".join(found.items) for channel, found in texts.items()} == {
        "thinking": "let me see", "answer": "hello #0", "tool_call": CALL
    }  # fmt: skip
    answer = it.result()
    assert (answer.text, answer.thinking, answer.tool_call) == ("hello #0", "let me see", CALL)
    assert (len(answer.token_ids), answer.usage.answer_tokens) == (2, 7)
    completed = next(e for e in s.events.items if e.kind == "answer_completed")
    assert (completed.text, completed.thinking, completed.tool_call) == (
        answer.text, answer.thinking, answer.tool_call
    )  # fmt: skip
    assert from_wire(to_wire(completed)) == completed


def test_all_parts_are_on_record(setup):
    s = setup(thinker())
    s.chat.ask("hello", thinking="auto", tools=True)
    s.lab.run()
    by_channel: dict[str, tuple[int, ...]] = {}
    for event in s.events.items:
        if event.kind == "token":
            by_channel[event.channel] = (*by_channel.get(event.channel, ()), event.id)
    assert recorded(s) == [
        CompletedInteraction(
            query="hello", answer="hello #0", token_ids=by_channel["answer"],
            thinking="let me see", thinking_ids=by_channel["thinking"],
            tool_call=CALL, tool_call_ids=by_channel["tool_call"],
        )
    ]  # fmt: skip


def test_a_tool_call_without_an_answer_is_remembered_and_thinking_alone_is_not(setup):
    s = setup(thinker())
    s.chat.ask("mute", tools=True)
    s.chat.ask("mute", thinking="extended")
    s.lab.run()
    assert s.letters() == "QQSTTAUDSTTTAK"
    assert [done.tool_call for done in recorded(s)] == [CALL]
    assert s.events.items[-1].reason == "empty"


def test_what_a_tool_returned_is_marked_in_the_request_and_on_record(setup):
    s, seen = setup(thinker()), []
    s.model.on("start", seen.extend)
    s.chat.ask("12 degrees", tool_result=True, thinking="auto")
    s.chat.ask("thanks")
    s.lab.run()
    assert [(r.tool_result, r.thinking, r.tools) for r in seen] == [
        (True, "auto", False), (False, "fast", False)
    ]  # fmt: skip
    assert [done.tool_result for done in recorded(s)] == [True, False]


def test_an_instruction_is_in_the_request_and_on_record(setup):
    s, seen = setup(FakeModel(instructed=True)), []
    s.model.on("start", seen.extend)
    s.chat.ask("hello", instruction="answer in verse")
    s.chat.ask("thanks")
    s.lab.run()
    assert [(r.instruction, r.query) for r in seen] == [
        ("answer in verse", "hello"),
        ("", "thanks"),
    ]
    assert [done.instruction for done in recorded(s)] == ["answer in verse", ""]


def test_a_query_and_its_instruction_share_the_room_of_a_query(setup):
    s = setup(FakeModel(instructed=True, max_query=20))
    s.chat.ask("hello", instruction="in verse")
    with pytest.raises(QueryRejected, match="with its instruction, ") as refused:
        s.chat.ask("hello", instruction="in verse, with a rhyme")
    assert refused.value.reason == "too_long"
    for unusable in ("\ud800", " \n"):
        with pytest.raises(QueryRejected) as refused:
            s.chat.ask("hello", instruction=unusable)
        assert refused.value.reason == "invalid"
    told = CompletedInteraction(query="hello", answer="a", instruction="in verse, with a rhyme")
    found = Recorder(rx.of(told).pipe(operators.interact(s.memory)))
    with pytest.raises(TypeError, match="an instruction must be"):
        s.chat.ask("hello", instruction=None)
    s.lab.run()
    assert [event.reason for event in found.items] == ["too_long"]
    assert [done.instruction for done in recorded(s)] == ["in verse"]
    assert s.memory.value == ("[in verse] hello -> hello #0",)


def test_thinking_counts_towards_the_longest_answer(setup):
    s = setup(thinker())
    it = s.chat.ask("hello", thinking="extended", sampling=Sampling(max_tokens=4))
    s.lab.run()
    answer = it.result()
    assert (answer.thinking, answer.text, answer.finish_reason) == ("let me see", "hello", "length")


@pytest.mark.parametrize(
    ("channels", "options", "words"),
    [
        (["answer"], {"thinking": "extended"}, "was not trained to think before it answers; ask"),
        (["answer", "tool_call"], {"thinking": "auto"}, "was not trained to think"),
        (["answer", "thinking"], {"tools": True}, "was not trained to call tools"),
        ([], {"tool_result": True, "thinking": "auto"}, "think before it answers or to call tools"),
        (["thinking"], {"instruction": "briefly"}, "was not trained to follow instructions; ask"),
    ],
)
def test_a_model_that_was_not_trained_for_it_rejects_it(setup, channels, options, words):
    s = setup(FakeModel(channels=channels))
    with pytest.raises(QueryRejected, match=words) as refused:
        s.chat.ask("hello", **options)
    assert refused.value.reason == "unsupported"
    found = Recorder(s.chat.ask("hello", raise_on_reject=False, **options))
    s.lab.run()
    assert [event.reason for event in found.items] == ["unsupported"]
    assert s.model.calls["start"] == 0


def test_a_mode_that_does_not_exist_is_named(setup):
    with pytest.raises(ValueError, match="fast, extended, auto, not 'slow'"):
        setup(thinker()).chat.ask("hello", thinking="slow")


def test_pipelines_ask_for_it_and_carry_it(setup):
    s = setup(thinker())
    told = CompletedInteraction(
        query="q", answer="a", thinking="t", tool_call="c", token_ids=(1,), instruction="i"
    )
    asked = Query(text="hello", thinking="extended", instruction="briefly")
    found = Recorder(rx.of(told, asked).pipe(operators.interact(s.memory), operators.answers()))
    s.lab.run()
    assert [(a.thinking, a.text) for a in found.items] == [("t", "a"), ("let me see", "hello #1")]
    assert recorded(s)[0] == told and recorded(s)[1].instruction == "briefly"


# Records at rest


def record(**parts):
    done = CompletedInteraction(query="hello", answer="hi", token_ids=(12, 13), **parts)
    return LogRecord(seq=3, interaction="i", conversation="main", completed=done, created_at=1.5)


def test_a_record_with_all_parts_survives_and_a_plain_one_is_the_bytes_it_was():
    whole = record(
        thinking="hm",
        thinking_ids=(1, 2),
        tool_call=CALL,
        tool_call_ids=(3,),
        tool_result=True,
        instruction="briefly",
    )
    assert records.decode("m", 3, records.store_record("m", whole)) == whole
    names = records._read_map(records.encode(record()))
    assert sorted(names) == [
        "answer", "conversation", "created_at", "interaction", "key", "query", "token_ids"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "part",
    [
        {"thinking": 1},
        {"thinking_ids": "ab"},
        {"tool_call_ids": [1.5]},
        {"tool_result": 1},
        {"instruction": 1},
    ],
)
def test_a_part_of_another_type_is_damage(part):
    content = records._read_map(records.encode(record())) | part
    with pytest.raises(ValueError, match="cannot be read"):
        records.parse(records.pack(content), 3, True)
