"""``python -m tests.fuzz [INPUTS] [SEED]``: so many mutated inputs, spread over all targets.

Ends at the first input that raises what it may not, takes more than a second, or more memory than
the limit set for the process; the input is then in ``tests/fuzz/corpus``, where the tests find it.
Inputs whose checksums are put right after the mutation come as often as those that are left wrong.
"""

from __future__ import annotations

import random
import resource
import signal
import struct
import sys
import time
import zlib
from pathlib import Path

from rxstream import _snapshot_metadata, tensorfile
from rxstream.errors import SnapshotCorrupt

from .targets import TARGETS, seeds

CORPUS = Path(__file__).parent / "corpus"
MEMORY = 512 << 20
"""Bytes that the process may grow by."""
INTERESTING = [b"\xff" * 4, b"\0" * 8, b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
               b"\xc6\xff\xff\xff\xff", b"\xc7\xff\xff", b"\xd4\xff\x00", b"\x91" * 600,
               b"\x81\xa1a" * 300, b"{" * 3000, b"[" * 3000, b'"a":', b"1e999", b"NaN"]  # fmt: skip


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Some changes of the usual kinds."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif kind == 2:
            del changed[at : at + rng.randrange(1, 16)]
        elif kind == 3:
            changed[at:at] = rng.randbytes(rng.randrange(1, 16))
        elif kind == 4:
            changed[at : at + rng.randrange(8)] = rng.choice(INTERESTING)
        elif kind == 5:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            changed[at:at] = other[start : start + rng.randrange(64)]
        else:
            del changed[at:]
    return bytes(changed)


def repair(target: str, data: bytes) -> bytes:
    """Put the checksums right, as a forger would."""
    if target == "snapshot":
        return redigested(data)
    if target in ("meta", "document") and len(data) > 4:
        return struct.pack("<I", zlib.crc32(data[4:])) + data[4:]
    if target == "info" and len(data) > 4:
        return struct.pack("<I", zlib.crc32(data[4:], zlib.crc32(b"m\x001\x00"))) + data[4:]
    if target == "frames" and len(data) > 13:
        numbers = struct.pack("<II", len(data) - 13, zlib.crc32(data[12:-1]))
        return numbers + struct.pack("<I", zlib.crc32(numbers)) + data[12:-1] + b"\x5a"
    return data


def forge(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A whole snapshot file that says something else: what only the reader of metadata refuses."""
    try:
        file = tensorfile.parse(data)
        found = dict(file.metadata or {})
        for name in rng.sample(sorted(found), min(len(found), rng.choice((1, 1, 2)))):
            found[name] = mutate(found[name].encode(), others, rng).decode("utf-8", "replace")
        if found and rng.random() < 0.1:
            del found[rng.choice(sorted(found))]
        return redigested(tensorfile.build(file.tensors, found, file.body))
    except (SnapshotCorrupt, ValueError):
        return data


def redigested(data: bytes) -> bytes:
    """A snapshot file whose digest is that of what it holds now, if it is a tensor file at all."""
    try:
        file = tensorfile.parse(data)
    except SnapshotCorrupt:
        return data
    found = {k: v for k, v in (file.metadata or {}).items() if k != "digest"}
    try:
        whole = found | {"digest": _snapshot_metadata.digest(file, found)}
        return tensorfile.build(file.tensors, whole, file.body)
    except ValueError:  # text that cannot be written again
        return data


def corpus(target: str) -> list[bytes]:
    """The committed inputs of a target, and its whole ones."""
    return seeds()[target] + [p.read_bytes() for p in sorted(CORPUS.glob(f"{target}-*"))]


def run_one(target: str, data: bytes) -> None:
    """Raises whatever the reader may not raise."""
    reader, allowed = TARGETS[target]
    try:
        reader(data)
    except allowed:
        pass


def fuzz(inputs: int, seed: int) -> None:
    """See the module."""
    rng = random.Random(seed)
    starts = {target: corpus(target) for target in TARGETS}
    for number in range(inputs):
        target = list(TARGETS)[number % len(TARGETS)]
        start = rng.choice(starts[target])
        if target == "snapshot" and rng.random() < 0.5:
            data = forge(start, starts[target], rng)
        else:
            data = mutate(start, starts[target], rng)
        if rng.random() < 0.5:
            data = repair(target, data)
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        try:
            run_one(target, data)
        except BaseException:
            path = CORPUS / f"{target}-{zlib.crc32(data):08x}"
            path.write_bytes(data)
            print(f"input {number} of seed {seed} fails; it is in {path.name}", file=sys.stderr)
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory() -> None:
    """So that an allocation of what bytes claim fails instead of succeeding unseen."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(words: list[str]) -> int:
    inputs, seed = int(words[0]) if words else 1_000_000, int(words[1]) if words[1:] else 0
    limit_memory()
    began = time.perf_counter()
    fuzz(inputs, seed)
    print(f"{inputs:,} inputs of seed {seed} in {time.perf_counter() - began:.0f} s: no failure")
    return 0


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError("one input took more than a second")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, _too_long)
    sys.exit(main(sys.argv[1:]))
