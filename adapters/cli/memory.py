"""``rxt memory``: memories like a repository, with a log, forks, rollbacks, labels and copies."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Look at memories and work with their versions. REF is a NAME, which means its newest version, or
NAME@VERSION, or NAME@LABEL. --store is where they are kept, as for rxt chat."""


def add_parser(commands: Commands) -> None:
    """Add ``memory`` to the subcommands."""
    parser = commands.add_parser(
        "memory",
        help="look at memories and their versions",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = _adder(actions)

    command = add("list", "show.list_memories", "names, versions and sizes")
    command.add_argument("prefix", nargs="?", default="", help="only names that begin so")
    _json(command)

    command = add("log", "show.log", "the versions of a memory, newest first")
    command.add_argument("name")
    command.add_argument("--limit", type=int, default=20, metavar="N", help="at most N (20)")
    _json(command)

    command = add("show", "show.show", "all about one version")
    command.add_argument("ref", metavar="REF")
    _json(command)

    command = add("diff", "tensors.diff", "how much each slot differs: cosine by layer and slot")
    command.add_argument("before", metavar="REF")
    command.add_argument("after", metavar="REF")
    _json(command)

    command = add("heatmap", "tensors.heatmap", "a picture of a version, layers by slots")
    command.add_argument("ref", metavar="REF")
    command.add_argument("--png", metavar="FILE", help="write a picture instead")

    command = add("fork", "change.fork", "begin a new memory with a version of another")
    command.add_argument("ref", metavar="REF")
    command.add_argument("new", metavar="NEW")

    command = add("rollback", "change.rollback", "make an old version the newest; none is lost")
    command.add_argument("ref", metavar="REF", help="NAME@VERSION or NAME@LABEL")

    command = add("tag", "change.tag", "name a version, and keep it from being pruned")
    command.add_argument("ref", metavar="REF")
    command.add_argument("label", nargs="?", help="none lists the labels")
    command.add_argument("--remove", action="store_true", help="remove the label")

    command = add("prune", "change.prune", "remove old versions that have no label")
    command.add_argument("name", nargs="?", help="none means every memory")
    command.add_argument("--keep", type=int, metavar="N", help="keep the newest N")
    command.add_argument("--older-than", type=float, metavar="DAYS", help="only older ones")

    command = add("delete", "change.delete", "remove memories, all versions and the log")
    command.add_argument("names", nargs="+", metavar="NAME")

    command = add("expire", "change.expire", "how long a memory lives, or when it ends")
    command.add_argument("name", metavar="NAME")
    lifetime = command.add_mutually_exclusive_group()
    lifetime.add_argument(
        "--days", type=float, metavar="DAYS", help="from now; each update begins anew"
    )
    lifetime.add_argument("--never", action="store_true", help="it lives for ever")

    command = add("sweep", "change.sweep", "free what has expired or was left by killed programs")

    command = add("make", "making.make", "a new memory of a text or a dialogue")
    command.add_argument("name", metavar="NAME")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", metavar="FILE", help="each line is told to the model")
    source.add_argument(
        "--dialogue", metavar="FILE", help='JSON lines: {"query": "…", "answer": "…"}'
    )
    command.add_argument("--model", metavar="NAME|FOLDER", help="default: the bundled model")
    command.add_argument(
        "--no-user-data", action="store_true", help="nobody's own words; may be exported as it is"
    )

    command = add("copy", "files.copy", "copy memories to another store, with all versions")
    command.add_argument("names", nargs="*", metavar="NAME", help="none means every memory")
    command.add_argument("--to", required=True, metavar="URL", help="the other store")
    command.add_argument("--to-keys", metavar="FILE", help="encrypt there with these keys")

    command = add("export", "files.export", "write a version to a snapshot file, or publish it")
    command.add_argument("ref", metavar="REF")
    command.add_argument("file", metavar="FILE", help="a file, or hf://owner/name for the Hub")
    command.add_argument(
        "--user-data", action="store_true", help="yes, also one made of what a user said"
    )
    on_hub = command.add_argument_group("on the Hub")
    on_hub.add_argument("--about", metavar="FILE", help="text for the card, as Markdown")
    on_hub.add_argument("--license", metavar="ID", help="for example cc-by-4.0")
    on_hub.add_argument("--private", action="store_true", help="if the repository is new")

    command = add("import", "files.import_file", "commit a snapshot as the newest version")
    command.add_argument("name", metavar="NAME")
    command.add_argument("file", metavar="FILE", help="a file, or hf://owner/name[@revision]")
    command.add_argument("--replace", action="store_true", help="also when the memory exists")

    command = add("verify", "verify.verify", "whether files, or all of a store, are whole")
    command.add_argument("files", nargs="*", metavar="FILE", help="none means the store")
    _json(command)

    command = add("replay", "replaying.replay", "compute versions anew from the log and compare")
    command.add_argument("name", metavar="NAME")
    command.add_argument("--model", metavar="NAME|FOLDER", help="default: the bundled model")
    command.add_argument(
        "--into", metavar="NEW", help="build the memory anew for this model, as NEW"
    )

    command = actions.add_parser(
        "new-key",
        help="add a key to a file of keys, and use it from now on",
        description="Add a key to a file of keys, and use it from now on; old keys stay in it.",
    )
    command.add_argument("keys", metavar="FILE", help="made when it is not there")
    command.add_argument("--name", help="default: today's date")
    command.set_defaults(run=lambda args: _run("keys.new_key", args))


def _adder(actions: Commands) -> Callable[[str, str, str], argparse.ArgumentParser]:
    def add(name: str, function: str, about: str) -> argparse.ArgumentParser:
        command = actions.add_parser(name, help=about, description=about[0].upper() + about[1:])
        command.add_argument("--store", metavar="URL", help="default: as rxt chat")
        command.add_argument("--keys", metavar="FILE", help="of an encrypted store: its keys")
        command.add_argument(
            "--plain", action="store_true", help="with --keys: also read what is not encrypted"
        )
        command.set_defaults(run=lambda args: _run(function, args))
        return command

    return add


def _run(function: str, args: argparse.Namespace) -> int:
    module, _, name = function.partition(".")
    return int(getattr(import_module(f"{__package__}.memories.{module}"), name)(args))


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for programs: one JSON value a line")
