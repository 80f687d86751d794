"""Stores open by address."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from adapters.stores.sqlite import SqliteStore
from rxstream.errors import StoreUnavailable
from rxstream.stores import open_store
from rxstream.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path


class TestOpeningByAddress:
    def test_memory_opens_an_empty_store(self) -> None:
        first, second = open_store("memory:"), open_store("memory:")
        assert isinstance(first, MemoryStore)
        assert first is not second

    def test_a_store_is_returned_as_it_is(self) -> None:
        store = MemoryStore()
        assert open_store(store) is store

    def test_sqlite_opens_the_file_of_an_absolute_path(self, tmp_path: Path) -> None:
        with closing(open_store(f"sqlite:///{tmp_path}/a b%20.db")) as store:
            assert isinstance(store, SqliteStore)
        assert (tmp_path / "a b%20.db").is_file()

    def test_sqlite_opens_relative_and_home_paths(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home, here = tmp_path / "home", tmp_path / "here"
        home.mkdir()
        here.mkdir()
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.chdir(here)
        open_store("sqlite:///~/x.db").close()
        open_store("sqlite:///x.db").close()
        assert (home / "x.db").is_file()
        assert (here / "x.db").is_file()

    @pytest.mark.parametrize("address", ["mongodb://localhost", "memories", "", "/tmp/x.db", ":"])
    def test_an_unknown_scheme_is_answered_with_the_known_ones(self, address: str) -> None:
        with pytest.raises(StoreUnavailable, match=r"memory:, .*sqlite:"):
            open_store(address)

    @pytest.mark.parametrize(
        "address",
        ["memory:x", "sqlite:", "sqlite://", "sqlite:///", "sqlite:x.db", "sqlite:///:memory:"],
    )
    def test_an_incomplete_address_says_how_to_write_it(self, address: str) -> None:
        with pytest.raises(StoreUnavailable, match="write (memory|sqlite)"):
            open_store(address)

    @pytest.mark.parametrize("query", ["mode=rwc", "cache=shared", "immutable=1", "x"])
    def test_an_unknown_option_is_refused_with_the_known_ones(
        self, tmp_path: Path, query: str
    ) -> None:
        with pytest.raises(StoreUnavailable, match="known: mode=ro"):
            open_store(f"sqlite:///{tmp_path}/x.db?{query}")
        assert list(tmp_path.iterdir()) == []
