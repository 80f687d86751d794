"""``pytest --pyargs rxstream.testing.store_contract --store=URL`` works from any folder."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rxstream.testing.store_contract import apart

from .services import BUCKET

if TYPE_CHECKING:
    from pathlib import Path

FEW = "rollback or outlive or shared or conflict"
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}


def run(folder: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs"]
    return subprocess.run(
        [*command, "rxstream.testing.store_contract", f"--store={url}", *words],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("url", ["sqlite:///test.db", "dir:///test", "dir:///in/{case}", "memory:"])
def test_a_store_on_this_machine_passes_and_leaves_nothing(tmp_path: Path, url: str) -> None:
    (tmp_path / "in").mkdir()
    few = () if url == "sqlite:///test.db" else ("-k", FEW)
    done = run(tmp_path, url, *few)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= (95 if not few else 5)
    assert [p.name for p in tmp_path.rglob("*") if p.name != "__pycache__"] == ["in"]


def test_a_store_on_a_server_passes(
    tmp_path: Path, redis_url: str, postgres_url: str, s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    s3 = f"s3://{BUCKET}/at?endpoint={s3_endpoint}&region=us-east-1"
    for url in (redis_url, postgres_url, s3):
        done = run(tmp_path, url, "-k", FEW)
        assert done.returncode == 0, f"{url}: {done.stdout}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db-c1"),
        ("dir:///x/", "dir:///x-c1"),
        ("s3://bucket", "s3://bucket/c1"),
        ("s3://bucket/a?region=x", "s3://bucket/a-c1?region=x"),
        ("redis://h/0", "redis://h/0?prefix=c1"),
        ("postgresql://h/d?schema=mine", "postgresql://h/d?schema=mine&schema=c1"),
        ("mine://h/{case}", "mine://h/c1"),
    ],
)
def test_every_case_has_an_address_beside_the_one_that_was_given(url: str, expected: str) -> None:
    assert apart(url, "c1") == expected


@pytest.mark.parametrize("url", ["mine://host/x", "sqlite:///", "nonsense"])
def test_an_address_that_all_cases_would_share_is_refused(url: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="put {case} where a name may be"):
        apart(url, "c1")


def test_without_an_address_the_suite_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs"]
    done = subprocess.run(
        [*command, "rxstream.testing.store_contract", "-x"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "name the store to test: --store URL" in done.stdout
