"""Models on the Hugging Face Hub, for ``from_pretrained`` and ``push_to_hub``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, snapshot_download

from rxtmodel.errors import CheckpointError

from .hub_errors import FAILURES, why

if TYPE_CHECKING:
    from rxtmodel.hub import ModelHub

FILES = ("config.json", "model.safetensors", "tokenizer.json", "README.md")
"""What a model folder is made of; nothing else is ever fetched."""


class HuggingFaceHub:
    """``rxtmodel.hub.ModelHub`` on the Hugging Face Hub; the token is the library's business."""

    def download(self, repo_id: str, *, revision: str | None = None) -> Path:
        """The files of a model, from the local cache where they are there already."""
        try:
            folder = snapshot_download(repo_id, revision=revision, allow_patterns=list(FILES))
        except FAILURES as error:
            raise CheckpointError(
                f"{repo_id} is neither a model folder nor a model that the Hub gives: {why(error)}"
            ) from error
        return Path(folder)

    def upload(self, folder: Path, repo_id: str, *, private: bool = False) -> str:
        """Create the repository if there is none and put the files of ``folder`` there."""
        api = HfApi()
        try:
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=list(FILES))
        except FAILURES as error:
            raise CheckpointError(f"the Hub did not take {repo_id}: {why(error)}") from error
        return str(url)


HUB: ModelHub = HuggingFaceHub()
