"""Models by id: from whatever hub the program uses, and to it."""

from __future__ import annotations

import importlib
import shutil
import tomllib
from pathlib import Path

import pytest
import torch

from rxtmodel import CheckpointError, ReactiveTransformer, use_hub
from rxtmodel import hub as hub_module

from .tiny import tiny_model

ROOT = Path(__file__).parents[2]


class ShelfHub:
    """Folders on a shelf."""

    def __init__(self, shelf: Path) -> None:
        self.shelf = shelf
        self.asked: list[tuple[str, str | None]] = []

    def download(self, repo_id: str, *, revision: str | None = None) -> Path:
        self.asked.append((repo_id, revision))
        return self.shelf / repo_id

    def upload(self, folder: Path, repo_id: str, *, private: bool = False) -> str:
        shutil.copytree(folder, self.shelf / repo_id)
        return f"shelf://{repo_id}?private={private}"


@pytest.fixture
def shelf(tmp_path):
    hub = ShelfHub(tmp_path / "shelf")
    use_hub(hub)
    yield hub
    use_hub(None)


def test_a_model_goes_to_a_hub_and_comes_back(shelf):
    model = tiny_model()
    assert model.push_to_hub("me/mine", private=True) == "shelf://me/mine?private=True"
    loaded = ReactiveTransformer.from_pretrained("me/mine", revision="v2")
    assert shelf.asked == [("me/mine", "v2")]
    state = model.state_dict()
    assert all(torch.equal(w, state[n]) for n, w in loaded.state_dict().items())


def test_a_folder_is_never_asked_of_a_hub(shelf, tmp_path, monkeypatch):
    tiny_model().save_pretrained(tmp_path / "me" / "mine")
    monkeypatch.chdir(tmp_path)
    ReactiveTransformer.from_pretrained("me/mine")
    for place in ("./no/model", "~/model", "a/b/c", "model", Path("me/other")):
        with pytest.raises(CheckpointError, match="does not exist"):
            ReactiveTransformer.from_pretrained(place)
    assert shelf.asked == []


def test_without_a_hub_an_id_is_refused(monkeypatch):
    monkeypatch.setattr(hub_module, "entry_points", lambda group: ())
    with pytest.raises(CheckpointError, match="no model hub is installed"):
        ReactiveTransformer.from_pretrained("me/mine")


def test_the_distribution_names_a_hub_that_can_be_loaded():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (place,) = project["entry-points"][hub_module.GROUP].values()
    module, _, name = place.partition(":")
    hub = getattr(importlib.import_module(module), name)
    assert callable(hub.download)
    assert callable(hub.upload)
