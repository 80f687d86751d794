"""What every configuration checks of its fields; errors name the field and its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..template import TokenIds

_INF = float("inf")


def require(ok: bool, message: str) -> None:
    """Raise ConfigError with ``message`` unless ``ok``."""
    if not ok:
        raise ConfigError(message)


def require_whole(config: Any, *names: str, least: int = 1) -> None:
    """The fields are whole numbers of at least ``least``."""
    for name in names:
        value = getattr(config, name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        require(
            whole and value >= least, f"{name} must be a whole number >= {least}, got {value!r}"
        )


def require_whole_or_none(config: Any, *names: str) -> None:
    """The fields are None or whole numbers of at least 1."""
    require_whole(config, *(name for name in names if getattr(config, name) is not None))


def require_number(config: Any, name: str, low: float, high: float) -> None:
    """The field is a number in [low, high)."""
    value = getattr(config, name)
    require(
        _is_number(value) and low <= value < high,
        f"{name} must be a number in [{low}, {high}), got {value!r}",
    )


def require_positive(config: Any, *names: str) -> None:
    """The fields are finite numbers above 0."""
    for name in names:
        value = getattr(config, name)
        require(
            _is_number(value) and 0 < value < _INF, f"{name} must be a number > 0, got {value!r}"
        )


def require_positive_or_none(config: Any, *names: str) -> None:
    """The fields are None or finite numbers above 0."""
    require_positive(config, *(name for name in names if getattr(config, name) is not None))


def require_finite(config: Any, *names: str) -> None:
    """The fields are finite numbers."""
    for name in names:
        value = getattr(config, name)
        require(
            _is_number(value) and -_INF < value < _INF,
            f"{name} must be a finite number, got {value!r}",
        )


def require_bool(config: Any, *names: str) -> None:
    """The fields are True or False: of other values nobody knows which was meant."""
    for name in names:
        value = getattr(config, name)
        require(isinstance(value, bool), f"{name} must be True or False, got {value!r}")


def require_part(config: Any, kind: type, *names: str) -> None:
    """The fields are configurations of that class."""
    for name in names:
        value = getattr(config, name)
        found = "None" if value is None else type(value).__name__
        require(isinstance(value, kind), f"{name} must be of class {kind.__name__}, got {found}")


def require_part_or_none(config: Any, kind: type, *names: str) -> None:
    """The fields are None or configurations of that class."""
    require_part(config, kind, *(name for name in names if getattr(config, name) is not None))


def require_one_of(config: Any, name: str, choices: Any) -> None:
    """The field is one of the values of a Literal."""
    value, known = getattr(config, name), get_args(choices)
    require(value in known, f"{name} must be one of {', '.join(known)}, got {value!r}")


def require_tokens(tokens: TokenIds, vocab_size: int, used: Sequence[str]) -> None:
    """Ids are in the vocabulary; of the ``used`` ones, which begin parts, none is another's too.

    What only frames text may be one token, as where text begins and ends with the same.
    """
    ids = {name: i for name, i in tokens.to_dict().items() if name != "ends" and i is not None}
    ids |= {f"ends[{n}]": i for n, i in enumerate(tokens.ends)}
    for name, token in ids.items():
        require(
            token < vocab_size,
            f"tokens.{name}={token} must be below vocab_size={vocab_size}; name its id, or None "
            "where the vocabulary has no such token",
        )
    for part in used:
        same = [name for name, i in ids.items() if name != part and i == ids[part]]
        require(
            not same,
            f"tokens.{part}={ids[part]} is the id of {', '.join(same)} too; what begins a part of "
            "the template needs an id of its own",
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
