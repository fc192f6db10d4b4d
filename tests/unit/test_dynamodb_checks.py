"""What `check` says of DynamoDB's mirrors and sets, and what a declaration refuses by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tailrace.control.checks import sinks
from tailrace.control.plan import uses_lake
from tailrace.errors import ProjectError
from tailrace.sink.dynamodb_items import Renderer
from tailrace.targets import DynamoDBTable, Mirror
from tailrace.testing import PARCEL
from tests.shop import ORDERS, seen, shop

PLAIN = DynamoDBTable("shop", record="orders", pk="ORDER#{id}", sk="-")


def findings(*targets: DynamoDBTable) -> list[str]:
    keyed = replace(ORDERS, identity="DEFAULT")
    return [finding.what for finding in sinks.check(shop(sinks={"stores": targets}), seen(keyed))]


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (replace(PLAIN, mirrors=(Mirror(pk="X#{ids}", sk="-"),)), "has no field ids"),
        (replace(PLAIN, mirrors=(Mirror(pk="ORDER#{id}", sk="-"),)), "write to the same keys"),
        (replace(PLAIN, mirrors=(Mirror(pk="{id", sk="-"),)), "does not parse"),
        (replace(PLAIN, sets=("ids",)), "has no field ids"),
        (replace(PLAIN, sets=("id",)), "sets names id"),
    ],
)
def test_mirrors_and_sets_are_checked_as_the_table_is(target: DynamoDBTable, problem: str) -> None:
    assert any(problem in found for found in findings(target)), findings(target)


def test_a_mirror_by_another_column_needs_the_row_before() -> None:
    found = findings(replace(PLAIN, mirrors=(Mirror(pk="BUYER#{buyer_id}", sk="{id}"),)))

    assert any("buyer_id, which is not in the primary key" in problem for problem in found), found


def test_a_sound_declaration_has_no_findings() -> None:
    assert findings(replace(PLAIN, mirrors=(Mirror(pk="AGAIN#{id}", sk="-"),))) == []


@pytest.mark.parametrize(("oversize", "needed"), [("reject", False), ("s3", True)])
def test_the_bucket_is_made_where_items_may_overflow_into_it(oversize: Any, needed: bool) -> None:
    assert uses_lake(shop(sinks={"stores": (replace(PLAIN, oversize=oversize),)})) is needed


@pytest.mark.parametrize("wrong", [{"write": "batch"}, {"oversize": "drop"}])
def test_words_that_mean_nothing_are_refused_where_they_are_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is one of"):
        replace(PLAIN, **wrong)


@pytest.mark.parametrize("name", ["note", "nothing"])
def test_a_writer_refuses_a_set_that_can_be_none(name: str) -> None:
    with pytest.raises(ProjectError):
        Renderer(DynamoDBTable("t", "parcel", pk="P", sk="{id}", sets=(name,)), PARCEL)
