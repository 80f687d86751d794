"""An encrypted store shows nothing to whoever has the store, and notices what they change."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from adapters.stores.directory import DirectoryStore
from adapters.stores.encrypted import EncryptedStore
from adapters.stores.keyring import Keyring
from rxstream.errors import StoreCorrupt, Undecryptable
from rxstream.snapshot import Snapshot
from rxstream.stores.memory import MemoryStore
from rxstream.tensorfile import encode
from rxstream.testing._store_samples import commit_next, record, snapshot

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
KEYS = Keyring({"old": OLD}, "old")
SECRET = b"the secret of Biscuit the dog"


@pytest.fixture
def inner() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(inner: MemoryStore) -> EncryptedStore:
    return EncryptedStore(inner, KEYS)


def test_nothing_of_a_memory_can_be_read_on_the_disk(tmp_path: Path) -> None:
    text = SECRET.decode()
    held = Snapshot(
        "m", 1, text, encode({text: ("U8", (len(SECRET),), SECRET)}),
        applied_keys=(text,), metadata={"provenance": text}, parent_digest=text,
    )  # fmt: skip
    said = replace(record(text), key=text, conversation=text)
    found = {}
    for sealed in (False, True):
        folder = tmp_path / str(sealed)
        plain = DirectoryStore(folder)
        with closing(EncryptedStore(plain, KEYS) if sealed else plain) as store:
            store.commit(held, expect=None)
            assert store.load("m") == held
            assert store.append("m", said).seq == 1
            assert [r.completed for r in store.log("m")] == [said.completed]
            store.rollback("m", 1)
            store.fork("m", "n")
        bytes_on_disk = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
        found[sealed] = bytes_on_disk.count(SECRET)
    assert found[False] > 5
    assert found[True] == 0


def test_without_the_right_key_nothing_is_read(store: EncryptedStore, inner: MemoryStore) -> None:
    commit_next(store)
    store.append("m", record())
    for keys, why in (
        (Keyring({"other": NEW}, "other"), "'old', which is not at hand; add it to the keyring"),
        (Keyring({"old": NEW}, "old"), "another key of that id, or it was changed or moved"),
    ):
        stranger = EncryptedStore(inner, keys)
        for read in (
            lambda s=stranger: s.load("m"),
            lambda s=stranger: s.info("m"),
            lambda s=stranger: list(s.log("m")),
            lambda s=stranger: list(s.watch("m", after=0, timeout=0)),
            lambda s=stranger: s.fork("m", "n"),
        ):
            with pytest.raises(Undecryptable, match=why):
                read()
    assert store.load("m") == snapshot("m", 1)


def test_keys_rotate_and_old_versions_stay_readable(
    store: EncryptedStore, inner: MemoryStore
) -> None:
    commit_next(store)
    store.append("m", record("one"))
    rotated = EncryptedStore(inner, Keyring({"old": OLD, "new": NEW}, "new"))
    commit_next(rotated)
    rotated.append("m", record("two"))
    assert [rotated.load("m", version) for version in (1, 2)] == [
        snapshot("m", 1),
        snapshot("m", 2),
    ]
    assert [r.completed.query for r in rotated.log("m")] == ["one", "two"]
    rotated.prune("m", keep_last=1)
    assert EncryptedStore(inner, Keyring({"new": NEW}, "new")).load("m") == snapshot("m", 2)


@pytest.mark.parametrize(("name", "version"), [("other", 1), ("m", 2)])
def test_what_was_sealed_for_one_place_does_not_open_in_another(
    store: EncryptedStore, inner: MemoryStore, name: str, version: int
) -> None:
    commit_next(store)
    sealed = inner.load("m")
    if name == "m":
        inner.commit(replace(sealed, version=2), expect=1)
    else:
        inner.commit(replace(sealed, memory_id=name), expect=None)
    for read in (store.load, store.info):
        with pytest.raises(Undecryptable, match=f"{name}.*version {version}.*changed or moved"):
            read(name)


@pytest.mark.parametrize("what", ["sealed.key", "sealed.digest"])
def test_what_is_said_of_a_sealed_version_is_sealed_with_it(inner: MemoryStore, what: str) -> None:
    keys = Keyring({"old": OLD, "new": NEW}, "old")
    store = EncryptedStore(inner, keys)
    commit_next(store)
    sealed = inner.load("m")
    forged = dict(sealed.metadata) | {what: "new" if what == "sealed.key" else "sha256:0"}
    inner.delete("m")
    inner.commit(replace(sealed, version=3, metadata=forged), expect=2)
    with pytest.raises(Undecryptable):
        store.load("m")


def test_a_record_of_another_memory_does_not_open(
    store: EncryptedStore, inner: MemoryStore
) -> None:
    store.append("m", record())
    (sealed,) = inner.log("m")
    inner.append("other", replace(sealed, seq=0))
    with pytest.raises(Undecryptable, match="'other': log record 1"):
        list(store.log("other"))


def test_what_is_not_encrypted_is_refused_unless_it_is_asked_for(
    store: EncryptedStore, inner: MemoryStore
) -> None:
    commit_next(inner)
    inner.append("m", record("plain"))
    for read in (lambda: store.load("m"), lambda: store.info("m"), lambda: list(store.log("m"))):
        with pytest.raises(Undecryptable, match="not encrypted, which is refused.*strict=False"):
            read()
    lenient = EncryptedStore(inner, KEYS, strict=False)
    assert lenient.load("m") == snapshot("m", 1)
    assert "encrypted" in store.capabilities - lenient.capabilities
    commit_next(lenient)
    assert store.load("m") == snapshot("m", 2)
    assert [r.completed.query for r in lenient.log("m")] == ["plain"]


def test_a_nonce_never_serves_for_two_things() -> None:
    nonces = {
        KEYS.seal(b"same", ("m", str(version)), str(version).encode())[:12]
        for version in range(100_000)
    }
    assert len(nonces) == 100_000
    again = [KEYS.seal(b"same", ("m", "1"), b"1") for _ in range(2)]
    assert again[0] == again[1], "or a request could not be repeated"


def test_a_repeated_request_is_known_behind_the_seal(store: EncryptedStore) -> None:
    for _ in range(2):
        store.commit(snapshot("m", 1), expect=None, request_id="r")
        assert store.append("m", record(), request_id="s").seq == 1


def test_damage_below_the_seal_is_damage(store: EncryptedStore, inner: MemoryStore) -> None:
    commit_next(store)
    memory = inner._memories["m"]
    *whole, last = memory.packed(1)
    memory.files[1] = (bytes([*whole, last ^ 1]),)
    with pytest.raises(StoreCorrupt, match="version 1"):
        store.load("m")


@pytest.mark.parametrize(
    ("keys", "current", "why"),
    [({}, "k", "not among"), ({"k": b"short"}, "k", "32 bytes"), ({"": OLD}, "", "1 to 64")],
)
def test_a_keyring_that_cannot_work_is_refused(
    keys: dict[str, bytes], current: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        Keyring(keys, current)
    assert OLD.hex() not in repr(KEYS)
    assert str(OLD) not in repr(KEYS)
    assert len(Keyring.new_key()) == 32


def test_contents_that_only_a_newer_release_can_read_are_reported_by_name(
    store: EncryptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = Keyring.seal
    with monkeypatch.context() as newer:
        newer.setattr(
            Keyring, "seal", lambda self, data, *bound: seal(self, b"another format", *bound)
        )
        commit_next(store)
        store.append("m", record())
    with pytest.raises(StoreCorrupt, match="'m': version 1 is damaged"):
        store.info("m")
    with pytest.raises(StoreCorrupt, match="'m': log record 1 is damaged"):
        list(store.log("m"))
