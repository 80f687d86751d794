"""Our own ``config.json``: every default spelled out, with a version.

Version 1 had no version field and fewer settings, version 2 did not say what a model was trained
for; what they did not have is read as what it stood for then, whatever the defaults are now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config import RxtConfig
from ..config.models import NEW_IN_2, NEW_IN_3, NEW_IN_4
from ..errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from ..config import LmConfig

VERSION = 4
_FRAME = ("format", "format_version", "model")


def to_json(config: LmConfig, model: str) -> dict[str, Any]:
    """The content of ``config.json`` for a model of the class called ``model``."""
    frame = {"format": "rxtmodel", "format_version": VERSION, "model": model}
    return {**frame, **config.to_dict()}


def from_json(data: Any, cls: type[LmConfig], model: str) -> LmConfig:
    """Inverse of ``to_json``.

    Raises:
        ConfigError: a field is missing, unknown or impossible.
        CheckpointError: a newer version, or a model of another class.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{cls.__name__} needs an object, got {type(data).__name__}")
    version, found = data.get("format_version", 1), data.get("model", "ReactiveTransformer")
    if not isinstance(version, int) or version > VERSION:
        raise CheckpointError(
            f"the configuration has format version {version!r}, this program reads up to "
            f"{VERSION}; update it"
        )
    if found != model:
        raise CheckpointError(f"the folder holds a {found}, not a {model}")
    fields = {name: value for name, value in data.items() if name not in _FRAME}
    if version < 3 and issubclass(cls, RxtConfig):
        fields = _completed(fields, NEW_IN_3)
    if version < 4 and issubclass(cls, RxtConfig):
        fields = _completed(fields, NEW_IN_4)
    if version == 1:
        return cls.from_dict(_completed(fields, NEW_IN_2))
    config = cls.from_dict(fields)
    if missing := sorted(_missing(config.to_dict(), fields)):
        raise ConfigError(f"{cls.__name__} lacks {', '.join(missing)}")
    return config


def _completed(fields: dict[str, Any], neutral: dict[str, Any]) -> dict[str, Any]:
    """``fields`` with what version 1 stood for where they say nothing."""
    out = dict(fields)
    for name, value in neutral.items():
        if name not in out:
            # A part with fields of its own that is missing whole has its defaults as a whole.
            if not isinstance(value, dict) or name == "tokens":
                out[name] = value
        elif isinstance(value, dict) and isinstance(out[name], dict):
            out[name] = _completed(out[name], value)
    return out


def _missing(complete: dict[str, Any], found: dict[str, Any], place: str = "") -> list[str]:
    out = []
    for name, value in complete.items():
        if name not in found:
            out.append(place + name)
        elif isinstance(value, dict):
            out += _missing(value, found[name], f"{place}{name}.")
    return out
