"""Where a contract stands against its table and the registry, and what plan and check say of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tailrace.conforming import ConformFunction
from tailrace.contract import Contract
from tailrace.control.resources.schemas import registered_beyond
from tailrace.control.standing import Registered, Standing, ahead, judge
from tailrace.evolution import added
from tailrace.settings import Settings
from tailrace.source.catalogue import Table
from tests.shop import FIELDS, ORDERS, avsc, column, seen, shop

GIFT: dict[str, Any] = {"name": "gift", "type": ["null", "string"], "default": None}
SAME = Registered(avsc().schema)
LATER = added(avsc(), [GIFT])


def stands(
    table: Table = ORDERS, registered: Registered = SAME, *, orders: Contract | None = None, policy: str = "ignore"
) -> list[Standing]:
    settings = {"pipeline": {"name": "shop", "connector": "shop"}}
    tables = {"tables": {"public.orders": {"unknown_columns": policy}}}
    made = shop(orders=orders, settings=Settings.model_validate({**settings, **tables}))
    return judge(made, "orders", seen(table), registered)


def test_a_contract_that_fits_its_table_and_is_registered_has_no_finding() -> None:
    assert stands() == []


@pytest.mark.parametrize(
    ("policy", "verdict", "says"),
    [("ignore", "note", "left out"), ("evolve", "note", "joins it"), ("stop", "incompatible", "the table waits")],
)
def test_an_unknown_column_stands_as_the_policy_of_its_table_says(policy: str, verdict: str, says: str) -> None:
    (found,) = stands(column("colour"), policy=policy)
    assert (found.verdict, found.against) == (verdict, "table")
    assert says in found.problem
    assert "schema derive orders" in found.todo


def test_a_type_that_the_contract_follows_by_itself_is_a_warning() -> None:
    narrow = avsc([*FIELDS, {"name": "count", "type": "int"}])
    table, registered = column("count", type="int8", shown="bigint", nullable=False), Registered(narrow.schema)
    (follows,) = stands(table, registered, orders=narrow, policy="evolve")
    (stays,) = stands(table, registered, orders=narrow, policy="ignore")
    assert (follows.verdict, stays.verdict) == ("warning", "incompatible")
    assert "becomes long" in follows.detail


def test_a_column_that_is_ignored_or_that_no_contract_holds_is_no_problem() -> None:
    ignoring = Contract("orders", {**avsc().schema, "ignore": ["colour"]}, avsc().fields, avsc().key)
    registered = Registered(ignoring.schema)
    assert stands(column("colour"), registered, orders=ignoring, policy="stop") == []
    (unable,) = stands(column("area", type="polygon", shown="polygon"), policy="stop")
    assert unable.verdict == "note"


def test_a_missing_column_is_incompatible_and_one_with_a_default_a_warning() -> None:
    columns = tuple(found for found in ORDERS.columns if found.name not in ("note", "paid"))
    first, second = stands(replace(ORDERS, columns=columns))
    assert (first.verdict, second.verdict) == ("incompatible", "warning")
    assert "paid is no column" in first.problem
    assert "note is no column" in second.problem


def test_a_type_that_no_longer_fits_and_another_key_are_incompatible() -> None:
    (typed,) = stands(column("paid", type="text", shown="text"))
    assert typed.verdict == "incompatible"
    (keyed,) = stands(replace(ORDERS, key=("id", "buyer_id")))
    assert (keyed.verdict, keyed.todo) == ("incompatible", '"key": ["id", "buyer_id"]')


def test_a_table_that_is_gone_is_incompatible() -> None:
    (found,) = judge(shop(), "orders", replace(seen(), tables={}), SAME)
    assert found.verdict == "incompatible"


def test_a_contract_that_is_not_registered_yet_is_a_warning() -> None:
    (found,) = stands(registered=Registered())
    assert (found.verdict, found.against) == ("warning", "registry")
    assert "tailrace apply" in found.todo


def test_a_registry_that_is_ahead_by_evolution_is_a_warning_that_names_the_command() -> None:
    (found,) = stands(registered=Registered(LATER.schema))
    assert (found.verdict, found.problem) == ("warning", "The registry is ahead by: field gift.")
    assert found.todo == "`tailrace schema derive orders` writes it."


def test_a_file_that_changed_while_the_registry_went_ahead_is_incompatible_until_both_are_in_it() -> None:
    other = avsc([*FIELDS, {"name": "tip", "type": ["null", "long"], "default": None}])
    (found,) = stands(column("tip", type="int8", shown="bigint"), Registered(LATER.schema), orders=other)
    assert (found.verdict, found.problem) == ("incompatible", "The registry is ahead by: field gift.")
    assert "+ field tip" in found.detail


def test_a_file_ahead_of_the_registry_is_a_warning_if_the_registry_takes_it() -> None:
    table = column("gift")
    (takes,) = stands(table, SAME, orders=LATER)
    assert (takes.verdict, takes.detail) == ("warning", "+ field gift")
    (refuses,) = stands(table, Registered(avsc().schema, refusal=("READER_FIELD_MISSING",)), orders=LATER)
    assert refuses.verdict == "incompatible"
    assert "READER_FIELD_MISSING" in refuses.detail


def test_another_compatibility_level_is_a_warning() -> None:
    (found,) = stands(registered=Registered(avsc().schema, compatibility="NONE"))
    assert (found.verdict, found.against) == ("warning", "registry")
    assert "NONE instead of BACKWARD_TRANSITIVE" in found.detail


def test_what_the_pipeline_registered_is_never_followed_by_the_older_file() -> None:
    assert registered_beyond(avsc(), LATER.schema) == (("field gift",), True)
    count = {"name": "count", "type": "int"}
    narrow = avsc([*FIELDS, count])
    assert registered_beyond(narrow, added(narrow, [], {"count": "long"}).schema) == (("field count as long",), True)
    assert registered_beyond(LATER, avsc().schema) == ((), False)  # the file is ahead
    required = avsc([*FIELDS, {"name": "gift", "type": "string"}])
    assert registered_beyond(avsc(), required.schema) == ((), False)  # given up in the file: not by the pipeline
    assert registered_beyond(narrow, LATER.schema) == (("field gift",), False)  # and the file has changed too


def test_check_warns_of_a_registry_that_is_ahead_and_says_the_command() -> None:
    (found,) = ahead(shop(), {"orders": LATER.schema})
    assert (found.severity, found.hint) == ("warning", "`tailrace schema derive orders` writes it.")
    assert list(ahead(shop(), {"orders": avsc().schema})) == []


def test_a_column_of_a_table_with_a_function_is_for_the_function() -> None:
    function = ConformFunction("public.orders", "orders", lambda row: row)
    made = shop(processors={"conform": (function,)})
    (found,) = judge(made, "orders", seen(column("colour")), SAME)
    assert found.verdict == "note"
    assert "where the conform function passes it on" in found.detail
