"""The page of types is the one that the code prints."""

from __future__ import annotations

import runpy
from pathlib import Path

from tailrace import contract

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_types_is_what_the_tool_prints() -> None:
    table = runpy.run_path(str(ROOT / "tools" / "types_table.py"))
    assert (ROOT / "docs" / "types.md").read_text() == table["page"](), "python tools/types_table.py > docs/types.md"


def test_every_kind_of_a_contract_is_on_the_page() -> None:
    text = (ROOT / "docs" / "types.md").read_text()
    assert [kind for kind in contract.KINDS if f"| `{kind}`" not in text] == []
