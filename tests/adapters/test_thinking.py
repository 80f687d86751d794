"""Thinking and tool calls with a model of tensors: what is drawn, shown, and folded into memory."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from adapters.answer_parts import Drafts, Parts, interaction_ids
from adapters.model import RxtAdapter, load_model
from adapters.tokenizer import SPECIAL_TOKENS, Tokenizer
from rxstream import CompletedInteraction, Runtime, Sampling
from rxstream.errors import GenerationError, QueryRejected
from rxtmodel import ConfigError, ReactiveTransformer, TokenIds
from rxtmodel.answers import parse_tool_calls

from ..rxtmodel.tiny import tiny_config

IDS = TokenIds()
CALL = '{"name": "look", "arguments": {"at": "dog"}}'


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([CALL, "what is my dog called?", "let me see"] * 20, vocab_size=300)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> RxtAdapter:
    torch.manual_seed(3)
    config = dataclasses.replace(
        tiny_config(), vocab_size=tokenizer.vocab_size, max_seq_len=96, thinks=True,
        calls_tools=True, instructed=True,
    )  # fmt: skip
    module = ReactiveTransformer(config).eval().requires_grad_(False)
    with torch.no_grad():  # logits that differ
        module.embedding.weight.mul_(8)
    return RxtAdapter(module, tokenizer)


def drafts(tokenizer: Tokenizer, ids, section="answer", *, tools=False, stops=()):
    """What a runtime is given: (channel, text) for each token, and how it ended."""
    parts, found = Parts(Drafts(tokenizer), section, tools, stops), []
    for token in ids:
        draft = parts.push(token, last=False)
        found.append((draft.channel, draft.text))
        if draft.finish is not None:
            return found, draft.finish
    return found, None


def test_a_draft_that_was_made_before_is_given_again(tokenizer: Tokenizer) -> None:
    shared, (dog, *_), fox = Drafts(tokenizer), tokenizer.encode("dog"), tokenizer.encode("🦊")
    first, second = (Parts(shared, "answer", False, ()) for _ in range(2))
    assert first.push(dog, last=False) is second.push(dog, last=False)
    texts = [[p.push(i, last=False).text for i in [*fox, dog]] for p in (first, second)]
    assert texts[0] == texts[1] and "".join(texts[0]) == "🦊" + tokenizer.decode([dog])
    second.push(fox[0], last=False)  # inside a character nothing is as it was before
    assert second.push(dog, last=False).text == "\ufffd" + tokenizer.decode([dog])
    assert first.push(dog, last=True).finish == "length"


def joined(found, channel: str) -> str:
    return "".join(text for name, text in found if name == channel)


def test_a_generated_sequence_becomes_its_parts(tokenizer: Tokenizer) -> None:
    think, say, call = map(tokenizer.encode, ("let me see", "It is 🦊.", CALL))
    ids = [*think, IDS.answer, *say, IDS.tool_call, *call, IDS.eos]
    found, finish = drafts(tokenizer, ids, "thinking", tools=True)
    assert (joined(found, "thinking"), joined(found, "answer")) == ("let me see", "It is 🦊.")
    assert finish == "eos" and len(found) == len(ids)
    (parsed,) = parse_tool_calls(joined(found, "tool_call"))
    assert (parsed.name, parsed.arguments) == ("look", {"at": "dog"})


def test_an_answer_ends_with_any_of_the_models_ends(tokenizer: Tokenizer) -> None:
    tokens = dataclasses.replace(IDS, mask=None, ends=(IDS.mask,))
    other = Tokenizer(tokenizer._inner, tokens)
    say = tokenizer.encode("let me see")
    for end in (IDS.eos, IDS.mask):
        found, finish = drafts(other, [*say, end, *say])
        assert (joined(found, "answer"), finish) == ("let me see", "eos")


def test_a_tool_call_may_follow_thinking_at_once(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("hm"), IDS.tool_call, *tokenizer.encode(CALL), IDS.eos]
    found, _ = drafts(tokenizer, ids, "thinking", tools=True)
    assert (joined(found, "answer"), joined(found, "tool_call")) == ("", CALL)


@pytest.mark.parametrize(
    ("ids", "section"),
    [
        ([IDS.tool_call, 20, IDS.tool_call], "answer"),
        ([IDS.tool_call, 20, IDS.answer], "answer"),
        ([20, IDS.eos], "thinking"),
        ([20, IDS.answer], "answer"),
    ],
)
def test_a_part_that_has_no_place_in_the_template_ends_the_answer(tokenizer, ids, section) -> None:
    found, finish = drafts(tokenizer, [*ids, 21], section, tools=True)
    assert finish == "eos" and len(found) == len(ids)


def test_stop_strings_are_of_the_answer_and_what_they_held_back_stays_in_it(tokenizer) -> None:
    see, answer = tokenizer.encode("see dog"), tokenizer.encode("my do")
    ids = [*see, IDS.answer, *answer, IDS.tool_call, *tokenizer.encode("dog"), IDS.eos]
    found, finish = drafts(tokenizer, ids, "thinking", tools=True, stops=("dog",))
    assert [joined(found, c) for c in ("thinking", "answer", "tool_call")] == [
        "see dog", "my do", "dog"
    ]  # fmt: skip
    assert finish == "eos"
    found, finish = drafts(tokenizer, tokenizer.encode("my dog is"), stops=("dog",))
    assert (joined(found, "answer"), finish) == ("my ", "stop_sequence")


def test_the_whole_template_is_folded_into_memory(tokenizer: Tokenizer, model: RxtAdapter) -> None:
    think, say, call = map(tokenizer.encode, ("let me see", "Biscuit", CALL))
    done = CompletedInteraction(
        query="dog", answer="Biscuit", token_ids=(*say, IDS.tool_call), thinking="let me see",
        thinking_ids=(*think, IDS.answer), tool_call=CALL, tool_call_ids=tuple(call),
        tool_result=True,
    )  # fmt: skip
    expected = [
        IDS.bos, IDS.tool_use, *tokenizer.encode("dog"), IDS.think, *think, IDS.answer, *say,
        IDS.tool_call, *call, IDS.eos,
    ]  # fmt: skip
    assert interaction_ids(tokenizer, done) == expected
    (found,) = model.encode([done])
    with torch.inference_mode():
        assert torch.equal(found, model.model.encode(torch.tensor([expected])))
    bare = dataclasses.replace(done, token_ids=(), thinking_ids=(), tool_call_ids=())
    assert interaction_ids(tokenizer, bare) == expected


@pytest.mark.parametrize(
    ("asked", "marks"),
    [
        ({}, (IDS.query, IDS.answer)),
        ({"thinking": "extended"}, (IDS.query, IDS.think)),
        ({"tool_result": True}, (IDS.tool_use, IDS.answer)),
    ],
)
def test_the_decoder_reads_an_instruction_before_the_query(
    tokenizer, model, monkeypatch, asked, marks
) -> None:
    told, query = tokenizer.encode("look at my dog"), tokenizer.encode("what")
    read, add_all = [], model._engine.add_all
    monkeypatch.setattr(
        model._engine, "add_all",
        lambda queries: read.extend(ids for ids, *_ in queries) or add_all(queries),
    )  # fmt: skip
    with Runtime(model, "memory:") as runtime:
        chat = runtime.memory("m").conversation()
        chat.ask(
            "what", instruction="look at my dog", sampling=Sampling(max_tokens=1), **asked
        ).result(timeout=60)
    assert read == [[IDS.bos, IDS.internal, *told, marks[0], *query, marks[1]]]


def test_an_instruction_is_on_record_and_in_memory(tokenizer, model) -> None:
    told, query = tokenizer.encode("look at my dog"), tokenizer.encode("what")
    with Runtime(model, "memory:") as runtime:
        memory = runtime.memory("m")
        it = memory.conversation().ask(
            "what", instruction="look at my dog",
            sampling=Sampling(max_tokens=1, logit_bias={40: 9e4}),
        )  # fmt: skip
        list(it.blocking())
        (kept,) = (record.completed for record in runtime._core.engine.store.log("m"))
    assert kept.instruction == "look at my dog"
    assert interaction_ids(tokenizer, kept) == [
        IDS.bos, IDS.internal, *told, IDS.query, *query, IDS.answer, 40, IDS.eos
    ]  # fmt: skip


def test_auto_is_the_likelier_of_both_and_goes_on_from_there(model: RxtAdapter) -> None:
    """Against the logits of the whole prompt."""
    chosen = set()
    with Runtime(model, "memory:") as runtime:
        chat = runtime.memory("m").conversation()
        for query in ("dog", "what", "see", "my dog", "is it", "let me", "called", "look"):
            ids = IDS.query_ids(model.tokenizer.encode(query), thinking="auto")
            with torch.inference_mode():
                logits = model.model(torch.tensor([ids]), model.model.initial_memory())[0, -1]
            expected = "extended" if logits[IDS.think] > logits[IDS.answer] else "fast"
            options = {"sampling": Sampling(max_tokens=6), "remember": False}
            auto, given = (
                chat.ask(query, thinking=thinking, **options).result(timeout=60)
                for thinking in ("auto", expected)
            )
            assert (auto.thinking, auto.text) == (given.thinking, given.text)
            chosen.add(expected)
    assert chosen == {"fast", "extended"}


@pytest.mark.parametrize(
    ("bias", "thinks"),
    [
        ({IDS.think: -math.inf}, False),
        ({IDS.answer: -math.inf}, True),
        ({IDS.think: -9e3}, False),
        ({IDS.think: 9e5}, True),
        ({IDS.think: -9e4, IDS.answer: -9e5}, True),
        ({IDS.think: -math.inf, IDS.answer: -9e5}, False),
    ],
)
def test_in_auto_a_bias_counts_when_the_model_chooses(model, bias, thinks) -> None:
    sampling = Sampling(max_tokens=4, logit_bias={**bias, IDS.eos: -1e3})
    with Runtime(model, "memory:") as runtime:
        chat = runtime.memory("m").conversation()
        for query in ("dog", "what", "see", "my dog", "is it", "let me", "called", "look"):
            it = chat.ask(query, thinking="auto", sampling=sampling, remember=False)
            it.result(timeout=60)
            first = next(event for event in it.blocking() if event.kind == "token")
            assert first.channel == ("thinking" if thinks else "answer"), query


def test_in_auto_a_bias_that_forbids_both_fails_its_own_query_only(model: RxtAdapter) -> None:
    neither = Sampling(logit_bias={IDS.think: -math.inf, IDS.answer: -math.inf})
    with Runtime(model, "memory:") as runtime:
        good = runtime.memory("good").conversation().ask(
            "dog", thinking="auto", sampling=Sampling(max_tokens=4)
        )  # fmt: skip
        bad = runtime.memory("bad").conversation().ask("dog", thinking="auto", sampling=neither)
        assert good.result(timeout=60).finish_reason
        with pytest.raises(GenerationError, match="forbids tokens 6, 7, by which an answer can"):
            bad.result(timeout=60)


def test_marks_are_drawn_only_where_they_were_asked_for(model: RxtAdapter) -> None:
    """With biases that make the model want nothing else."""
    marks = {IDS.answer: 9e4, IDS.tool_call: 8e4, IDS.think: 9e5, IDS.query: 9e5}
    wanting = Sampling(max_tokens=5, logit_bias={**marks, 40: 7e4})
    with Runtime(model, "memory:") as runtime:
        chat = runtime.memory("m").conversation()

        def drawn(**options) -> list[int]:
            it = chat.ask("dog", sampling=wanting, remember=False, **options)
            it.result(timeout=60)
            return [event.id for event in it.blocking() if event.kind == "token"]

        assert drawn() == [40] * 5
        assert drawn(tools=True)[0] == IDS.tool_call
        assert drawn(thinking="extended")[0] == IDS.answer


def test_thinking_goes_through_the_runtime_into_memory_and_log(model: RxtAdapter) -> None:
    sampling = Sampling(max_tokens=12, logit_bias={IDS.eos: -1e3})
    with Runtime(model, "memory:") as runtime:
        memory = runtime.memory("m")
        it = memory.conversation().ask("dog", thinking="extended", sampling=sampling)
        answer, events = it.result(timeout=60), list(it.blocking())
        thought = [e for e in events if e.kind == "token" and e.channel == "thinking"]
        assert thought and answer.thinking == "".join(e.text for e in thought)
        last = events[-1]
        assert last.kind == ("memory_updated" if answer.text else "memory_skipped")


def test_the_bundled_model_says_that_it_cannot() -> None:
    adapter = load_model()
    assert adapter.channels == {"answer"} and not adapter.instructed
    with Runtime(adapter, "memory:") as runtime:
        chat = runtime.memory("m").conversation()
        for options in (
            {"thinking": "extended"}, {"thinking": "auto"}, {"tools": True},
            {"instruction": "briefly"},
        ):  # fmt: skip
            with pytest.raises(QueryRejected, match="this model was not trained to") as refused:
                chat.ask("my dog is called Biscuit", **options)
            assert refused.value.reason == "unsupported"
        assert chat.ask("my dog is called Biscuit").result(timeout=60).thinking == ""


def test_a_part_that_a_model_has_no_token_for_is_a_typed_error(tokenizer: Tokenizer) -> None:
    assert SPECIAL_TOKENS[IDS.think] == "[T]"
    plain = Tokenizer(tokenizer._inner, dataclasses.replace(IDS, think=None))
    with pytest.raises(ConfigError, match="without the token think"):
        interaction_ids(plain, CompletedInteraction(query="q", answer="a", thinking="t"))
