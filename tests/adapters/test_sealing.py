"""A sealed memory opens for its tenant, model and key only; every other way to end is an error."""

from __future__ import annotations

import json
import random
import struct

import pytest

from adapters.stores.keyring import Keyring
from adapters.stores.sealing import MAX_HEADER, Sealer
from rxstream.errors import (
    SnapshotCorrupt,
    SnapshotError,
    SnapshotIncompatible,
    SnapshotStale,
    Undecryptable,
)
from rxstream.snapshot import Snapshot
from rxstream.tensorfile import encode

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
SECRET = b"the secret of Biscuit the dog"
HELD = Snapshot("id", 7, "model-1", encode({"stm": ("U8", (len(SECRET),), SECRET)}))


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sealer(clock: Clock) -> Sealer:
    return Sealer(Keyring({"old": OLD}, "old"), max_age=60, clock=clock)


def forged(data: bytes, **changes: object) -> bytes:
    """The same, but the header says something else."""
    length = struct.unpack_from("<4sH", data)[1]
    header = json.dumps(json.loads(data[6 : 6 + length]) | changes).encode()
    return struct.pack("<4sH", b"RXMH", len(header)) + header + data[6 + length :]


def test_what_was_sealed_is_opened_and_cannot_be_read_meanwhile(sealer: Sealer) -> None:
    sealed = sealer.seal(HELD, tenant="acme")
    assert sealer.open(sealed, tenant="acme", fingerprint="model-1", at_least=7) == HELD
    assert SECRET not in sealed and b"acme" not in sealed


def test_every_flipped_bit_and_every_cut_is_an_error(sealer: Sealer) -> None:
    sealed, rng = sealer.seal(HELD, tenant="acme"), random.Random(5)
    for _ in range(256):
        changed = bytearray(sealed)
        changed[rng.randrange(len(sealed))] ^= 1 << rng.randrange(8)
        with pytest.raises((SnapshotError, Undecryptable)):
            sealer.open(bytes(changed), tenant="acme")
    for end in range(len(sealed)):
        with pytest.raises((SnapshotError, Undecryptable)):
            sealer.open(sealed[:end], tenant="acme")
    with pytest.raises(Undecryptable):
        sealer.open(sealed + b"\0", tenant="acme")


def test_another_tenant_cannot_use_it(sealer: Sealer) -> None:
    with pytest.raises(Undecryptable, match="the sealed memory for 'mallory' cannot be opened"):
        sealer.open(sealer.seal(HELD, tenant="acme"), tenant="mallory")


@pytest.mark.parametrize(
    "changes",
    [{"model": "model-2"}, {"version": 8}, {"sealed_at": 2000.0}, {"key": "new"}],
    ids=str,
)
def test_what_the_header_says_cannot_be_changed(changes: dict[str, object], clock: Clock) -> None:
    sealer = Sealer(Keyring({"old": OLD, "new": NEW}, "old"), clock=clock)
    with pytest.raises(Undecryptable):
        sealer.open(forged(sealer.seal(HELD, tenant="acme"), **changes), tenant="acme")


def test_another_model_is_named(sealer: Sealer) -> None:
    with pytest.raises(SnapshotIncompatible, match="'model-1', this model is 'model-2'"):
        sealer.open(sealer.seal(HELD, tenant="acme"), tenant="acme", fingerprint="model-2")


def test_an_old_version_is_refused_when_a_newer_one_was_given_out(sealer: Sealer) -> None:
    sealed = sealer.seal(HELD, tenant="acme")
    assert sealer.open(sealed, tenant="acme", at_least=7).version == 7
    with pytest.raises(SnapshotStale, match="version 7, but version 8 was given out"):
        sealer.open(sealed, tenant="acme", at_least=8)


def test_it_is_accepted_up_to_its_age(sealer: Sealer, clock: Clock) -> None:
    sealed = sealer.seal(HELD, tenant="acme")
    clock.now += 60
    assert sealer.open(sealed, tenant="acme") == HELD
    clock.now += 1
    with pytest.raises(SnapshotStale, match="sealed 61 seconds ago, and is accepted for 60"):
        sealer.open(sealed, tenant="acme")


def test_keys_are_rotated_one_after_the_other(clock: Clock) -> None:
    sealed = Sealer(Keyring({"old": OLD}, "old"), clock=clock).seal(HELD, tenant="acme")
    rotating = Sealer(Keyring({"old": OLD, "new": NEW}, "new"), clock=clock)
    again = rotating.seal(rotating.open(sealed, tenant="acme"), tenant="acme")
    rotated = Sealer(Keyring({"new": NEW}, "new"), clock=clock)
    assert rotated.open(again, tenant="acme") == HELD
    with pytest.raises(Undecryptable, match="key 'old', which is not at hand"):
        rotated.open(sealed, tenant="acme")


def test_nothing_longer_than_allowed_is_made_or_looked_at(sealer: Sealer) -> None:
    sealed = sealer.seal(HELD, tenant="acme")
    small = Sealer(Keyring({"old": OLD}, "old"), max_bytes=len(sealed) - 10)
    with pytest.raises(SnapshotError, match="raise max_bytes"):
        small.seal(HELD, tenant="acme")
    with pytest.raises(SnapshotCorrupt, match="has at most"):
        small.open(sealed, tenant="acme")
    long = Snapshot("id", 1, "m" * MAX_HEADER, HELD.state)
    with pytest.raises(SnapshotError, match=f"its header {MAX_HEADER}"):
        sealer.seal(long, tenant="acme")


def test_a_newer_format_asks_for_an_upgrade(sealer: Sealer) -> None:
    with pytest.raises(SnapshotIncompatible, match="format 2, this reads 1; upgrade"):
        sealer.open(forged(sealer.seal(HELD, tenant="acme"), format=2), tenant="acme")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RXMH",
        b"PK\x03\x04" + bytes(100),
        b"RXMH\xff\xff" + b"[" * 70_000,
        b"RXMH\x04\x00" + b"[[[[",
        b"RXMH\xa0\x0f" + b"[" * 4000,
        b"RXMH\x02\x00" + b"{}",
        b"RXMH\x02\x00" + b"\xff\xff",
    ],
    ids=range(8),
)
def test_other_bytes_are_not_a_sealed_memory(sealer: Sealer, data: bytes) -> None:
    with pytest.raises(SnapshotCorrupt, match="not a sealed memory"):
        sealer.open(data, tenant="acme")
