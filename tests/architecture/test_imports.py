"""Who may import whom, and what must be importable without the heavy parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

WITHOUT_TENSORS = """
import importlib, pkgutil, sys
for blocked in ("torch", "numpy", "safetensors", "tokenizers"):
    sys.modules[blocked] = None
import rxstream
for module in pkgutil.walk_packages(rxstream.__path__, "rxstream."):
    importlib.import_module(module.name)
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_import_contracts_are_kept() -> None:
    result = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_module_of_rxstream_imports_without_tensors() -> None:
    result = run(sys.executable, "-c", WITHOUT_TENSORS)
    assert result.returncode == 0, result.stderr
