"""What a case found: tables for people, JSON for programs, and the machine it was found on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

PARTS = ("rxstream", "torch", "tokenizers", "reactivex", "anyio")


@dataclass
class Table:
    """Rows of numbers under a title; None is shown as a dash."""

    title: str
    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)

    def add(self, *cells: Any) -> None:
        """Append a row, a cell for each column."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(list(cells))

    def text(self) -> str:
        """Columns aligned, numbers to the right."""
        cells = [self.columns, *([_shown(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        numeric = [
            all(not isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns))
        ]
        lines = [
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            ).rstrip()
            for row in cells
        ]
        rule = "  ".join("-" * width for width in widths)
        return "\n".join([self.title, "", lines[0], rule, *lines[1:]])


@dataclass
class Check:
    """A target: ``measured`` must not be beyond ``target`` on the wrong side."""

    name: str
    measured: float
    target: float
    at_least: bool = False
    """Whether more is better."""
    unit: str = "%"
    """"%" for a share or a ratio, else what the figures are in."""

    @property
    def met(self) -> bool:
        return self.measured >= self.target if self.at_least else self.measured <= self.target

    def text(self) -> str:
        """One line: what, how much, and whether that is enough."""
        sign = ">=" if self.at_least else "<="
        verdict = "met" if self.met else "MISSED"
        shown, target = f"{self.measured:.3g} {self.unit}", f"{self.target:g}"
        if self.unit == "%":
            shown, target = f"{self.measured:.1%}", f"{self.target:.0%}"
        return f"{verdict}: {self.name}: {shown} (target {sign} {target})"


@dataclass
class Report:
    """All that one case found."""

    case: str
    about: str
    tables: list[Table] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Tables, targets and notes, as printed."""
        parts = [f"{self.case}: {self.about}", *(table.text() for table in self.tables)]
        if self.checks:
            parts.append("\n".join(check.text() for check in self.checks))
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(parts)

    def save(self, folder: Path, command: str, settings: dict[str, Any]) -> Path:
        """Write ``<case>.json`` into ``folder``; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.case}.json"
        content = {
            "case": self.case,
            "about": self.about,
            "command": command,
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "settings": settings,
            "environment": environment(),
            "tables": [asdict(table) for table in self.tables],
            "checks": [asdict(check) | {"met": check.met} for check in self.checks],
            "notes": self.notes,
        }
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def environment() -> dict[str, Any]:
    """Versions and hardware; nothing that names the machine or its user."""
    return {
        "python": platform.python_version(),
        "versions": {part: _version(part) for part in PARTS},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load_1_5_15_min": [round(load, 2) for load in os.getloadavg()],
    } | _gpu()


def _version(part: str) -> str:
    """A package may be used from its source tree, without being installed."""
    try:
        return importlib.metadata.version(part)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _gpu() -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _shown(cell: Any) -> str:
    if cell is None:
        return "-"
    if not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) else str(cell)
    if cell >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.2f}" if cell >= 10 else f"{cell:.3f}"
