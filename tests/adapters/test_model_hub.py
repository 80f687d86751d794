"""The Hugging Face Hub as a place for models: what is asked of it, and what it may answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from adapters import model_hub
from adapters.model_hub import HUB
from rxtmodel.errors import CheckpointError


class Api:
    """In place of the Hub's client: notes what is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, object]]] = []

    def create_repo(self, repo_id: str, **settings: object) -> str:
        self.calls.append(("create", {"repo_id": repo_id, **settings}))
        return f"https://hub.example/{repo_id}"

    def upload_folder(self, **settings: object) -> None:
        self.calls.append(("upload", settings))


def test_only_the_files_of_a_model_are_fetched(monkeypatch, tmp_path):
    asked = {}

    def download(repo_id: str, **settings: object) -> str:
        asked.update(settings, repo_id=repo_id)
        return str(tmp_path)

    monkeypatch.setattr(model_hub, "snapshot_download", download)
    assert HUB.download("me/mine", revision="v1") == tmp_path
    assert asked["repo_id"] == "me/mine"
    assert asked["revision"] == "v1"
    assert "model.safetensors" in asked["allow_patterns"]
    assert not any("*" in p or p.endswith((".bin", ".pt", ".py")) for p in asked["allow_patterns"])


@pytest.mark.parametrize(
    "error",
    [LocalEntryNotFoundError("no network\nand more"), HFValidationError("bad id"), OSError("full")],
)
def test_what_the_hub_does_not_give_is_one_clear_line(monkeypatch, error):
    def refuse(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(model_hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match="me/mine is neither a model folder nor") as caught:
        HUB.download("me/mine")
    assert "\n" not in str(caught.value)


def test_a_model_is_put_into_a_repository_of_its_own(monkeypatch, tmp_path):
    api = Api()
    monkeypatch.setattr(model_hub, "HfApi", lambda: api)
    assert HUB.upload(tmp_path, "me/mine", private=True) == "https://hub.example/me/mine"
    (_, created), (_, uploaded) = api.calls
    assert created == {"repo_id": "me/mine", "private": True, "exist_ok": True}
    assert uploaded["folder_path"] == tmp_path


def test_a_refused_upload_is_one_clear_line(monkeypatch):
    api = Api()

    def refuse(**_: object) -> None:
        raise OSError("the Hub is closed")

    monkeypatch.setattr(api, "upload_folder", refuse)
    monkeypatch.setattr(model_hub, "HfApi", lambda: api)
    with pytest.raises(CheckpointError, match="did not take me/mine: the Hub is closed"):
        HUB.upload(Path(), "me/mine")
