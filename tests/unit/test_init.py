"""A new project folder: complete, sound, and never at the cost of files that are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailrace import contract, project
from tailrace.control.check import judge
from tailrace.control.init import lay_out, wanted
from tailrace.errors import Refused, UsageError
from tests.shop import FIELDS, seen

AVSC = {"type": "record", "name": "Orders", "key": ["id"], "fields": FIELDS}


def test_a_new_project_loads_and_has_no_finding_once_its_contracts_are_there(tmp_path: Path) -> None:
    lay_out(tmp_path, wanted(tmp_path, "shop", None, ["public.orders"]))
    (tmp_path / "schemas" / "orders.avsc").write_text(json.dumps(AVSC))
    made = project.load(tmp_path)
    assert (made.name, made.connector.tables, set(made.sinks)) == (
        "shop", ("public.orders",), {"dynamodb", "lake", "search"},
    )  # fmt: skip
    assert made.functions["public.orders"]({"id": 1}) == {"id": 1}
    assert judge(made, seen()) == []


def test_every_named_table_is_captured_and_goes_to_the_stores(tmp_path: Path) -> None:
    lay_out(tmp_path, wanted(tmp_path, "my-shop", "crm", ["public.orders", "sales.line-items"]))
    made = project.load_source(tmp_path)
    assert made.connector.database == "crm"
    assert made.connector.published == ("public.orders", "sales.line-items", "tailrace.heartbeat", "tailrace.signal")
    assert (made.connector.slot, made.settings.lake.bucket) == ("tailrace_my_shop", "my-shop-lake")
    text = json.dumps(AVSC)
    for record in ("orders", "line-items"):
        (tmp_path / "schemas" / f"{record}.avsc").write_text(text)
        assert contract.load(tmp_path / "schemas" / f"{record}.avsc").key == ("id",)
    loaded = project.load(tmp_path)
    assert loaded.records_of("dynamodb") == loaded.records_of("lake") == ("orders", "line-items")


def test_a_folder_with_a_project_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "tailrace.toml").write_text("mine")
    with pytest.raises(Refused, match=r"tailrace\.toml"):
        lay_out(tmp_path, wanted(tmp_path, "shop", None, []))
    assert [path.name for path in tmp_path.iterdir()] == ["tailrace.toml"]
    assert (tmp_path / "tailrace.toml").read_text() == "mine"


def test_a_readme_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    assert "README.md" not in lay_out(tmp_path, wanted(tmp_path, "shop", None, []))
    assert (tmp_path / "README.md").read_text() == "mine"


def test_the_name_comes_from_the_folder_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    assert wanted(tmp_path / "My Shop", None, None, []).name == "my-shop"
    with pytest.raises(UsageError, match="cannot be the name of a pipeline"):
        wanted(tmp_path, "9", None, [])
    with pytest.raises(UsageError, match=r"Name the schema too: public\.orders"):
        wanted(tmp_path, "shop", None, ["orders"])
