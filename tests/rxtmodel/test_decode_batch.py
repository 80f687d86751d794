"""Decoding many answers at once: every row as if it were alone, whoever joins and leaves."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rxtmodel import ReactiveTransformer, Sampler, SamplerConfig
from rxtmodel.engine import DecodeBatch
from rxtmodel.layout import arrange
from rxtmodel.template import EOS, SPECIAL_TOKENS

from .tiny import VARIANTS, random_memory, tiny_model

MAX_ROWS, MAX_LEN = 4, 16
BANNED = [i for i in range(len(SPECIAL_TOKENS)) if i != EOS]
TOKENS = range(11, 24)
MODELS = {v: arrange(tiny_model(v, num_layers=2).requires_grad_(False)) for v in VARIANTS}


@dataclass
class Recorder:
    """In place of a sampler: answers with a script, and keeps the logits it was shown."""

    script: list[int]
    seen: list[torch.Tensor] = field(default_factory=list)
    greedy: bool = False
    config: SamplerConfig = SamplerConfig()

    def draw(self, logits: torch.Tensor) -> int:
        self.seen.append(logits.clone())
        return self.script[(len(self.seen) - 1) % len(self.script)]


class Conversation:
    """A row under way and what it must see: its own text read beside its own memory."""

    def __init__(self, model: ReactiveTransformer, prompt: list[int], seed: int) -> None:
        self.model, self.prompt = model, prompt
        self.memory = random_memory(model, 1, seed=seed)
        self.recorder = Recorder([11 + (seed * 7 + i * 5) % 13 for i in range(20)])

    def join(self, batch: DecodeBatch) -> None:
        state = self.model.project_memory(self.memory)
        self.row = batch.add(self.prompt, state, self.recorder)

    def check(self) -> None:
        """Every logit drawn from so far equals the one of a whole pass over the text."""
        seen = self.recorder.seen
        if not seen:
            return
        ids = torch.tensor([self.prompt + self.recorder.script[: len(seen) - 1]])
        expected = self.model(ids, self.memory)[0, len(self.prompt) - 1 :]
        expected[:, BANNED] = -torch.inf
        torch.testing.assert_close(torch.stack(seen), expected, atol=2e-5, rtol=1e-4)


prompts = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=6)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("join"), prompts),
        st.tuples(st.just("step"), st.randoms(use_true_random=False)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
    ),
    max_size=14,
)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(st.sampled_from(["delta", "self-interlayer"]), actions)
def test_every_row_answers_as_if_alone(variant, plan):
    model = MODELS[variant]
    batch = DecodeBatch(model, MAX_ROWS, MAX_LEN)
    present: list[Conversation] = []
    everyone: list[Conversation] = []
    for action, detail in plan:
        if action == "join" and len(present) < MAX_ROWS:
            present.append(Conversation(model, detail, seed=len(everyone)))
            present[-1].join(batch)
            everyone.append(present[-1])
        elif action == "leave" and present:
            batch.remove(present.pop(detail % len(present)).row)
        elif action == "step":
            able = [c for c in present if batch.room(c.row) > 0]
            chosen = detail.sample(able, detail.randint(0, len(able)))
            if chosen:
                drawn = batch.step([c.row for c in chosen])
                assert drawn == [c.row.pending for c in chosen]
        assert [row.index for row in batch.rows] == list(range(len(present)))
        assert batch.cache.num_rows == len(present)
    for conversation in everyone:
        conversation.check()


@pytest.mark.parametrize("variant", VARIANTS)
def test_decoding_with_a_cache_equals_whole_passes(variant):
    model = MODELS[variant]
    batch = DecodeBatch(model, MAX_ROWS, MAX_LEN)
    rows = [Conversation(model, [11 + n] * n, seed=n) for n in (1, 4, 4)]
    for conversation in rows:
        conversation.join(batch)
    for _ in range(6):
        batch.step([c.row for c in rows])
    for conversation in rows:
        assert len(conversation.recorder.seen) == 6
        conversation.check()


def test_tokens_come_back_in_the_order_that_was_asked_for():
    batch = DecodeBatch(MODELS["delta"], MAX_ROWS, MAX_LEN)
    rows = [Conversation(MODELS["delta"], [12], seed=n) for n in range(4)]
    for n, conversation in enumerate(rows):
        conversation.recorder.script = [11 + n]
        conversation.join(batch)
    assert batch.step([rows[3].row, rows[1].row]) == [14, 12]
    assert batch.step([rows[i].row for i in (2, 0, 3, 1)]) == [13, 11, 14, 12]


def full_batch() -> tuple[DecodeBatch, list[Conversation]]:
    model = MODELS["interlayer"]
    batch = DecodeBatch(model, MAX_ROWS, MAX_LEN)
    rows = [Conversation(model, [11, 12, 13][: n + 1], seed=n) for n in range(MAX_ROWS)]
    for conversation in rows:
        conversation.join(batch)
    return batch, rows


def goes_on(batch: DecodeBatch, rows: list[Conversation]) -> None:
    batch.step([c.row for c in rows])
    for conversation in rows:
        conversation.check()


def test_a_full_batch_says_so_and_goes_on():
    batch, rows = full_batch()
    late = Conversation(batch.model, [15, 16], seed=9)
    with pytest.raises(IndexError, match="all 4 rows are in use"):
        late.join(batch)
    goes_on(batch, rows)
    batch.remove(rows.pop(1).row)
    late.join(batch)
    goes_on(batch, [*rows, late])


@pytest.mark.parametrize("length", [0, MAX_LEN + 1, MAX_LEN + 2, 3 * MAX_LEN])
def test_a_prompt_that_does_not_fit_is_refused_and_the_batch_goes_on(length):
    batch, rows = full_batch()
    batch.remove(rows.pop().row)
    with pytest.raises(IndexError, match=f"1 to {MAX_LEN} tokens, got {length}"):
        Conversation(batch.model, [11] * length, seed=9).join(batch)
    rows.append(Conversation(batch.model, [17], seed=5))
    rows[-1].join(batch)
    goes_on(batch, rows)


def test_a_memory_of_another_shape_is_refused_and_the_batch_goes_on():
    batch, rows = full_batch()
    batch.remove(rows.pop().row)
    other = tiny_model("interlayer", num_layers=2, memory={"num_slots": 5})
    with pytest.raises(RuntimeError):
        batch.add([11], other.project_memory(other.initial_memory()), Recorder([11]))
    goes_on(batch, rows)


def test_a_row_that_has_ended_cannot_end_or_draw_again():
    """Its place is taken by another answer."""
    batch, rows = full_batch()
    ended = rows.pop(0)
    batch.remove(ended.row)
    for act in (batch.remove, lambda row: batch.step([rows[0].row, row])):
        with pytest.raises(ValueError, match="has ended"):
            act(ended.row)
    assert batch.step([]) == []
    goes_on(batch, rows)


def test_room_is_how_many_steps_a_row_can_take():
    batch, rows = full_batch()
    first = rows[0]
    assert batch.room(first.row) == MAX_LEN
    while batch.room(first.row):
        batch.step([first.row])
    with pytest.raises(IndexError, match=f"cache of {MAX_LEN} tokens cannot hold {MAX_LEN + 1}"):
        batch.step([c.row for c in rows])
    first.check()
    goes_on(batch, rows[1:])


def test_a_prompt_that_fills_the_row_leaves_room_for_one_token():
    batch = DecodeBatch(MODELS["delta"], 1, MAX_LEN)
    conversation = Conversation(batch.model, [13] * MAX_LEN, seed=1)
    conversation.join(batch)
    assert batch.room(conversation.row) == 1
    goes_on(batch, [conversation])


def test_special_tokens_are_never_drawn_but_the_end_is():
    """The head is turned so that special tokens would always win."""
    model = tiny_model("delta", num_layers=2, tie_head=False).requires_grad_(False)
    model.head.bias[: len(SPECIAL_TOKENS)] = 50.0
    for winner, expected in ((EOS, {EOS}), (None, set(TOKENS))):
        model.head.bias[EOS] = 50.0 if winner else -50.0
        batch = DecodeBatch(model, 3, MAX_LEN)
        state = model.project_memory(model.initial_memory())
        configs = (0.0, 0.5, 5.0)
        rows = [
            batch.add([12], state, Sampler(SamplerConfig(temperature=t), seed=1)) for t in configs
        ]
        drawn = {token for _ in range(10) for token in batch.step(rows)}
        assert drawn <= expected


def test_a_row_draws_the_same_whoever_is_beside_it():
    """Greedy and sampling rows in one batch, each with a generator of its own."""
    model = MODELS["self"]
    configs = [
        SamplerConfig(),
        SamplerConfig(temperature=1.0),
        SamplerConfig(temperature=2.0, top_k=5, top_p=0.9),
    ]

    def rows_of(batch: DecodeBatch, chosen: list[int]) -> list:
        memory = random_memory(model, 1)
        state = model.project_memory(memory)
        return [batch.add([12, 13], state, Sampler(configs[i], seed=i)) for i in chosen]

    batch = DecodeBatch(model, MAX_ROWS, MAX_LEN)
    rows = rows_of(batch, [0, 1, 2])
    together = list(zip(*(batch.step(rows) for _ in range(10)), strict=True))
    for i in range(3):
        batch = DecodeBatch(model, MAX_ROWS, MAX_LEN)
        rows = rows_of(batch, [i])
        assert tuple(batch.step(rows)[0] for _ in range(10)) == together[i]
