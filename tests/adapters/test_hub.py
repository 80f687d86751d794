"""Snapshots go to the Hub with a card and come back whole; the Hub is a server on this machine."""

from __future__ import annotations

import re
import time
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import ModelCard, constants

from adapters import hub
from adapters.cli import main
from adapters.stores.sqlite import SqliteStore
from rxstream.errors import SnapshotCorrupt, SnapshotError, SnapshotIncompatible
from rxstream.snapshot import Snapshot
from rxstream.tensorfile import encode

from . import fake_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .fake_hub import FakeHub

# Of the Hub's own client, about how it talks to its own library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

STATE = encode({"stm": ("F32", (1, 2, 2), bytes(16))})
TAUGHT = Snapshot(
    "librarian", 3, "model-1", STATE, contains_user_data=False,
    metadata={"provenance": "`a` | dialogue", "model.id": "acme/recall"},
)  # fmt: skip
HURRIED = SimpleNamespace(**(vars(time) | {"sleep": lambda _: None}))
"""The module as the Hub's client has it, which waits before it tries again."""
PLACE = "hf://acme/librarian"


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub.running() as (server, address):
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.utils._http.time", HURRIED)
        monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 34)
        yield server


def card_of(server: FakeHub) -> str:
    return server.repositories["acme/librarian"].commits[-1][1][hub.CARD].decode()


def test_what_was_published_is_loaded_again(server: FakeHub) -> None:
    url = hub.publish(TAUGHT, PLACE)
    assert hub.load(PLACE, fingerprint="model-1") == TAUGHT
    assert hub.load(PLACE).digest == TAUGHT.digest
    commit = server.repositories["acme/librarian"].commits[-1][0]
    assert url.endswith(f"acme/librarian/commit/{commit}")
    assert not server.repositories["acme/librarian"].private


def test_a_revision_gives_the_same_bytes_for_ever(server: FakeHub) -> None:
    hub.publish(TAUGHT, PLACE)
    commit = server.repositories["acme/librarian"].commits[-1][0]
    newer = Snapshot("librarian", 4, "model-1", STATE, contains_user_data=False)
    hub.publish(newer, PLACE)
    assert hub.load(f"{PLACE}@{commit}") == TAUGHT
    assert hub.load(PLACE) == newer


def test_several_snapshots_live_in_one_repository() -> None:
    hub.publish(TAUGHT, PLACE)
    other = Snapshot("poet", 1, "model-1", STATE, contains_user_data=False)
    hub.publish(other, f"{PLACE}/poets/poet.stm.safetensors")
    assert hub.load(f"{PLACE}/poets/poet.stm.safetensors") == other
    assert hub.load(PLACE) == TAUGHT


def test_the_card_says_what_it_is_and_how_to_load_it(server: FakeHub) -> None:
    about = hub.About(text="Knows where *books* are.", license="cc-by-4.0")
    hub.publish(TAUGHT, PLACE, about=about)
    card = ModelCard(card_of(server))
    assert card.data.library_name == "rxstream"
    assert card.data.tags is not None and "rxstream-stm" in card.data.tags
    assert (card.data.license, card.data.base_model) == ("cc-by-4.0", "acme/recall")
    assert "Knows where *books* are." in card.text
    assert f"| digest | `{TAUGHT.digest}` |" in card.text
    assert "| tensors | `stm F32 1x2x2` |" in card.text
    assert "| provenance | `'a' / dialogue` |" in card.text
    assert "nothing that a user said" in card.text
    (command,) = re.findall(r"rxt memory import NAME (\S+)", card.text)
    assert hub.load(command) == TAUGHT


def test_a_card_of_the_publishers_own_is_left_alone(server: FakeHub) -> None:
    hub.publish(TAUGHT, PLACE)
    hub.publish(TAUGHT, PLACE, about=hub.About(text="written anew"))
    assert "written anew" in card_of(server)
    server.repositories["acme/librarian"].commit({hub.CARD: b"mine"})
    hub.publish(TAUGHT, PLACE)
    assert card_of(server) == "mine"


def test_what_a_user_said_is_published_only_when_that_is_meant(server: FakeHub) -> None:
    private = Snapshot("m", 1, "model-1", STATE)
    with pytest.raises(SnapshotError, match="what a user said.*user_data=True"):
        hub.publish(private, PLACE)
    assert server.repositories == {}
    hub.publish(private, PLACE, user_data=True, private=True)
    assert server.repositories["acme/librarian"].private
    assert "made of what a user said" in card_of(server)


def test_of_two_publishers_at_once_the_second_is_told(server: FakeHub) -> None:
    hub.publish(TAUGHT, PLACE)
    server.before_commit = lambda: server.repositories["acme/librarian"].commit({"x": b"other"})
    with pytest.raises(SnapshotError, match="somebody else committed at the same time; try again"):
        hub.publish(TAUGHT, PLACE)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("hf://acme/nobody", "no such repository"),
        ("hf://acme/librarian@v9", "no such revision"),
        ("hf://acme/librarian/other.safetensors", "no such file"),
    ],
)
def test_what_is_not_there_is_one_clear_line(address: str, why: str) -> None:
    hub.publish(TAUGHT, PLACE)
    with pytest.raises(SnapshotError, match=why) as caught:
        hub.load(address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["acme/librarian", "hf://librarian", "hf://a/b@", "hf://a/b/"])
def test_what_is_no_address_is_refused_before_anything_is_asked(address: str) -> None:
    with pytest.raises(SnapshotError, match="write hf://owner/name"):
        hub.load(address)


@pytest.mark.parametrize(("status", "why"), [(401, "log in"), (403, "may not"), (500, ".")])
def test_a_hub_that_refuses_is_one_clear_line(server: FakeHub, status: int, why: str) -> None:
    server.refuse = status
    for action in (lambda: hub.publish(TAUGHT, PLACE), lambda: hub.load(PLACE)):
        with pytest.raises(SnapshotError, match=why) as caught:
            action()
        assert "\n" not in str(caught.value)


def test_without_a_network_the_cache_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish(TAUGHT, PLACE)
    assert hub.load(PLACE) == TAUGHT
    nowhere = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert hub.load(PLACE) == TAUGHT
    with pytest.raises(SnapshotError, match="cannot be reached, and it is not in the cache"):
        hub.load("hf://acme/other")
    with pytest.raises(SnapshotError, match="did not take"):
        hub.publish(TAUGHT, PLACE)


def test_strangers_files_are_checked_before_they_are_believed(server: FakeHub) -> None:
    hub.publish(TAUGHT, PLACE)
    with pytest.raises(SnapshotIncompatible, match="'model-1', this model is 'model-2'"):
        hub.load(PLACE, fingerprint="model-2")
    with pytest.raises(SnapshotError, match="more than the 100 allowed"):
        hub.load(PLACE, max_bytes=100)
    repository = server.repositories["acme/librarian"]
    data = bytearray(repository.commits[-1][1][hub.FILE])
    data[-1] ^= 1
    repository.commit({hub.FILE: bytes(data)})
    with pytest.raises(SnapshotCorrupt, match="digest does not"):
        hub.load(PLACE)


def test_the_command_exports_imports_and_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(SqliteStore("store.db")) as store:
        store.commit(TAUGHT, expect=None)
    (tmp_path / "about.md").write_text("A librarian.")
    store_option = ["--store", "sqlite:///store.db"]
    words = ["librarian", PLACE, "--about", "about.md", "--license", "mit", "--private"]
    assert main(["memory", "export", *store_option, *words]) == 0
    assert "published version 3 of 'librarian': http" in capsys.readouterr().out
    assert main(["memory", "verify", PLACE]) == 0
    assert f"{PLACE}: whole" in capsys.readouterr().out
    assert main(["memory", "import", *store_option, "mine", PLACE]) == 0
    with closing(SqliteStore("store.db")) as store:
        assert store.load("mine").state == STATE
    capsys.readouterr()
    assert main(["memory", "import", *store_option, "other", "hf://acme/nobody"]) == 1
    assert "no such repository" in capsys.readouterr().err
    assert main(["memory", "export", *store_option, "librarian", PLACE, "--about", "absent"]) == 1
    assert "cannot read absent" in capsys.readouterr().err
