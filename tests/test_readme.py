"""README and docs/: links lead somewhere, code runs, commands parse, the file tree is the tree."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.cli import build_parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(page.read_text()) if found == language]


def shell_blocks() -> list[object]:
    found = [(page, body) for page in PAGES for body in blocks(page, "sh")]
    return [pytest.param(body, id=f"{page_name(page)}-{i}") for i, (page, body) in enumerate(found)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page_name(page)}: {link}"
        assert not anchor or anchor in anchors(target), f"{page_name(page)}: {link}"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=page_name)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """All of a page in one process, in order: later blocks use what earlier ones made."""
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in re.findall(r"# prints: (.*)$", script.read_text(), re.M):
        assert line in done.stdout


@pytest.mark.parametrize("body", shell_blocks())
def test_commands_parse(body: str) -> None:
    """Every ``rxt`` takes these arguments, and every ``make`` has this target."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    for line in body.splitlines():
        for command in re.split(r" \| | && ", line.split("  #")[0]):
            words = shlex.split(command.split(" < ")[0].split(" > ")[0])
            if words[:1] == ["rxt"]:
                build_parser().parse_args(words[1:])
            elif words[:1] == ["make"]:
                assert words[1] in targets


@pytest.mark.parametrize("body", shell_blocks())
def test_chat_commands_run(body: str, tmp_path: Path) -> None:
    """Blocks of chats through pipes are run, with the model that needs no weights."""
    if not all(re.match(r"(printf .*\| )?rxt chat |$", line) for line in body.splitlines()):
        return
    rxt = tmp_path / "bin" / "rxt"
    rxt.parent.mkdir()
    real = Path(sys.executable).with_name("rxt")
    rxt.write_text(f'#!/bin/sh\nshift; exec "{real}" chat --model fake: "$@"\n')
    rxt.chmod(0o755)
    env = {"PATH": f"{rxt.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    env["XDG_DATA_HOME"] = str(tmp_path)
    done = subprocess.run(
        ["sh", "-ec", body], stdin=subprocess.DEVNULL, cwd=tmp_path, env=os.environ | env,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_first_commands_are_the_two() -> None:
    assert blocks(ROOT / "README.md", "sh")[0].split("\n")[0].startswith("make chat")
    assert blocks(ROOT / "README.md", "sh")[0].split("\n")[1].startswith("make test")


def test_the_file_tree_is_the_tree() -> None:
    """Every path in the README's tree exists; every folder at the top is in it."""
    tree = next(body for body in blocks(ROOT / "README.md", "text") if "rxstream/" in body)
    listed: set[str] = set()
    folder = ""
    for line in filter(str.strip, tree.splitlines()):
        name = line.split()[0]
        folder = folder if line.startswith(" ") else name
        path = folder + name if line.startswith(" ") else name
        assert (ROOT / path).exists(), path
        listed.add(path.rstrip("/"))
    ours = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    for path in ours.stdout.splitlines():
        assert path.split("/")[0] in listed or path.startswith("."), path
