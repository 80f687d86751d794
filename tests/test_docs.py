"""What the pages about streams say is so: diagrams, picture of the grammar, public names."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import rxstream
from rxstream import operators
from rxstream.grammar import NEXT

from .marbles import Diagram

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MARBLES = [
    pytest.param(block, id=f"{page.stem}-{n}")
    for page in sorted(DOCS.glob("*.md"))
    for n, block in enumerate(re.findall(r"^```marble\n(.*?)^```$", page.read_text(), re.M | re.S))
]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("block", MARBLES)
def test_a_diagram_shows_what_the_operator_does(block: str) -> None:
    diagram = Diagram.parse(block)
    width = max(len(cells) for _, cells in diagram.rows)
    told = [(label, cells + ["-"] * (width - len(cells))) for label, cells in diagram.rows]
    real = [(label, cells + ["-"] * (width - len(cells))) for label, cells in diagram.replay()]
    assert real == told


def test_a_diagram_that_is_wrong_is_noticed() -> None:
    wrong = "source > Q S T A |\ntokens() > - T - - |"
    diagram = Diagram.parse(wrong)
    assert diagram.replay() != diagram.rows


def test_every_operator_has_a_heading_and_a_diagram() -> None:
    page = (DOCS / "operators.md").read_text()
    drawn = set(re.findall(r"^### (\w+)\n(?:(?!###).)*?```marble\n", page, re.M | re.S))
    assert drawn == set(operators.__all__) - {"Query"}


def test_the_picture_of_the_grammar_is_the_automaton() -> None:
    edges = {
        (group.get("data-from"), letter): group.get("data-to")
        for group in ElementTree.parse(DOCS / "grammar.svg").iter(f"{SVG}g")
        for letter in group.get("data-letters", "")
    }
    assert edges == {(a, letter): b for a, row in NEXT.items() for letter, b in row.items()}


def test_what_the_picture_says_is_what_it_means() -> None:
    """The letters that people see are those of the attributes that the test above reads."""
    for group in ElementTree.parse(DOCS / "grammar.svg").iter(f"{SVG}g"):
        seen = [s.text for s in group.iter(f"{SVG}tspan") if s.get("font-weight") == "bold"]
        assert "".join(map(str, seen)) == group.get("data-letters")


def exported(module: str) -> set[str]:
    package = importlib.import_module(module)
    if hasattr(package, "__all__"):
        return set(package.__all__)
    return {name for name, cls in vars(package).items() if inspect.isclass(cls)}


PUBLIC = (
    "rxstream",
    "rxstream.errors",
    *(
        f"rxstream.{module.name}"
        for module in pkgutil.iter_modules(rxstream.__path__)
        if module.ispkg and not module.name.startswith("_")
    ),
)
"""Packages whose names are for users. Other modules are where these names live."""


def named(module: str) -> dict[str, str]:
    """The names on the page under a heading, and what is said of them."""
    sections = re.split(r"^## ", (DOCS / "api.md").read_text(), flags=re.M)
    [section] = [text for text in sections if text.split("\n")[0] == module]
    rows = re.findall(r"^\| `([\w.]+)` \| (.+) \|$", section, re.M)
    assert len(rows) == len(dict(rows)) and all(line for _, line in rows)
    return dict(rows)


@pytest.mark.parametrize("module", PUBLIC)
def test_the_names_on_the_page_are_those_of_the_code(module: str) -> None:
    assert named(module).keys() == exported(module)


def test_the_full_names_on_the_page_exist_and_explain_themselves() -> None:
    for name in named("By their full names"):
        module, _, attribute = name.rpartition(".")
        thing = getattr(importlib.import_module(module), attribute)
        assert not callable(thing) or inspect.getdoc(thing), name


def test_what_pages_and_examples_import_is_on_the_page() -> None:
    known = {f"{module}.{name}" for module in PUBLIC for name in named(module)}
    known |= named("By their full names").keys() | set(PUBLIC)
    pages = [ROOT / "README.md", *DOCS.glob("*.md")]
    blocks = [
        block
        for page in pages
        for block in re.findall(r"^```py(?:thon)?\n(.*?)^```$", page.read_text(), re.M | re.S)
    ]
    blocks += [path.read_text() for path in (ROOT / "examples").glob("*.py")]
    imported = set()
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rxstream"):
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert "rxstream.Runtime" in imported
    assert {name for name in imported if name not in known} <= {"rxstream.snapshot"}


@pytest.mark.parametrize("name", sorted(rxstream.__all__))
def test_every_name_has_a_docstring(name: str) -> None:
    thing = getattr(rxstream, name)
    if name != "Event":  # a union has no place for one
        assert inspect.getdoc(thing)


def test_the_store_contract_runs_as_the_page_says(tmp_path: Path) -> None:
    [block] = re.findall(
        r"^```py\n(.*?)^```$", (DOCS / "store-authors.md").read_text(), re.M | re.S
    )
    test = tmp_path / "test_my_store.py"
    test.write_text("from adapters.stores.sqlite import SqliteStore as MyStore\n" + block)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "commit", str(test)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9]\d* passed", done.stdout)


SHELF = """
import pytest
from rxstream.testing.store_contract import StoreContract

class TestShelfStore(StoreContract):
    @pytest.fixture
    def open_store(self):
        return ShelfStore
"""


def test_the_store_that_the_page_shows_keeps_the_contract(tmp_path: Path) -> None:
    page = (DOCS / "store-authors.md").read_text()
    [block] = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / "test_shelf.py").write_text(block + SHELF)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shelf.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d{3} passed", done.stdout)
