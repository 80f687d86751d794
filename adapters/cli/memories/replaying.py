"""``rxt memory replay``: versions computed anew from the interaction log."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rxstream import history
from rxstream.errors import MemoryUpdateError
from rxstream.snapshot import Snapshot

from ..failure import CommandError
from ..models import open_model
from ..names import checked_name
from .refs import find, opened

if TYPE_CHECKING:
    import argparse

    from rxstream.store import Store


def replay(args: argparse.Namespace) -> int:
    """Compare, and return 1 when a version is not what the log says; or build the memory anew."""
    model = open_model(args.model)
    with opened(args) as store:
        name = checked_name(args.name)
        if args.into is not None:
            return _rebuild(store, args, name, model)
        if not store.history(name, limit=1):
            find(store, name)  # says that it is not there
        different = same = close = given = interactions = 0
        furthest = 0.0
        for step in history.check(store, model, name):
            interactions += step.interactions
            different += step.outcome == "different"
            same += step.outcome == "same"
            given += step.outcome == "given"
            if step.outcome == "close":
                close, furthest = close + 1, max(furthest, step.distance)
            if step.outcome == "different":
                print(f"version {step.version} ({step.kind}): not what the log says")
    rounded = f"{close} up to rounding (by {furthest:.0e}), " if close else ""
    taken = f", {given} taken as given" if given else ""
    print(
        f"{name}: {interactions} interactions replayed, {same} versions the same bit by bit, "
        f"{rounded}{different} different{taken}"
    )
    return 1 if different else 0


def _rebuild(store: Store, args: argparse.Namespace, name: str, model: object) -> int:
    into = checked_name(args.into)
    if store.head(into) is not None or store.last_seq(into):
        raise CommandError(f"memory {into!r} exists or existed; choose another name")
    try:
        value, told = history.rebuild(store, model, name)  # type: ignore[arg-type]
    except MemoryUpdateError as error:
        raise CommandError(str(error)) from error
    for record in store.log(name):
        store.append(into, replace(record, seq=0))
    made = Snapshot(
        memory_id=into,
        version=1,
        fingerprint=model.fingerprint,  # type: ignore[attr-defined]
        state=model.dump(value),  # type: ignore[attr-defined]
        log_seq=store.last_seq(into),
        kind="import",
        metadata={"provenance": f"replayed from the log of {name[:200]}"},
    )
    store.commit(made, expect=None)
    print(f"{into!r}: {told} interactions of {name!r} told to {made.fingerprint}")
    return 0
