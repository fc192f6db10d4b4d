"""The page of types is the one that the code prints."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from tailrace import contract
from tailrace.source import types
from tests import every_type

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_types_is_what_the_tool_prints() -> None:
    table = runpy.run_path(str(ROOT / "tools" / "types_table.py"))
    assert (ROOT / "docs" / "types.md").read_text() == table["page"](), "python tools/types_table.py > docs/types.md"


def test_every_kind_of_a_contract_is_on_the_page() -> None:
    text = (ROOT / "docs" / "types.md").read_text()
    assert [kind for kind in contract.KINDS if f"| `{kind}`" not in text] == []


def sent(*, listed: bool) -> set[str]:
    """Return the base types of the columns, or of the arrays, that go through the pipeline in tests/every_type.py."""
    spelled = {"boolean": "bool", "char": "bpchar", '"char"': "char"}
    given = [type_ for type_, _ in every_type.COLUMNS.values() if type_.endswith("[]") is listed]
    return {spelled.get(base, base) for base in (re.sub(r"\(.*?\)|\[\]", "", type_) for type_ in given)}


def test_a_type_that_no_test_sends_through_the_pipeline_is_marked_as_not_measured() -> None:
    rows = [line for line in (ROOT / "docs" / "types.md").read_text().splitlines() if line.startswith("| `")]
    marked = {row.split("`")[1] for row in rows if "not measured" in row}
    assert marked == set(types.FITS) - sent(listed=False)
    assert types.ITEMS - marked <= sent(listed=True)
