"""What it costs to commit and to load a version in each store, beside the raw client doing the same
bytes; and whether a slow store is felt in the answers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rxstream.snapshot import Snapshot, pack, read_file, write_file
from rxstream.tensorfile import encode

from .inter_token import compare
from .measure import Settings, interleave
from .report import Check, Report, Table
from .stores_raw import RAW, Raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rxstream.store import Store

SIZES = {"32 kB": 32 << 10, "2 MB": 2 << 20, "12 MB": 12 << 20}


@dataclass(frozen=True, slots=True)
class Place:
    """One store, and the raw client of the same service."""

    name: str
    store: Store
    raw: Raw


def run(settings: Settings) -> Report:
    """Measure; see the module."""
    report = Report("stores", "committing and loading memories, and whether that is felt")
    sizes = {"1 kB": 1 << 10} if settings.quick else SIZES
    table = Table(
        "ms, and the median over the raw client's median (x)",
        [
            "store", "size", "commit p50", "p95", "raw", "x", "x+hash", "over write+fsync",
            "load p50", "p95", "raw", "x", "x+hash",
        ],
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(place(name)) for name in RAW]
        for size_name, size in sizes.items():
            for found in places:
                measure(found, size_name, size, settings, table, report)
    files = Table("A snapshot file of 12 MB (ms)", ["read_file", "read and hash", "x"])
    ratio = load_a_file(settings, files)
    slow = Table(
        "Time between two tokens (ms)",
        ["store", "gaps", "commits", "gaps during one", "p50", "p99"],
    )
    felt = feel_a_slow_store(settings, slow)
    report.tables = [table, files, slow]
    report.checks += [
        Check("read_file over reading and hashing the file", ratio, 2.0),
        Check("inter-token p99 with a store that takes 50 ms a commit, over without", felt, 1.1),
    ]
    report.notes = [
        "raw: one row, value, object or file of the same bytes, as durable as the store has it",
        "commit and load hash every byte, which the raw client does not: x+hash adds to the raw "
        "client's time that of hashing the same bytes once",
        "S3 is moto on this machine: its own time is most of both columns",
    ]
    return report


@contextlib.contextmanager
def place(name: str) -> Iterator[Place]:
    """The store and the raw client, side by side and both empty."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd()))
        store, raw = RAW[name](stack, folder)
        yield Place(name, store, raw)


def measure(
    found: Place, size_name: str, size: int, settings: Settings, table: Table, report: Report
) -> None:
    """One row of the table."""
    rounds = max(3, settings.rounds)
    data = [pack(snapshot(found.name, version, size)) for version in (1, 2)]
    key, heads = f"{found.name} {size_name}", [found.store.head(f"{found.name} {size_name}")]

    def commit() -> dict[str, float]:
        version = (heads[-1] or 0) + 1
        made = snapshot(key, version, size)
        began = time.perf_counter()
        found.store.commit(made, expect=heads[-1])
        took = time.perf_counter() - began
        heads.append(version)
        return {"seconds": took}

    def load() -> dict[str, float]:
        began = time.perf_counter()
        found.store.load(key)
        return {"seconds": time.perf_counter() - began}

    def put() -> dict[str, float]:
        began = time.perf_counter()
        found.raw.put(data[0])
        return {"seconds": time.perf_counter() - began}

    def get() -> dict[str, float]:
        began = time.perf_counter()
        assert len(found.raw.get()) == len(data[0])
        return {"seconds": time.perf_counter() - began}

    def fsync() -> dict[str, float]:
        began = time.perf_counter()
        found.raw.write(data[0])
        return {"seconds": time.perf_counter() - began}

    def digest() -> dict[str, float]:
        began = time.perf_counter()
        hashlib.sha256(data[0]).digest()
        return {"seconds": time.perf_counter() - began}

    variants = {
        "commit": commit, "put": put, "fsync": fsync, "load": load, "get": get, "hash": digest,
    }  # fmt: skip
    samples = interleave(variants, rounds, warmup=2)
    found.store.prune(key, keep_last=1)
    found.raw.clear()
    took = {name: found.median("seconds") for name, found in samples.items()}
    over, over_hash = (
        {
            "commit": took["commit"] / (took["put"] + extra),
            "load": took["load"] / (took["get"] + extra),
        }
        for extra in (0.0, took["hash"])
    )
    local = found.name in ("sqlite", "dir")
    table.add(
        found.name,
        size_name,
        *ms(samples["commit"]),
        took["put"] * 1e3,
        over["commit"],
        over_hash["commit"],
        took["commit"] / took["fsync"] if local else None,
        *ms(samples["load"]),
        took["get"] * 1e3,
        over["load"],
        over_hash["load"],
    )
    if size >= SIZES["2 MB"] or settings.quick:
        report.checks += [
            Check(f"{found.name}, {size_name}: {what} over {base}", ratios[what], 1.3)
            for base, ratios in (("raw", over), ("raw and hashing", over_hash))
            for what in ratios
        ]


def snapshot(key: str, version: int, size: int) -> Snapshot:
    """A version of random bytes, which no disk or server compresses."""
    return Snapshot(key, version, "m", encode({"stm": ("U8", (size,), os.urandom(size))}))


def ms(samples: Any) -> tuple[float, float]:
    """p50 and p95."""
    values = sorted(samples.values("seconds"))
    p95 = values[min(len(values) - 1, round(0.95 * (len(values) - 1)))]
    return statistics.median(values) * 1e3, p95 * 1e3


def load_a_file(settings: Settings, table: Table) -> float:
    """Reading a snapshot file, over reading and hashing the same file."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder, "m.stm.safetensors")
        write_file(path, snapshot("m", 1, 1 << 10 if settings.quick else SIZES["12 MB"]))

        def timed(action: Callable[[], object]) -> Callable[[], dict[str, float]]:
            def call() -> dict[str, float]:
                began = time.perf_counter()
                action()
                return {"seconds": time.perf_counter() - began}

            return call

        samples = interleave(
            {
                "load": timed(lambda: read_file(path)),
                "hash": timed(lambda: hashlib.sha256(path.read_bytes()).digest()),
            },
            max(3, settings.rounds),
            warmup=2,
        )
    load, raw = (samples[name].median("seconds") * 1e3 for name in ("load", "hash"))
    table.add(load, raw, load / raw)
    return load / raw


def feel_a_slow_store(settings: Settings, table: Table) -> float:
    """p99 of the time between two tokens with a slow store, over that with a quick one."""
    stores = {"memory": 0.0, "50 ms a commit": 0.05}
    found = compare(settings.adapter, 1 if settings.quick else settings.rounds, stores)
    for name, gaps in found.items():
        p50, p99 = gaps.quantile(0.5) * 1e3, gaps.quantile(0.99) * 1e3
        table.add(name, len(gaps.seconds), gaps.commits, gaps.during, p50, p99)
    slow = found["50 ms a commit"]
    assert slow.during > len(slow.seconds) // 4, "few tokens came while a version was being stored"
    return slow.quantile(0.99) / found["memory"].quantile(0.99)
