"""Text to ids and back, with the special tokens of the interaction template.

    tokenizer = Tokenizer.train(["my dog is called Biscuit", "..."], vocab_size=2048)
    tokenizer.save("runs/mine")                               # writes runs/mine/tokenizer.json
    Tokenizer.load("runs/mine").encode("Biscuit")

Ours are byte-level BPE: every text survives ``decode(encode(text))`` unchanged. Those of other
models are read as well, as far as ``spelling`` knows how they write text. No text can produce an id
of the template: a user who types ``[EOS]`` gets the ids of five ordinary characters.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from rxtmodel import template
from rxtmodel.template import TokenIds

from .spelling import SpellingError, spelling_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .spelling import Spelling

FILE_NAME = "tokenizer.json"
SPECIAL_TOKENS = template.SPECIAL_TOKENS
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256
"""Special tokens, and one token for each byte so that nothing is ever unknown."""
_RECENT, _SHORT = 1024, 4096
"""How many texts, of so many characters, are not encoded again: a query would be when it is
accepted, when it is read and when it is remembered."""
_OURS = TokenIds()
_PLACED = ("bos", "eos", "query", "answer", "think", "internal", "tool_use", "tool_call")
"""What the template places and a model draws."""


class TokenizerError(ValueError):
    """A tokenizer file is missing or cannot be used, or a text is not valid Unicode."""


class Tokenizer:
    """Text as ids of one vocabulary.

    Args:
        tokens: ids of the template's special tokens, as the model has them.
        data: what the file holds; None: what would be saved.
        size: ids that the model has; those beyond the vocabulary stand for nothing.

    Raises TokenizerError when the vocabulary has no such special tokens, or spells text in a way
    that is not known.
    """

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        tokens: TokenIds = _OURS,
        data: dict[str, Any] | None = None,
        size: int = 0,
    ) -> None:
        self.tokens = tokens
        # Not part of the saved file: without it the text "[EOS]" becomes the special id.
        inner.encode_special_tokens = True
        self._inner = inner
        self._recent = lru_cache(_RECENT)(self._encode)
        self._data: dict[str, Any] = json.loads(inner.to_str()) if data is None else data
        self._check_special()
        try:
            self._spelling: Spelling = spelling_of(self._data, tokens.special())
        except (SpellingError, KeyError, TypeError) as error:
            raise TokenizerError(f"not a tokenizer that we can use: {error}") from error
        self._spelling.bytes.extend([b""] * (size - len(self._spelling.bytes)))

    def _check_special(self) -> None:
        """Refuse ids of the template that are text, or that nothing has."""
        special = {
            i for i, token in self._inner.get_added_tokens_decoder().items() if token.special
        }
        placed = [(name, getattr(self.tokens, name)) for name in _PLACED]
        for name, token in [*placed, *(("ends", end) for end in self.tokens.ends)]:
            if token is None:
                continue
            text = self._inner.id_to_token(token)
            if text is None or token not in special:
                what = "no token" if text is None else f"the text {text!r}"
                raise TokenizerError(
                    f"id {token} should be the special token {name!r} of the template, but is "
                    f"{what}: this is not the tokenizer that the model was trained with"
                )
            if token in self.encode(text):
                raise TokenizerError(f"the text {text!r} would become the special token {name!r}")

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learn merges until there are ``vocab_size`` tokens; little text gives fewer.

        Byte-level BPE. Each digit is a token, so that numbers are copied and not guessed.
        """
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
    def load(cls, folder: str | Path, tokens: TokenIds = _OURS, *, size: int = 0) -> Tokenizer:
        """Read ``tokenizer.json`` from ``folder``. Raises TokenizerError."""
        path = Path(folder, FILE_NAME)
        inner, data = read_file(path)
        try:
            return cls(inner, tokens, data, size)
        except TokenizerError as error:
            raise TokenizerError(f"{path}: {error}") from error

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
        data, model = self._data, self._data["model"]
        rules = [model["vocab"], model.get("merges")]
        if not self._is_ours:  # the rest is not always the same
            rules += [data[part] for part in ("normalizer", "pre_tokenizer", "decoder")]
            rules += [data["added_tokens"], self.tokens.to_dict()]
        return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def _is_ours(self) -> bool:
        found = tuple(self._inner.id_to_token(i) for i in range(len(SPECIAL_TOKENS)))
        return self.tokens == _OURS and found == SPECIAL_TOKENS

    @property
    def leads(self) -> bool:
        """Whether text gets a space put before it: then ids that continue a text cannot be had by
        encoding what follows."""
        return self._spelling.leads

    @cached_property
    def largest_id(self) -> int:
        """The largest id that a text or the template can give."""
        text: int = max((i for i, spelt in enumerate(self._spelling.bytes) if spelt), default=0)
        return max(text, *(getattr(self.tokens, name) or 0 for name in _PLACED))

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, never a special one. Raises TokenizerError for a lone surrogate."""
        return list(self._recent(text) if len(text) <= _SHORT else self._encode(text))

    def _encode(self, text: str) -> tuple[int, ...]:
        try:
            return tuple(self._inner.encode(text, add_special_tokens=False).ids)
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
        ids, table = list(ids), self._spelling.bytes
        if ids and not 0 <= min(ids) <= max(ids) < len(table):
            for token in ids:  # to name the one at fault
                self.token_bytes(token)
        text = b"".join([table[token] for token in ids]).decode("utf-8", errors="replace")
        return text.removeprefix(" ") if self.leads else text

    def query_ids(self, query: str) -> list[int]:
        """What the decoder is given: ``[BOS] [Q] query [A]``, after which the answer begins."""
        return self.tokens.query_ids(self.encode(query))

    def interaction_ids(self, query: str, answer: str) -> list[int]:
        """A whole interaction: ``[BOS] [Q] query [A] answer [EOS]``."""
        return self.tokens.interaction_ids(self.encode(query), self.encode(answer))

    def token_bytes(self, token: int) -> bytes:
        """The bytes that an id stands for: none for a special one, perhaps part of a character."""
        table = self._spelling.bytes
        if not 0 <= token < len(table):
            raise TokenizerError(f"id {token} is not in [0, {len(table)})")
        return table[token]

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
        self._drops_space = tokenizer.leads

    def push(self, token: int) -> str:
        """The text that became complete with ``token``; empty inside a character."""
        text = self._decoder.decode(self._tokenizer.token_bytes(token))
        if text and self._drops_space:
            self._drops_space = False
            return text.removeprefix(" ")
        return text

    @property
    def between(self) -> bool:
        """Whether the next token's text does not depend on those before it."""
        return not (self._drops_space or self._decoder.getstate()[0])

    def finish(self) -> str:
        """What was held back: U+FFFD for an unfinished character, usually nothing."""
        return self._decoder.decode(b"", final=True)


def read_file(path: Path) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    """A tokenizer file, and what it holds. Raises TokenizerError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"cannot read {path}: {error}") from error
    try:
        return tokenizers.Tokenizer.from_str(text), json.loads(text)
    except Exception as error:  # the library raises bare Exception for a damaged file
        raise TokenizerError(f"{path} is not a tokenizer file: {error}") from error


def not_unicode(text: Any) -> Exception:
    """Why the library refused ``text``."""
    if not isinstance(text, str):
        return TypeError(f"expected text, not {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return TokenizerError(f"the text is not valid Unicode at character {error.start}")
    return TypeError("the tokenizer refused the text")
