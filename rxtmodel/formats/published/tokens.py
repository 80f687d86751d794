"""The ids of special tokens in published configs.

A published model has the token of a part of the template if it was trained with it, so a file holds
the ids of what a model does, and no others: five of a model that only answers, nine of one that
thinks, calls tools and follows instructions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import ConfigError
from ...template import TokenIds

if TYPE_CHECKING:
    from ...config import RxtConfig

_REQUIRED = ("pad", "bos", "eos", "query", "answer")
_OPTIONAL = ("think", "internal", "tool_use", "tool_call")
_UNSAID = ("unk", "mask")


def tokens_in(config: Any, vocab_size: int) -> dict[str, Any]:
    """Our fields for a ``tokenizer_config``: the ids, and what the model does with them.

    Without one a model has the ids of our own template, and does what every model does.
    """
    if config is None:
        return {"tokens": TokenIds()}
    if not isinstance(config, dict):
        raise ConfigError(f"tokenizer_config must be an object, got {config!r}")
    ids = {name: config.get(f"{name}_token_id") for name in (*_REQUIRED, *_OPTIONAL)}
    if missing := [f"{name}_token_id" for name in _REQUIRED if ids[name] is None]:
        raise ConfigError(f"tokenizer_config lacks {', '.join(missing)}")
    return {
        "tokens": TokenIds(**ids, **_unsaid(ids, vocab_size)),
        "thinks": ids["think"] is not None,
        "calls_tools": ids["tool_call"] is not None and ids["tool_use"] is not None,
        "instructed": ids["internal"] is not None,
    }


def tokens_out(config: RxtConfig) -> dict[str, Any]:
    """``tokenizer_config`` of a model, and the title of a system prompt where it knows those."""
    tokens = config.tokens
    names = list(_REQUIRED)
    names += ["think"] if config.thinks else []
    names += ["internal"] if config.instructed else []
    names += ["tool_use", "tool_call"] if config.calls_tools else []
    out: dict[str, Any] = {
        "tokenizer_config": {f"{name}_token_id": getattr(tokens, name) for name in names}
    }
    if len(names) == len(_REQUIRED) + len(_OPTIONAL):
        out["system_prompt_title"] = "SYSTEM INSTRUCTIONS"
    return out


def says_unsaid(config: RxtConfig) -> bool:
    """Whether the ids of [UNK] and [MASK], for which the format has no field, are as assumed."""
    written = tokens_out(config)["tokenizer_config"]
    ids = {name.removesuffix("_token_id"): token for name, token in written.items()}
    own = {name: getattr(config.tokens, name) for name in _UNSAID}
    return own == _unsaid(ids, config.vocab_size)


def _unsaid(ids: dict[str, Any], vocab_size: int) -> dict[str, int | None]:
    """[UNK] and [MASK] where everybody has them, unless that place is another token's."""
    usual = {name: getattr(TokenIds, name) for name in _UNSAID}
    taken = list(ids.values())
    return {
        name: None if token in taken or token >= vocab_size else token
        for name, token in usual.items()
    }
