"""Where model ids that are no folders come from: a hook, so that this package knows no network.

The distribution names an implementation in the entry-point group ``rxtmodel.hub``; any other can be
given to ``use_hub``.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from .errors import CheckpointError

GROUP = "rxtmodel.hub"


class ModelHub(Protocol):
    """A place that keeps model folders under ids such as ``organisation/name``."""

    def download(self, repo_id: str, *, revision: str | None = None) -> Path:
        """A local folder with the files of a model. Raises CheckpointError."""
        ...

    def upload(self, folder: Path, repo_id: str, *, private: bool = False) -> str:
        """Publish a model folder; returns where it can be seen. Raises CheckpointError."""
        ...


_chosen: ModelHub | None = None


def use_hub(hub: ModelHub | None) -> None:
    """Take models from ``hub`` in this process; None: from the installed one again."""
    global _chosen
    _chosen = hub


def find_hub() -> ModelHub:
    """The hub in use. CheckpointError when none is installed."""
    if _chosen is not None:
        return _chosen
    for entry in entry_points(group=GROUP):
        hub: ModelHub = entry.load()
        return hub
    raise CheckpointError(
        f"no model hub is installed (entry point {GROUP}); give a local folder, or use_hub(...)"
    )


def local_folder(folder_or_id: Path | str, revision: str | None = None) -> Path:
    """The folder itself, or one downloaded from the hub where it is an id and no folder."""
    folder = Path(folder_or_id)
    if folder.is_dir() or isinstance(folder_or_id, Path) or not _is_id(folder_or_id):
        return folder
    return find_hub().download(folder_or_id, revision=revision)


def _is_id(text: str) -> bool:
    parts = text.split("/")
    return len(parts) == 2 and all(parts) and not text.startswith((".", "~"))
