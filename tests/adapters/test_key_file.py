"""Keys in a file: made, added, refused when others can read them; commands that use them."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adapters.cli import main
from adapters.stores.directory import DirectoryStore
from adapters.stores.encrypted import EncryptedStore
from adapters.stores.key_file import add_key, read_keys
from adapters.stores.sqlite import SqliteStore
from rxstream.errors import StoreUnavailable
from rxstream.testing._store_samples import commit_next, record

if TYPE_CHECKING:
    from collections.abc import Callable

    Rxt = Callable[..., tuple[int, str, str]]


def test_a_key_that_was_added_is_current_and_the_old_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "a")
    sealed = read_keys(path).seal(b"x", ("m",), b"1")
    add_key(path, "b")
    keys = read_keys(path)
    assert keys.current == "b"
    assert keys.open(sealed, ("m",), "a", "it") == b"x"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("name", ["a", "", "n" * 65])
def test_a_name_that_cannot_be_is_refused_and_the_file_is_as_it_was(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "a")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable):
        add_key(path, name)
    assert path.read_bytes() == before


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "a")
    path.chmod(0o640)
    with pytest.raises(StoreUnavailable, match="chmod 600"):
        read_keys(path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": "rxstream.keys", "current": "a", "keys": {"a": "!"}}',
     '{"format": "rxstream.keys", "current": "b", "keys": {"a": "AAAA"}}',
     '{"format": "x", "current": "a", "keys": {}}', '{"format": "rxstream.keys"}'],
)  # fmt: skip
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(StoreUnavailable, match="is not a file of keys"):
        read_keys(path)
    with pytest.raises(StoreUnavailable, match="is not a file of keys"):
        add_key(path, "new")
    assert path.read_text() == content


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="rxt memory new-key"):
        read_keys(tmp_path / "absent")
    with pytest.raises(StoreUnavailable, match="cannot write"):
        add_key(tmp_path / "absent" / "keys.json", "a")


@pytest.fixture
def rxt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rxt:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["memory", *words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_a_store_is_encrypted_by_copying_and_keys_are_changed_by_copying_again(rxt: Rxt) -> None:
    with closing(SqliteStore("plain.db")) as store:
        commit_next(store)
        commit_next(store)
        store.append("m", record("my secret"))
        expected = store.load("m")
    plain, sealed, anew = "sqlite:///plain.db", "dir:///sealed", "dir:///anew"
    assert rxt("new-key", "keys.json", "--name", "old")[0] == 0
    assert rxt("copy", "--store", plain, "--to", sealed, "--to-keys", "keys.json")[0] == 0
    assert rxt("new-key", "keys.json", "--name", "new")[0] == 0
    both = ["--keys", "keys.json"]
    words = ("copy", "--store", sealed, *both, "--to", anew, "--to-keys", "keys.json")
    assert rxt(*words)[1] == "m: 2 versions, 1 log records\n"
    keys = json.loads(Path("keys.json").read_text())
    del keys["keys"]["old"]
    Path("keys.json").write_text(json.dumps(keys))
    assert rxt("verify", "--store", anew, *both)[0] == 0
    status, out, _ = rxt("verify", "--store", sealed, *both)
    assert status == 1 and "'old', which is not at hand" in out
    with closing(EncryptedStore(DirectoryStore("anew"), read_keys("keys.json"))) as store:
        assert store.load("m") == expected
    on_disk = b"".join(p.read_bytes() for p in Path("anew").rglob("*") if p.is_file())
    assert b"my secret" not in on_disk


def test_what_is_not_encrypted_is_read_only_when_that_is_said(rxt: Rxt) -> None:
    with closing(SqliteStore("plain.db")) as store:
        commit_next(store)
    rxt("new-key", "keys.json")
    words = ("show", "m", "--store", "sqlite:///plain.db", "--keys", "keys.json")
    status, _, err = rxt(*words)
    assert status == 1 and "is not encrypted, which is refused" in err
    assert rxt(*words, "--plain")[0] == 0
    status, _, err = rxt("list", "--store", "sqlite:///plain.db", "--keys", "absent.json")
    assert (status, err.count("\n")) == (1, 1) and "new-key" in err
