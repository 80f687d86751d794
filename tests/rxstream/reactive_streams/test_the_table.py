"""Every rule that applies has a test that is named by it; what is left out is still a rule."""

from __future__ import annotations

import re
from pathlib import Path

from .readers import KINDS, LEFT_OUT, POLICIES

RULES = """
101 102 103 104 105 106 107 108 109 110 111 201 202 204 205 206 208 209 210 211 213
302 303 304 305 306 307 309 310 311 312 313 314 315 316 317 401 402
""".split()
HERE = Path(__file__).parent


def test_every_rule_has_a_test_of_its_name() -> None:
    names = re.findall(r"def test_rule((?:_\d{3})+)_", "".join(map(Path.read_text, sources())))
    tested = {rule for name in names for rule in name.split("_") if rule}
    assert tested == set(RULES)


def test_what_is_left_out_is_asked_for_somewhere() -> None:
    used = set(re.findall(r'@cases\("([^"]+)"\)', "".join(map(Path.read_text, sources()))))
    assert LEFT_OUT.keys() <= used
    for rule, reasons in LEFT_OUT.items():
        for (kind, overflow), reason in reasons.items():
            assert kind in (*KINDS, "*") and overflow in (*POLICIES, "*") and reason, rule


def sources():
    return sorted(HERE.glob("test_*.py"))
