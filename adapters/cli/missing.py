"""Optional libraries: found, or an error that names the command to type."""

from __future__ import annotations

import importlib
from typing import Any

from .failure import CommandError


def import_optional(module: str, extra: str) -> Any:
    """Import ``module``; CommandError says which extra brings it when it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != module.split(".")[0]:
            raise
        raise CommandError(
            f"this needs {module.split('.')[0]}; install it with: pip install 'rxstream[{extra}]'"
        ) from error


def import_tqdm() -> Any:
    """The progress bar class."""
    return import_optional("tqdm", "train").tqdm
