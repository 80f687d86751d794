"""The Hugging Face Hub as a place for models: what is asked of it, and what it may answer."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

from adapters import hub, model_hub
from adapters.model_hub import HUB
from rxstream.errors import SnapshotError
from rxstream.testing._store_samples import snapshot
from rxtmodel.errors import CheckpointError

HTTP = import_module(HTTPError.__module__.partition(".")[0])
"""What the Hub's client speaks HTTP with: httpx, or its successor."""


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


@pytest.fixture
def nobody_answers(monkeypatch):
    """The Hub's own client, whose every connection is refused."""

    def refuse(*_: object, **__: object) -> None:
        raise HTTP.ConnectError("[Errno 111] Connection refused\nsomewhere")

    monkeypatch.setattr(HTTP.Client, "send", refuse)


@pytest.mark.usefixtures("nobody_answers")
class TestWithoutANetwork:
    def test_an_upload_says_that_the_hub_cannot_be_reached(self, tmp_path):
        with pytest.raises(CheckpointError) as caught:
            HUB.upload(tmp_path, "me/mine")
        assert str(caught.value) == (
            "the Hub did not take me/mine: the Hub cannot be reached ([Errno 111] Connection "
            "refused); check the network, or the proxy's settings"
        )

    def test_a_download_says_so_too(self):
        with pytest.raises(CheckpointError, match="cannot be reached, and it is not in the cache"):
            HUB.download("me/mine-that-is-nowhere")

    def test_publishing_a_snapshot_says_so_too(self):
        with pytest.raises(SnapshotError, match=r"cannot be reached \(.*; check the network"):
            hub.publish(snapshot(), "hf://me/mine", user_data=True)


def test_a_transfer_that_fails_in_its_own_library_is_one_clear_line(monkeypatch):
    def fail(*_: object, **__: object) -> str:
        raise RuntimeError("Data processing error: CAS service error")

    monkeypatch.setattr(model_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match="CAS service error"):
        HUB.download("me/mine")
    monkeypatch.setattr(hub, "hf_hub_download", fail)
    monkeypatch.setattr(hub, "get_hf_file_metadata", fail_to_connect)
    with pytest.raises(SnapshotError, match="CAS service error"):
        hub.load("hf://me/mine")


def fail_to_connect(*_: object, **__: object) -> None:
    raise HTTP.ConnectError("no network")
