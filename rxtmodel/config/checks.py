"""What every configuration checks of its fields; errors name the field and its value."""

from __future__ import annotations

from typing import Any, get_args

from ..errors import ConfigError


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
    number = isinstance(value, int | float) and not isinstance(value, bool)
    require(
        number and low <= value < high, f"{name} must be a number in [{low}, {high}), got {value!r}"
    )


def require_one_of(config: Any, name: str, choices: Any) -> None:
    """The field is one of the values of a Literal."""
    value, known = getattr(config, name), get_args(choices)
    require(value in known, f"{name} must be one of {', '.join(known)}, got {value!r}")
