"""The page of correctness traps names tests and pages that exist, and every trap."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "traps.md"
TRAPS = [str(number) for number in range(1, 32)] + [str(number) for number in range(41, 55)]
BESIDE = {"18": ["18b", "18c"], "50": ["50b"]}  # what belongs to a trap and needs a proof of its own
ROWS = re.findall(r"^\| (\d+[a-z]?) \| (.+?) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)


@cache
def written_in(path: str) -> frozenset[str]:
    """Return the names of the test functions and methods of a file."""
    tree = ast.parse((ROOT / path).read_text())
    found = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return frozenset(name for name in found if name.startswith("test_"))


def test_the_page_has_one_line_for_every_trap_in_their_order() -> None:
    expected = [each for number in TRAPS for each in (number, *BESIDE.get(number, []))]
    assert [number for number, _, _ in ROWS] == expected
    assert len([line for line in PAGE.read_text().splitlines() if line.startswith("| ")]) == len(ROWS) + 1


def test_every_trap_names_a_test_and_says_what_holds_in_a_sentence() -> None:
    for number, invariant, proof in ROWS:
        assert "::" in proof, number
        assert invariant.endswith("."), number


def test_every_test_that_the_page_names_exists() -> None:
    named = [name.partition("::") for _, _, proof in ROWS for name in re.findall(r"`([^`]+)`", proof)]
    assert [f"{path}::{test}" for path, _, test in named if test not in written_in(path)] == []


def test_every_page_that_the_page_names_exists() -> None:
    linked = re.findall(r"\]\(([^)]+)\)", PAGE.read_text())
    assert linked
    assert [place for place in linked if not (PAGE.parent / place).is_file()] == []
