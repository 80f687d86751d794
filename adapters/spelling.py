"""How a vocabulary spells text: the bytes that each id stands for.

Two ways are known, and between them nearly every decoder that is shared is covered: *byte-level*
(GPT-2, Llama 3, Qwen, ours), where each character of a token stands for a byte, and *sentencepiece*
(Llama 1 and 2, Mistral), where a space is ``▁`` and a byte that no token covers is ``<0x0A>``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

SPACE = "\u2581"
"""What stands for a space in a sentencepiece vocabulary."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_MODELS = ("BPE", "Unigram")


class SpellingError(ValueError):
    """A vocabulary that spells text in a way we do not know."""


class Spelling(NamedTuple):
    """What the ids of a vocabulary stand for."""

    bytes: list[bytes]
    """By id: none for a special token, perhaps part of a character."""
    leads: bool
    """Text gets a space put before it, which has to be taken away again."""


def spelling_of(data: Mapping[str, Any], special: Collection[int]) -> Spelling:
    """The spelling of the content of a ``tokenizer.json``; ``special`` ids stand for nothing.

    Raises SpellingError.
    """
    model = data["model"]
    if model.get("type") not in _MODELS:
        raise SpellingError(f"the model must be {' or '.join(_MODELS)}, found {model.get('type')}")
    decoder, before = list(_steps(data["decoder"])), list(_steps(data["pre_tokenizer"]))
    levels = [step for step in (*before, *decoder) if step["type"] == "ByteLevel"]
    if levels:
        leads = any(s["type"] == "ByteLevel" and s.get("add_prefix_space", True) for s in before)
        spell = _byte_level
    elif _is_sentencepiece(before, decoder):
        leads = any(map(_takes_space, decoder))
        spell = _sentencepiece
    else:
        raise SpellingError(
            "it spells text neither by bytes (ByteLevel) nor with U+2581 for spaces"
        )
    table = {token: spell(text) for text, token in _vocabulary(model)}
    for added in data["added_tokens"]:
        hidden = added["special"] or added["id"] in special
        table[added["id"]] = b"" if hidden else added["content"].encode()
    table |= dict.fromkeys(special, b"")
    return Spelling([table.get(token, b"") for token in range(max(table) + 1)], leads)


def _vocabulary(model: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        yield from vocabulary.items()
    else:
        yield from ((text, token) for token, (text, _) in enumerate(vocabulary))


def _steps(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The steps of a decoder or pre-tokenizer, sequences laid flat."""
    if part is None:
        return
    nested = part.get("decoders", part.get("pretokenizers"))
    if part["type"] == "Sequence" and nested is not None:
        for inner in nested:
            yield from _steps(inner)
    else:
        yield part


def _is_sentencepiece(before: list[Mapping[str, Any]], decoder: list[Mapping[str, Any]]) -> bool:
    return any(
        step["type"] == "Metaspace"
        or (step["type"] == "Replace" and step.get("pattern") == {"String": SPACE})
        for step in (*before, *decoder)
    )


def _takes_space(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Strip":
        return bool(step.get("content") == " " and step.get("start", 0) > 0)
    if step["type"] != "Metaspace":
        return False
    scheme = step.get("prepend_scheme")
    return bool(step.get("add_prefix_space", True)) if scheme is None else scheme != "never"


def _sentencepiece(text: str) -> bytes:
    if found := _BYTE.fullmatch(text):
        return bytes([int(found[1], 16)])
    return text.replace(SPACE, " ").encode()


def _byte_level(text: str) -> bytes:
    try:
        return bytes(_BYTE_OF[character] for character in text)
    except KeyError:  # a word that was put in as it is
        return text.encode()


def bytes_of_symbols() -> dict[str, int]:
    """The byte that each printable symbol of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, are the characters
    from U+0100 on.
    """
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in itself]
    table = {chr(byte): byte for byte in itself}
    return table | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTE_OF = bytes_of_symbols()
