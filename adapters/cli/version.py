"""``rxt version``: what is installed, for a bug report."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

PARTS = ("torch", "tokenizers", "reactivex", "anyio", "safetensors")


def add_parser(commands: Commands) -> None:
    """Add ``version`` to the subcommands."""
    parser = commands.add_parser("version", help="show what is installed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print versions; warn when another distribution shares the name of one of our packages."""
    metadata = importlib.metadata
    print(f"rxstream {metadata.version('rxstream')}")
    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for part in PARTS:
        print(f"{part} {metadata.version(part)}")
    for package in ("adapters", "curriculum"):
        owners = set(metadata.packages_distributions().get(package, ())) - {"rxstream"}
        if owners:
            print(
                f"rxt version: {', '.join(sorted(owners))} installs a package {package!r} too; "
                "keep one of them in an environment",
                file=sys.stderr,
            )
    return 0
