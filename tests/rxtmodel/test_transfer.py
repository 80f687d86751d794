"""Llama-style decoders extended to Reactive Transformers, against ``transformers``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rxtmodel import CheckpointError, ConfigError, ReactiveTransformer, extend_llama
from rxtmodel.cache import KVCache

VOCAB = 40
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 48,
}  # fmt: skip
KINDS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "grouped heads, a head of its own": (
        LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 2, "tie_word_embeddings": False}),
    "equal heads, tied": (
        LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "one head of keys, another base and eps": (
        LlamaConfig, LlamaForCausalLM,
        {"num_key_value_heads": 1, "rms_norm_eps": 1e-2,
         "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    "biases and gelu": (
        LlamaConfig, LlamaForCausalLM,
        {"num_key_value_heads": 2, "mlp_bias": True, "hidden_act": "gelu"}),
    "Mistral": (
        MistralConfig, MistralForCausalLM,
        {"num_key_value_heads": 2, "sliding_window": None, "head_dim": 4}),
    "Qwen3, heads wider than the model": (
        Qwen3Config, Qwen3ForCausalLM,
        {"num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": True}),
}  # fmt: skip


def save(folder: Path, kind: str = "grouped heads, a head of its own", **save_as: Any) -> Any:
    """A checkpoint with every weight far from a neutral value; returns the model."""
    config, model_type, fields = KINDS[kind]
    torch.manual_seed(3)
    model = model_type(config(**SIZES, bos_token_id=1, eos_token_id=2, **fields)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    model.save_pretrained(folder, **save_as)
    return model


def edit(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def ids(length: int = 30) -> torch.Tensor:
    return torch.randint(VOCAB, (2, length), generator=torch.Generator().manual_seed(1))


def memory_of(model: ReactiveTransformer, seed: int = 2) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn_like(model.initial_memory(2))


@pytest.mark.parametrize("variant", ["interlayer", "delta"])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_logits_are_those_of_the_checkpoint_whatever_the_memory_holds(tmp_path, kind, variant):
    theirs = save(tmp_path, kind)
    ours = extend_llama(tmp_path, variant=variant, num_slots=5)
    expected = theirs(ids()).logits
    found = ours(ids(), memory_of(ours))
    scale = float(expected.abs().max())
    torch.testing.assert_close(found[..., :VOCAB], expected, atol=2e-6 * scale, rtol=0)
    assert torch.equal(found, ours(ids(), None))
    assert torch.equal(found, ours(ids(), memory_of(ours, 5)))


@torch.inference_mode()
def test_it_decodes_with_a_cache_as_the_checkpoint_does(tmp_path):
    theirs, ours = save(tmp_path), extend_llama(tmp_path)
    cache = KVCache(ours.config, 2, 30)
    cache.lengths = [0, 0]
    state = ours.project_memory(memory_of(ours))
    for part in ids().split((10, 10, 5, 1, 1, 3), dim=1):
        cache.begin(0, 2, part.shape[1])
        last = ours.decode_step(part, state, cache)
        cache.advance(part.shape[1])
    torch.testing.assert_close(last[:, :VOCAB], theirs(ids()).logits[:, -1], atol=1e-4, rtol=1e-5)


def test_files_in_several_parts_are_one_model(tmp_path):
    save(tmp_path / "one")
    save(tmp_path / "many", max_shard_size="2KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 2
    one, many = (extend_llama(tmp_path / name).state_dict() for name in ("one", "many"))
    assert all(torch.equal(one[name], many[name]) for name in one)


@pytest.mark.parametrize("variant", ["self-interlayer", "delta"])
def test_the_memory_has_a_say_after_a_step_of_training(tmp_path, variant):
    save(tmp_path)
    model = extend_llama(tmp_path, variant=variant, num_slots=5).train()
    memory, before = memory_of(model), model(ids(), memory_of(model)).detach()
    reads = [p for n, p in model.named_parameters() if ".memory_read." in n]
    optimizer = torch.optim.SGD(reads, lr=0.5)
    model(ids(), memory).logsumexp(-1).mean().backward()
    optimizer.step()
    assert not torch.equal(model(ids(), memory), before)
    assert not torch.equal(model(ids(), memory), model(ids(), memory_of(model, 5)))


def test_the_encoder_begins_as_the_decoder(tmp_path):
    save(tmp_path)
    model = extend_llama(tmp_path)
    for part, weight in model.encoder.state_dict().items():
        assert torch.equal(weight, model.decoder.state_dict()[part])
    memory = model.attend(model.initial_memory(2), model.encode(ids()))
    assert memory.isfinite().all() and not torch.equal(memory, model.initial_memory(2))


def test_the_same_seed_draws_the_same_memory_attention_and_leaves_the_generator_alone(tmp_path):
    save(tmp_path)
    state = torch.get_rng_state()
    one, same, other = (extend_llama(tmp_path, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    name = "memory_write.attention.q_proj.weight"
    assert not torch.equal(one[name], other[name])


def test_tokens_that_the_vocabulary_lacks_come_after_it(tmp_path):
    save(tmp_path)
    model = extend_llama(tmp_path)
    tokens = model.config.tokens
    assert (tokens.bos, tokens.eos) == (1, 2)
    new = [tokens.pad, tokens.query, tokens.answer, tokens.think, tokens.internal,
           tokens.tool_use, tokens.tool_call]  # fmt: skip
    assert sorted(new) == list(range(VOCAB, VOCAB + 7)) and model.config.vocab_size == VOCAB + 7
    mean = model.embedding.weight[:VOCAB].mean(0)
    torch.testing.assert_close(model.embedding.weight[VOCAB:], mean.expand(7, -1))
    torch.testing.assert_close(
        model.head.weight[VOCAB:], model.head.weight[:VOCAB].mean(0).expand(7, -1)
    )


@pytest.mark.parametrize(
    ("fields", "bos", "eos", "size"),
    [
        ({"bos_token_id": None}, VOCAB + 1, 2, VOCAB + 8),
        ({"eos_token_id": [3, 2]}, 1, 3, VOCAB + 7),
        ({"eos_token_id": 1}, 1, VOCAB + 1, VOCAB + 8),
        ({"pad_token_id": 0}, 1, 2, VOCAB + 6),
        ({"pad_token_id": VOCAB + 90}, 1, 2, VOCAB + 7),
    ],
)
def test_ids_of_the_frame_come_from_the_config_where_they_can(tmp_path, fields, bos, eos, size):
    save(tmp_path)
    edit(tmp_path, **fields)
    model = extend_llama(tmp_path)
    assert (model.config.tokens.bos, model.config.tokens.eos) == (bos, eos)
    assert model.config.vocab_size == size


@pytest.mark.parametrize(
    ("config", "generation", "eos", "ends"),
    [
        (2, None, 2, ()),
        ([3, 2, 5], None, 3, (2, 5)),
        (3, {"eos_token_id": [3, 6, VOCAB + 4]}, 3, (6,)),
        (3, {"eos_token_id": 4}, 3, (4,)),
        (3, {"eos_token_id": [3, 1]}, 3, (1,)),  # as bos, or pad, too
        (1, None, VOCAB + 1, (1,)),
        (3, {}, 3, ()),
    ],
)
def test_all_tokens_that_end_an_answer_of_the_checkpoint_end_one_of_ours(
    tmp_path, config, generation, eos, ends
):
    save(tmp_path)
    edit(tmp_path, eos_token_id=config)
    path = tmp_path / "generation_config.json"
    path.unlink()
    if generation is not None:
        path.write_text(json.dumps(generation))
    model = extend_llama(tmp_path)
    assert (model.config.tokens.eos, model.config.tokens.ends) == (eos, ends)
    model.save_pretrained(tmp_path / "rxt")
    again = ReactiveTransformer.from_pretrained(tmp_path / "rxt")
    assert again.config == model.config
    assert again.config.fingerprint() == model.config.fingerprint()


@pytest.mark.parametrize(
    ("text", "words"), [("{", "not a model configuration"), ("3", "no object")]
)
def test_what_a_checkpoint_says_of_drawing_must_be_readable(tmp_path, text, words):
    save(tmp_path)
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=words):
        extend_llama(tmp_path)


def test_what_was_extended_is_saved_and_read_as_any_model(tmp_path):
    save(tmp_path / "llama")
    model = extend_llama(tmp_path / "llama", num_slots=5, max_seq_len=20)
    model.save_pretrained(tmp_path / "rxt")
    again = ReactiveTransformer.from_pretrained(tmp_path / "rxt")
    assert again.config == model.config and again.config.max_seq_len == 20
    memory = memory_of(model)
    assert torch.equal(again(ids(20), memory), model(ids(20), memory))


def test_weights_in_a_short_type_are_read(tmp_path):
    theirs = save(tmp_path)
    theirs.bfloat16().save_pretrained(tmp_path)
    model = extend_llama(tmp_path)
    assert model.embedding.weight.dtype == torch.float32
    assert torch.equal(model.embedding.weight[:VOCAB], theirs.model.embed_tokens.weight.float())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "gpt2"}, "model_type must be one of llama, mistral, qwen3, found 'gpt2'"),
        ({"hidden_size": None}, "hidden_size must be a whole number >= 1, found None"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"hidden_act": "gelu_pytorch_tanh"}, "hidden_act='gelu_pytorch_tanh'"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
         "rope_scaling=.'rope_type': 'llama3', 'factor': 8.0"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}},
         "rope_scaling=.'type': 'linear'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"model_type": "mistral", "sliding_window": 16}, "sliding_window=16"),
        ({"use_sliding_window": True, "sliding_window": 16}, "sliding_window=16"),
        ({"layer_types": ["full_attention", "sliding_attention"]},
         "layer_types=.'sliding_attention'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config=.'bits': 4"),
        ({"head_dim": 3}, "head_dim must be even for RoPE, got 3"),
        ({"num_key_value_heads": 3}, "one must be a multiple of the other"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_converted_is_named_with_its_value(tmp_path, fields, words):
    save(tmp_path)
    edit(tmp_path, **fields)
    with pytest.raises(CheckpointError, match=words) as caught:
        extend_llama(tmp_path)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("name", ["max_seq_len", "first_new_id"])
@pytest.mark.parametrize("value", [0, -3, 1.5, "x", True])
def test_an_argument_that_cannot_be_is_named_with_its_value(tmp_path, name, value):
    """With a vocabulary of no tokens the new ones would be the mean of nothing."""
    save(tmp_path)
    with pytest.raises(ConfigError, match=f"{name} must be a whole number >= 1, got {value!r}"):
        extend_llama(tmp_path, **{name: value})


def test_a_seed_that_is_no_whole_number_is_named(tmp_path):
    save(tmp_path)
    with pytest.raises(ConfigError, match="seed must be a whole number, got 'x'"):
        extend_llama(tmp_path, seed="x")


@torch.inference_mode()
def test_logits_within_a_sliding_window_are_those_of_the_checkpoint(tmp_path):
    config = MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=20, head_dim=4)
    torch.manual_seed(3)
    theirs = MistralForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="sliding_window=20 .*max_seq_len is at most 20"):
        extend_llama(tmp_path)
    ours = extend_llama(tmp_path, max_seq_len=20)
    found = ours(ids(20), memory_of(ours))[..., :VOCAB]
    torch.testing.assert_close(found, theirs(ids(20)).logits, atol=1e-6, rtol=1e-5)


def change(folder: Path, **weights: torch.Tensor | None) -> None:
    found = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        key = name.replace("__", ".")
        if weight is None:
            del found[key]
        else:
            found[key] = weight
    save_file(found, folder / "model.safetensors")


def test_weights_that_cannot_be_of_the_checkpoint_are_named(tmp_path):
    for name, weight, words in (
        ("model__norm__weight", None, "lacks weights .* model.norm.weight"),
        ("model__extra", torch.ones(1), "has weights that its config lacks: model.extra"),
        ("model__layers__1__mlp__up_proj__weight", torch.ones(3, 3), r"shape \(3, 3\)"),
        ("model__norm__weight", torch.ones(16, dtype=torch.int8), "model.norm.weight holds torch"),
        ("model__norm__weight", torch.full((16,), torch.nan), "model.norm.weight .* not finite"),
    ):
        save(tmp_path)
        change(tmp_path, **{name: weight})
        with pytest.raises(CheckpointError, match=words):
            extend_llama(tmp_path)


def test_more_layers_than_weights_are_refused_before_they_are_counted_up(tmp_path):
    save(tmp_path)
    edit(tmp_path, num_hidden_layers=10**12)
    with pytest.raises(CheckpointError, match="weights, too few for 1000000000000 layers"):
        extend_llama(tmp_path)


def test_tables_of_positions_in_old_files_are_left_out(tmp_path):
    save(tmp_path)
    change(tmp_path, model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(2))
    assert extend_llama(tmp_path)


def test_a_tied_head_may_be_in_the_file_when_it_is_the_same(tmp_path):
    theirs = save(tmp_path, "equal heads, tied")
    table = theirs.model.embed_tokens.weight.detach()
    change(tmp_path, lm_head__weight=table.clone())
    assert extend_llama(tmp_path).head is None
    change(tmp_path, lm_head__weight=table + 1)
    with pytest.raises(CheckpointError, match="lm_head.weight differs though the head is tied"):
        extend_llama(tmp_path)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("{", "is not an index of weights"),
        ("{}", "is not an index of weights"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "is not a file beside it"),
        ('{"weight_map": {"a": "other.safetensors"}}', "has no other.safetensors"),
        ('{"weight_map": {"a": "model.safetensors"}}', "lacks weights that its index has: a"),
    ],
)
def test_an_index_that_is_wrong_is_refused(tmp_path, index, words):
    save(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=words):
        extend_llama(tmp_path)
