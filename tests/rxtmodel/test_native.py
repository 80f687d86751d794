"""Decoding by compiled code: the same as PyTorch's, whoever is beside it, or PyTorch's itself."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import torch

from rxtmodel import AttentionConfig, ExpertsConfig, ReactiveTransformer, Sampler, SamplerConfig
from rxtmodel.cache import KVCache
from rxtmodel.engine import DecodeBatch
from rxtmodel.layout import arrange, quantise
from rxtmodel.linear import Int8, Linear
from rxtmodel.native import NativeDecoder
from rxtmodel.template import EOS, SPECIAL_TOKENS

from .tiny import random_memory, tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LEN = 60
BANNED = next(i for i in range(len(SPECIAL_TOKENS)) if i != EOS)
PLAIN = AttentionConfig(num_query_heads=2, num_kv_heads=2)
GROUPED = AttentionConfig(num_query_heads=4, num_kv_heads=2)


def wide_model(variant: str = "delta", **settings: Any) -> ReactiveTransformer:
    """The least widths that the C files take."""
    memory = {"num_slots": 16, "num_heads": 2, **settings.pop("memory", {})}
    widths = {"embed_dim": 32, "head_dim": 16, "ff_dim": 48, "encoder_ff_dim": 48}
    settings = {**widths, "max_seq_len": MAX_LEN, **settings}
    model = tiny_model(variant, memory=memory, **settings)
    return arrange(model.requires_grad_(False))


FORMS: dict[str, dict[str, Any]] = {
    "delta": {},
    "softmax": {"variant": "interlayer"},
    "more slots than tokens": {"variant": "simple", "memory": {"num_slots": 70}},
    "slots that fill no vector": {"variant": "simple", "memory": {"num_slots": 21}},
    "grouped heads": {"variant": "self", "attention": GROUPED, "memory": {"read": GROUPED}},
    "wide heads": {"head_dim": 48, "embed_dim": 64, "memory": {"num_heads": 4}},
    "no positions": {"nope": True, "variant": "simple"},
    "rounded positions": {"rope_rounding": "bfloat16"},
    "a head of its own": {"tie_head": False, "head_bias": True},
    "a head of its own without bias": {"tie_head": False, "head_bias": False},
    "no last norm": {"final_norm": False},
    "another epsilon": {"norm_eps": None},
    "layers without memory": {"stateless_before": ("dense",), "stateless_after": ("dense",),
                              "stateless_dim": 80},
    "many tokens": {"vocab_size": 149},
}  # fmt: skip


class Kept(Sampler):
    """Keeps the logits it was shown, and says whatever they are what its seed says."""

    def __init__(self, config: SamplerConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.logits: list[torch.Tensor] = []

    def draw(self, logits_V: torch.Tensor) -> int:
        self.logits.append(logits_V.clone())
        return 11 + (self.seed * 7 + len(self.logits) * 5) % 13


def live_through(batch: DecodeBatch, seed: int) -> list[torch.Tensor]:
    """Answers that join, pause and leave at random: the logits that each was drawn from."""
    draw, model = random.Random(seed), batch.model
    memories = [model.project_memory(random_memory(model, 1, seed=n)) for n in range(4)]
    live: dict[int, Any] = {}
    samplers: list[Kept] = []
    for _ in range(50):
        if len(live) < batch.cache.max_rows and draw.random() < 0.5:
            length, name = draw.randrange(1, 40), len(samplers)
            query = [draw.randrange(11, model.config.vocab_size) for _ in range(length)]
            samplers.append(Kept(SamplerConfig(temperature=0.7), name))
            live[name] = batch.add(query, draw.choice(memories), samplers[-1])
        for name in [name for name in live if draw.random() < 0.05]:
            batch.remove(live.pop(name))
        chosen = [n for n in live if draw.random() < 0.8 and batch.room(live[n]) > 0]
        batch.step([live[n] for n in chosen])
    answers = [torch.stack(sampler.logits) for sampler in samplers if sampler.logits]
    assert sum(map(len, answers)) > 100
    return answers


def native(model: ReactiveTransformer, rows: int, length: int = MAX_LEN) -> DecodeBatch:
    batch = DecodeBatch(model, rows, length)
    assert batch.why_not_native is None
    return batch


@pytest.mark.parametrize("form", FORMS)
def test_answers_that_come_and_go_are_as_exact_as_those_of_pytorch(form: str) -> None:
    model, exact = wide_model(**FORMS[form]), wide_model(**FORMS[form]).double()
    found = live_through(native(model, 9), seed=1)
    expected = live_through(DecodeBatch(model, 9, MAX_LEN, native=False), seed=1)
    truth = live_through(DecodeBatch(exact, 9, MAX_LEN, native=False), seed=1)

    def error(answers: list[torch.Tensor]) -> float:
        return max(map(distance, answers, truth))

    assert error(found) < max(1e-6, 4 * error(expected)) < 1e-4


def distance(logits: torch.Tensor, true: torch.Tensor) -> float:
    """The largest difference of what is not banned, over the largest logit."""
    allowed = true.isfinite()
    assert torch.equal(logits.isfinite(), allowed)
    return float((logits - true)[allowed].abs().max() / true[allowed].abs().max())


@pytest.mark.parametrize("form", ["delta", "softmax", "a head of its own"])
def test_weights_that_eight_bits_hold_exactly_give_what_all_bits_give(form: str) -> None:
    plain = wide_model(**FORMS[form], ff_dim=64)
    with torch.no_grad():
        for layer in plain.causal_layers():
            for module in filter(lambda module: isinstance(module, Linear), layer.modules()):
                round_to_eight_bits(module.weight)
        round_to_eight_bits(plain.embedding.weight if plain.head is None else plain.head.weight)
    exact = live_through(native(plain, 5), seed=2)
    short = native(quantise(plain), 5)
    assert all(map(torch.equal, live_through(short, seed=2), exact))


def round_to_eight_bits(weight: torch.Tensor) -> None:
    """With powers of two as scales: to multiply a sum by them, or what is summed, is the same."""
    short = Int8.of(weight)
    assert short is not None
    steps = short.weight.float()
    steps[:, 0] = 127
    weight.copy_(steps * short.scale.float().log2().floor().exp2()[:, None])
    assert torch.equal(Int8.of(weight).weight.float(), steps)


def test_prompts_are_read_with_all_bits() -> None:
    plain, short = wide_model(ff_dim=64), quantise(wide_model(ff_dim=64))
    state = plain.project_memory(random_memory(plain, 1))
    batches = [native(model, 1) for model in (plain, short)]
    for batch in batches:
        batch.add(list(range(11, 24)), state, Sampler(SamplerConfig()))
    assert torch.equal(batches[0].cache.k, batches[1].cache.k)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("short", [False, True], ids=["all bits", "eight bits"])
@pytest.mark.parametrize("variant", ["delta", "interlayer"])
def test_a_row_gets_the_same_bits_whoever_is_beside_it(
    variant: str, short: bool, threads: None
) -> None:
    model = wide_model(variant, ff_dim=64)
    model = quantise(model) if short else model
    config = SamplerConfig(temperature=1.0)
    memories = [model.project_memory(random_memory(model, 1, seed=n)) for n in range(37)]
    queries = [[11 + (n * 5 + i) % 13 for i in range(1 + n % 30)] for n in range(37)]

    def answers(names: list[int], batch: DecodeBatch) -> dict[int, torch.Tensor]:
        samplers = {n: Kept(config, n) for n in names}
        rows = [batch.add(queries[n], memories[n], samplers[n]) for n in names]
        for _ in range(4):
            batch.step(rows)
        for row in rows:
            batch.remove(row)
        return {n: torch.stack(sampler.logits) for n, sampler in samplers.items()}

    batch = native(model, 37)
    together = answers(list(range(37)), batch)
    for count in range(1, 12):
        some = list(range(3, 3 + count))
        for n, logits in answers(some, batch).items():
            assert torch.equal(logits, together[n])


def test_the_largest_logit_is_the_first_of_the_largest_and_no_number_beats_all() -> None:
    model = wide_model(vocab_size=149, tie_head=False)
    state = model.project_memory(random_memory(model, 1))
    for bias, best in (({40: 1e6, 147: 1e6}, 40), ({148: 1e6}, 148), ({BANNED: 1e9, 20: 1e6}, 20),
                       ({50: float("nan"), 20: 1e6}, 50)):  # fmt: skip
        with torch.no_grad():
            model.head.bias.zero_()
            for token, value in bias.items():
                model.head.bias[token] = value
        for batch in (native(model, 1), DecodeBatch(model, 1, MAX_LEN, native=False)):
            row = batch.add([12], state, Sampler(SamplerConfig()))
            assert batch.step([row]) == [best]


def test_ids_of_no_token_and_full_rows_are_refused_before_anything_changes() -> None:
    model = wide_model()
    batch = native(model, 2, length=20)
    state = model.project_memory(random_memory(model, 1))
    with pytest.raises(IndexError, match="24 tokens"):
        batch.add([12, 24, 12], state, Sampler(SamplerConfig()))
    with pytest.raises(IndexError, match="24 tokens"):
        batch.add([12, -1, 12], state, Sampler(SamplerConfig()))
    assert batch.rows == [] and batch.cache.lengths == []
    row = batch.add([12] * 20, state, Sampler(SamplerConfig()))
    batch.step([row])
    with pytest.raises(IndexError, match="cannot hold 21"):
        batch.step([row])
    assert batch.cache.lengths == [20]


REFUSED: dict[str, dict[str, Any]] = {
    "output gate": {
        "attention": AttentionConfig(num_query_heads=2, num_kv_heads=2, output_gate="sigmoid")
    },
    "normalised heads": {
        "attention": AttentionConfig(num_query_heads=2, num_kv_heads=2, qk_norm=True)
    },
    "attention has a bias": {
        "attention": AttentionConfig(num_query_heads=2, num_kv_heads=2, output_bias=True)
    },
    "more kv heads": {"attention": AttentionConfig(num_query_heads=1, num_kv_heads=2)},
    "dense and gated": {"experts": ExpertsConfig(num_experts=2, top_k=1)},
    "biases, or an activation": {"activation": "gelu"},
    "RMSNorm": {"norm": "layer"},
    "the last norm": {"final_norm_kind": "layer"},
    "the model is 40 wide": {"embed_dim": 40, "memory": {"num_heads": 2}},
    "heads are 8 wide": {"head_dim": 8},
    "a feed-forward is 40 wide": {"ff_dim": 40},
    "memory heads of 20 slots": {"memory": {"num_slots": 20}},
    "the decoder has 257 layers": {
        "num_layers": 257,
        "embed_dim": 16,
        "head_dim": 16,
        "ff_dim": 16,
    },
}


@pytest.mark.parametrize("reason", REFUSED)
def test_other_models_are_decoded_by_pytorch_and_it_is_said_why(reason: str) -> None:
    batch = DecodeBatch(wide_model(**REFUSED[reason]), 1, 20)
    assert reason in (batch.why_not_native or "")
    assert batch.step([batch.add([12, 13], *_memory_and_sampler(batch.model))])


def _memory_and_sampler(model: ReactiveTransformer) -> tuple[Any, Sampler]:
    return model.project_memory(random_memory(model, 1)), Sampler(SamplerConfig())


def test_weights_that_are_trained_or_in_another_type_are_left_to_pytorch() -> None:
    model = wide_model()
    assert "bfloat16" in (DecodeBatch(wide_model().bfloat16(), 1, 20).why_not_native or "")
    model.embedding.weight.requires_grad_(True)
    assert "trained" in (DecodeBatch(model, 1, 20).why_not_native or "")
    assert DecodeBatch(wide_model(), 1, 20, native=False).why_not_native == "it was not asked for"


def test_a_memory_of_another_number_of_layers_is_refused() -> None:
    model = wide_model()
    batch = native(model, 1)
    decoder = NativeDecoder(model, batch.cache, torch.zeros(model.config.vocab_size))
    with pytest.raises(ValueError, match="zip"):
        decoder.use_memory(model.project_memory(random_memory(model, 1))[:-1])


@pytest.mark.parametrize("form", ["delta", "a head of its own"])
def test_special_tokens_are_drawn_by_the_rows_that_allow_them(form):
    """As by PyTorch; and the rows beside them have the logits that they have alone, bit by bit."""
    torch.manual_seed(0)
    model = wide_model(**FORMS[form])
    state = model.project_memory(random_memory(model, 1))
    wanting = {6: 900.0, 12: 700.0}
    configs = [
        SamplerConfig(allowed=(6,), logit_bias=wanting),
        SamplerConfig(logit_bias=wanting),
        SamplerConfig(allowed=(6, 10)),
        SamplerConfig(),
    ]
    said = []
    for native in (True, False):
        batch = DecodeBatch(model, 5, MAX_LEN, native=native)
        assert (batch.why_not_native is None) == native
        rows = [batch.add([12, 20], state, Sampler(config, 1)) for config in configs]
        said.append([batch.step(rows) for _ in range(5)])
        if native:
            beside = batch._native.logits_BV[3].clone()
            assert beside[SPECIAL_TOKENS.index("[A]")] == -torch.inf
    assert said[0] == said[1]
    assert said[0][0][:2] == [6, 12]
    alone = DecodeBatch(model, 5, MAX_LEN, lookahead=False)
    row = alone.add([12, 20], state, Sampler(SamplerConfig(), 1))
    assert [alone.step([row])[0] for _ in range(5)] == [step[3] for step in said[0]]
    assert torch.equal(alone._native.logits_BV[0], beside)


def test_without_memory_a_model_runs_as_if_it_had_none() -> None:
    model = wide_model()
    cache = KVCache(model.config, 1, MAX_LEN)
    banned = torch.zeros(model.config.vocab_size)
    decoder = NativeDecoder(model, cache, banned, memory=False)
    cache.lengths = [0]
    ids = list(range(11, 24))
    decoder.read(ids[:-1], 0)
    decoder.step(ids[-1:])
    with torch.inference_mode():
        expected = model(torch.tensor([ids]), None)[0, -1]
    assert distance(decoder.logits_BV[0], expected) < 1e-5
