"""Full disks, failing disks and cut connections: an error or success, and never half of it."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import closing
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from adapters.stores import _directory_files
from adapters.stores.directory import DirectoryStore
from adapters.stores.postgres import PostgresStore
from adapters.stores.redis import RedisStore
from rxstream._hashing import LARGE
from rxstream.errors import StoreCorrupt, StoreUnavailable, VersionConflict
from rxstream.testing._store_samples import commit_next, record, snapshot, state

from .proxy import Proxy, proxy_to
from .services import redis_server
from .store_kinds import opener_of
from .store_worker import CALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rxstream.snapshot import Snapshot
    from rxstream.store import Store


def large(version: int) -> Snapshot:
    """One that is written while it is hashed."""
    return replace(snapshot("m", version), state=state(version, 2 * LARGE))


WRITES: list[Callable[[Store], object]] = [
    lambda store: store.commit(snapshot("m", 3), expect=2),
    lambda store: store.commit(large(3), expect=2),
    lambda store: store.append("m", record("two")),
    lambda store: store.forget("m", 1),
    lambda store: store.tag("m", "label", 1),
    lambda store: store.prune("m", keep_last=1),
    lambda store: store.delete("m"),
    lambda store: store.commit(snapshot("new", 1), expect=None),
]


class Failing:
    """``os``, but one call of those that change something fails, or writes only a part."""

    def __init__(self, at: int, code: int) -> None:
        self._calls, self._at, self._code = count(1), at, code
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*args: Any, **options: Any) -> Any:
            if next(self._calls) == self._at:
                self.failed = True
                if name == "pwrite":  # as a disk does that becomes full in the middle
                    real(args[0], bytes(args[1])[: len(args[1]) // 2], *args[2:])
                raise OSError(self._code, os.strerror(self._code))
            return real(*args, **options)

        return call


class ShortWrites:
    """``os``, whose ``pwrite`` writes at most three bytes at once, as it may."""

    def __getattr__(self, name: str) -> Any:
        if name == "pwrite":
            return lambda fd, data, position: os.pwrite(fd, bytes(data[:3]), position)
        return getattr(os, name)


def contents(store: Store) -> list[object]:
    return [store.list()] + [
        (store.head(k), [store.load(k, v) for v in store.history(k)], list(store.log(k)),
         store.tags(k))
        for k in ("m", "new")
    ]  # fmt: skip


def filled(store: Store) -> None:
    commit_next(store)
    commit_next(store)
    store.append("m", record("one"))


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "failing"])
def test_a_folder_whose_disk_fails_at_any_call_holds_all_or_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, write: Callable[[Store], object]
) -> None:
    with closing(DirectoryStore(tmp_path / "model")) as model:
        filled(model)
        before = contents(model)
        write(model)
        after = contents(model)
    for at in count(1):
        folder = tmp_path / str(at)
        with closing(DirectoryStore(folder)) as store:
            filled(store)
            failing = Failing(at, code)
            with monkeypatch.context() as patch:
                patch.setattr(_directory_files, "os", failing)
                try:
                    write(store)
                except StoreUnavailable as exc:
                    assert str(folder) in str(exc)
                    failed = True
                else:
                    failed = False
            found = contents(store)
            assert found in (before, after)
            assert failed or found == after
            store.sweep()
            assert not list(folder.rglob("*.tmp"))
            with closing(DirectoryStore(folder)) as fresh:
                assert contents(fresh) == found
            commit_next(store)  # and it goes on
            store.append("m", record("more"))
        if not failing.failed:
            break
    assert at > 2


def test_a_write_that_is_done_in_pieces_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_directory_files, "os", ShortWrites())
    with closing(DirectoryStore(tmp_path / "store")) as store:
        filled(store)
        assert store.load("m") == snapshot("m", 2)
    with closing(DirectoryStore(tmp_path / "store")) as store:
        assert [r.completed.query for r in store.log("m")] == ["one"]


@pytest.mark.parametrize("tail", [b"\x00" * 40, b"\x07\x00", None], ids=["zeros", "short", "cut"])
def test_a_torn_tail_of_a_journal_is_passed_over_and_written_over(
    tmp_path: Path, tail: bytes | None
) -> None:
    with closing(DirectoryStore(tmp_path / "store")) as store:
        filled(store)
        journal = tmp_path / "store" / "m" / "journal.rxlog"
        whole = journal.read_bytes()
        if tail is None:
            store.append("m", record("two"))
            tail = journal.read_bytes()[len(whole) : -1]
    journal.write_bytes(whole + tail)
    with closing(DirectoryStore(tmp_path / "store")) as store:
        assert [r.completed.query for r in store.log("m")] == ["one"]
        assert store.append("m", record("again")).seq == 2
    with closing(DirectoryStore(tmp_path / "store")) as store:
        assert [r.completed.query for r in store.log("m")] == ["one", "again"]


def test_everything_is_synced_before_a_folder_acknowledges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            if name == "fsync":
                return lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or os.fsync(fd)
            return getattr(os, name)

    with closing(DirectoryStore(tmp_path / "store")) as store:
        filled(store)
        monkeypatch.setattr(_directory_files, "os", Watched())
        commit_next(store)
        store.append("m", record("two"))
    names = [path.rsplit("/", 1)[-1] for path in synced]
    assert names[0].startswith("v00000003.stm.safetensors.")
    assert names[1:] == ["m", "journal.rxlog", "journal.rxlog"]


def test_a_journal_that_is_missing_or_cut_off_is_damage(tmp_path: Path) -> None:
    with closing(DirectoryStore(tmp_path / "store")) as store:
        filled(store)
        journal = tmp_path / "store" / "m" / "journal.rxlog"
        whole = journal.read_bytes()
        journal.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(StoreCorrupt, match="'m' is damaged"):
            store.head("m")
        journal.unlink()
        with closing(DirectoryStore(tmp_path / "store")) as fresh, pytest.raises(StoreCorrupt):
            fresh.load("m")


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("text")
    with pytest.raises(StoreUnavailable, match="not empty and no store; give another path"):
        DirectoryStore(tmp_path)
    with pytest.raises(StoreUnavailable, match="is not a folder"):
        DirectoryStore(tmp_path / "thesis.txt")
    with pytest.raises(StoreUnavailable, match="is not a folder; create it first"):
        DirectoryStore(tmp_path / "absent" / "store")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


# Connections


@pytest.fixture(params=["redis", "postgres"])
def proxied(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any, Proxy]]:
    """A store behind a proxy, the same store without, and the proxy."""
    kind, name = request.param, "t" + secrets.token_hex(6)
    url = str(request.getfixturevalue(f"{kind}_url"))
    parts = urlsplit(url)
    with proxy_to(parts.hostname or "", parts.port or 0) as proxy:
        user = f"{parts.username}@" if parts.username else ""
        behind = urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{proxy.port}"))
        direct, store = opener_of(kind, name, url)(), opener_of(kind, name, behind)()
        try:
            yield store, direct, proxy
        finally:
            proxy.cut = lambda _: None
            store.close()
            direct.erase()


def nth(number: int, how: str) -> Callable[[bytes], str | None]:
    """Cut at the chunk of that number, once."""
    chunks = count(1)
    return lambda _: how if next(chunks) == number else None


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_connection_cut_at_any_request_stores_everything_exactly_once(
    proxied: tuple[Store, Store, Proxy], how: str
) -> None:
    store, direct, proxy = proxied
    version = 0
    for at in range(1, 12):
        before = proxy.cuts
        proxy.cut = nth(at, how)
        store.commit(snapshot("m", version + 1), expect=version or None)
        version += 1
        cut = proxy.cuts > before
        proxy.cut = nth(at, how)
        assert store.append("m", record(str(version))).seq == version
        assert direct.history("m", limit=1) == [version]
        if not cut and proxy.cuts == before:
            break
    else:
        pytest.fail("a commit has no end of requests")
    assert at > 2
    assert direct.history("m") == list(range(version, 0, -1))
    assert [r.completed.query for r in direct.log("m")] == [str(n + 1) for n in range(version)]


def test_a_call_in_doubt_that_cannot_be_repeated_says_so(
    proxied: tuple[Store, Store, Proxy],
) -> None:
    store, direct, proxy = proxied
    seen = []
    for at in range(1, 12):
        commit_next(direct)
        proxy.cut = nth(at, "after")
        before = proxy.cuts
        try:
            store.delete("m")
        except StoreUnavailable as exc:
            assert "not known whether the call took effect: look, then repeat it" in str(exc)
            seen.append(at)
        assert direct.list() == []
        if proxy.cuts == before:
            break
    assert len(seen) == 1


def test_a_server_that_is_gone_is_reported_after_patience_ends(
    proxied: tuple[Any, Store, Proxy],
) -> None:
    store, direct, proxy = proxied
    commit_next(store)
    proxy.cut = lambda _: "before"
    store._patience = 0.1
    for call in (
        lambda: store.head("m"),
        lambda: store.load("m"),
        lambda: store.commit(snapshot("m", 2), expect=1),
        lambda: store.append("m", record()),
        lambda: store.list(),
    ):
        with pytest.raises(StoreUnavailable, match="cannot be reached.*check address and server"):
            call()
    proxy.cut = lambda _: None
    assert store.load("m") == direct.load("m")
    with pytest.raises(VersionConflict):
        store.commit(snapshot("m", 2), expect=None)


@pytest.mark.parametrize(
    ("opens", "why"),
    [
        (lambda: RedisStore("redis://127.0.0.1:1/0", patience=0), "cannot be reached"),
        (lambda: RedisStore("redis://127.0.0.1:port/0"), "address is not understood"),
        (lambda: PostgresStore("postgresql://127.0.0.1:1/x", patience=0), "cannot be reached"),
        (lambda: PostgresStore("postgresql://127.0.0.1:1/x", schema="A b"), "cannot be a schema"),
    ],
)
def test_a_server_that_is_not_there_is_named(opens: Callable[[], object], why: str) -> None:
    with pytest.raises(StoreUnavailable, match=why):
        opens()


def test_redis_says_durable_only_when_it_syncs_and_then_survives_a_kill(
    tmp_path: Path,
) -> None:
    with (
        redis_server("--appendonly", "yes", "--appendfsync", "everysec") as url,
        closing(RedisStore(url)) as store,
    ):
        assert "durable" not in store.capabilities
    durable = ["--appendonly", "yes", "--appendfsync", "always"]
    with (
        redis_server(*durable, folder=tmp_path, kill=True) as url,
        closing(RedisStore(url)) as store,
    ):
        assert "durable" in store.capabilities
        filled(store)
        before = contents(store)
    with redis_server(*durable, folder=tmp_path) as url, closing(RedisStore(url)) as store:
        assert contents(store) == before
