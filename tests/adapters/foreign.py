"""Tiny language models of others, with tokenizers as their files hold them."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

TEXTS = [
    "my dog is called Biscuit", "what is my dog called?", "your dog is called Biscuit.",
    "naïve café, 東京, 🦊", "the user types <s> and [Q] and [EOS]",
] * 20  # fmt: skip
BOS, EOS = "<s>", "</s>"
Tokenizer = tokenizers.Tokenizer


def byte_level(*, add_prefix_space: bool = False, specials: tuple[str, ...] = ()) -> Tokenizer:
    """Like that of Llama 3: special tokens come after the words."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(specials),
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS, trainer)
    if not specials:
        inner.add_special_tokens([BOS, EOS])
    return inner


def sentencepiece() -> Tokenizer:
    """Like that of Llama 2: special tokens, bytes, words, and a space before every text."""
    inner = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    first = ["<unk>", BOS, EOS]
    trainer = trainers.BpeTrainer(vocab_size=100, special_tokens=first, show_progress=False)
    inner.train_from_iterator(["my dog is called Biscuit?", "what your"] * 20, trainer)
    data = json.loads(inner.to_str())
    learned = data["model"]["vocab"]
    words = [word for word in sorted(learned, key=learned.get) if word not in first]
    ordered = [*first, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    data["model"]["vocab"] = {word: i for i, word in enumerate(ordered)}
    return tokenizers.Tokenizer.from_str(json.dumps(data))


KINDS = {"byte-level": byte_level, "sentencepiece": sentencepiece}


def llama(folder: Path, inner: Tokenizer, *, spare: int = 0, **fields: object) -> LlamaForCausalLM:
    """A random Llama in ``folder``; its embedding has ``spare`` rows more than tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=inner.get_vocab_size() + spare, hidden_size=16, intermediate_size=24,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, initializer_range=0.6, bos_token_id=inner.token_to_id(BOS),
        eos_token_id=inner.token_to_id(EOS), **fields,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    inner.save(str(folder / "tokenizer.json"))
    return model
