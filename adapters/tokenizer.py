"""Text to ids and back: a byte-level BPE tokenizer with the interaction template.

    tokenizer = Tokenizer.train(["my dog is called Biscuit", "..."], vocab_size=2048)
    tokenizer.save("runs/mine")                               # writes runs/mine/tokenizer.json
    Tokenizer.load("runs/mine").encode("Biscuit")

Every text survives ``decode(encode(text))`` unchanged, and no text can produce a special id: a user
who types ``[EOS]`` gets the ids of five ordinary characters. Ids of special tokens are only ever
placed by the template.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from rxtmodel import template

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FILE_NAME = "tokenizer.json"
SPECIAL_TOKENS = template.SPECIAL_TOKENS
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256
"""Special tokens, and one token for each byte so that nothing is ever unknown."""


class TokenizerError(ValueError):
    """A tokenizer file is missing or is not one of ours, or a text is not valid Unicode."""


class Tokenizer:
    """Byte-level BPE. Each digit is a token, so that numbers are copied and not guessed."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        found = tuple(inner.id_to_token(i) for i in range(len(SPECIAL_TOKENS)))
        if found != SPECIAL_TOKENS:
            raise TokenizerError(f"special tokens should be {SPECIAL_TOKENS}, found {found}")
        # Not part of the saved file: without it the text "[EOS]" becomes the special id.
        inner.encode_special_tokens = True
        self._inner = inner

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learn merges until there are ``vocab_size`` tokens; little text gives fewer."""
        if vocab_size < SMALLEST_VOCABULARY:
            raise ValueError(f"vocab_size must be >= {SMALLEST_VOCABULARY}, not {vocab_size}")
        inner = tokenizers.Tokenizer(models.BPE())
        # The byte-level pattern never joins a letter with a bracket, so that no merge can spell a
        # special token.
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return cls(inner)

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read ``tokenizer.json`` from ``folder``. Raises TokenizerError."""
        path = Path(folder, FILE_NAME)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TokenizerError(f"cannot read {path}: {error}") from error
        try:
            inner = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception for a damaged file
            raise TokenizerError(f"{path} is not a tokenizer file: {error}") from error
        return cls(inner)

    def save(self, folder: str | Path) -> Path:
        """Write ``tokenizer.json`` into ``folder``; a reader never sees half a file."""
        path = Path(folder, FILE_NAME)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(self._inner.to_str(pretty=True) + "\n", encoding="utf-8")
        os.replace(partial, path)
        return path

    @property
    def vocab_size(self) -> int:
        """How many ids there are; every id is smaller."""
        return int(self._inner.get_vocab_size())

    @cached_property
    def fingerprint(self) -> str:
        """Same fingerprint, same ids for every text. Does not depend on the library's version."""
        model = json.loads(self._inner.to_str())["model"]
        rules = json.dumps([model["vocab"], model["merges"]], sort_keys=True)
        return hashlib.sha256(rules.encode()).hexdigest()[:16]

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, never a special one. Raises TokenizerError for a lone surrogate."""
        try:
            return list(self._inner.encode(text, add_special_tokens=False).ids)
        except TypeError:
            raise not_unicode(text) from None

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` for many texts at once, on all cores."""
        try:
            encodings = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError:
            return [self.encode(text) for text in texts]  # names the text at fault
        return [list(encoding.ids) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids``; special ids are left out, bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def query_ids(self, query: str) -> list[int]:
        """What the decoder is given: ``[BOS] [Q] query [A]``, after which the answer begins."""
        return template.query_ids(self.encode(query))

    def interaction_ids(self, query: str, answer: str) -> list[int]:
        """A whole interaction: ``[BOS] [Q] query [A] answer [EOS]``."""
        return template.interaction_ids(self.encode(query), self.encode(answer))

    def token_bytes(self, token: int) -> bytes:
        """The bytes that an id stands for: none for a special one, perhaps part of a character."""
        if not 0 <= token < len(self._bytes):
            raise TokenizerError(f"id {token} is not in [0, {len(self._bytes)})")
        return self._bytes[token]

    @cached_property
    def _bytes(self) -> list[bytes]:
        byte_of = bytes_of_symbols()
        table = [b""] * self.vocab_size
        for symbol, token in self._inner.get_vocab(with_added_tokens=True).items():
            if token >= len(SPECIAL_TOKENS):
                table[token] = bytes(byte_of[character] for character in symbol)
        return table

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, fingerprint={self.fingerprint!r})"


class IncrementalDetokenizer:
    """Turns a stream of ids into text that never ends in the middle of a character.

    The pieces joined are exactly ``tokenizer.decode`` of the ids. A piece may end before a
    combining mark: to know that none follows, every answer would have to lag by a character.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that became complete with ``token``; empty inside a character."""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        """What was held back: U+FFFD for an unfinished character, usually nothing."""
        return self._decoder.decode(b"", final=True)


def bytes_of_symbols() -> dict[str, int]:
    """The byte that each printable symbol of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, are the characters
    from U+0100 on.
    """
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in itself]
    table = {chr(byte): byte for byte in itself}
    return table | {chr(0x100 + index): byte for index, byte in enumerate(others)}


def not_unicode(text: Any) -> Exception:
    """Why the library refused ``text``."""
    if not isinstance(text, str):
        return TypeError(f"expected text, not {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return TokenizerError(f"the text is not valid Unicode at character {error.start}")
    return TypeError("the tokenizer refused the text")
