"""The tokenizer of a language model, extended by the special tokens of the interaction template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tokenizers

from rxtmodel.template import SPECIAL_TOKENS, TokenIds

from .spelling import SpellingError, spelling_of
from .tokenizer import FILE_NAME, Tokenizer, TokenizerError, read_file

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self


class ForeignVocabulary:
    """A ``tokenizer.json`` that knows nothing of the template yet."""

    def __init__(self, path: Path, inner: tokenizers.Tokenizer, data: dict[str, Any]) -> None:
        self._path, self._inner = path, inner
        try:
            ids = len(spelling_of(data, ()).bytes)
        except (SpellingError, KeyError, TypeError, ValueError) as error:
            raise TokenizerError(f"{path} is not a tokenizer that we can use: {error}") from error
        self.size = max(ids, int(inner.get_vocab_size(with_added_tokens=True)))
        """The first id that is free."""
        added = inner.get_added_tokens_decoder()
        self.special = frozenset(i for i, token in added.items() if token.special)
        """Ids that no text gives."""

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """The one in ``folder``, if there is one. Raises TokenizerError."""
        path = folder / FILE_NAME
        return cls(path, *read_file(path)) if path.is_file() else None

    def with_template(self, tokens: TokenIds) -> Tokenizer:
        """With the special tokens that lie beyond the vocabulary. Raises TokenizerError."""
        defaults = TokenIds().to_dict()
        ids = {name: i for name, i in tokens.to_dict().items() if name in defaults}
        new = {i: name for name, i in ids.items() if i is not None and i >= self.size}
        for token, name in sorted(new.items()):
            text = SPECIAL_TOKENS[defaults[name]]
            while self._inner.token_to_id(text) is not None:  # a word of the model's language
                text = f"[{text}]"
            self._inner.add_special_tokens(
                [tokenizers.AddedToken(text, special=True, normalized=False)]
            )
            if (found := self._inner.token_to_id(text)) != token:
                raise TokenizerError(
                    f"{self._path} gives {text} the id {found}, the model has {token} for it: the "
                    "vocabulary has gaps"
                )
        try:
            return Tokenizer(self._inner, tokens)
        except TokenizerError as error:
            raise TokenizerError(f"{self._path}: {error}") from error
