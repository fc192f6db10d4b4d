"""Every rule of `tailrace check`, over a project and a catalogue that are plain values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tailrace.conforming import conform
from tailrace.control.check import judge
from tailrace.control.checks.settings import RULES, Rule
from tailrace.source.catalogue import Column, ForeignKey
from tailrace.targets import DynamoDBTable, Index, LakeTable, SearchIndex, Text
from tests.shop import CONFIG, FIELDS, ORDERS, PUBLISHED, SLOT, avsc, column, seen, shop

if TYPE_CHECKING:
    from tailrace.control.checks.finding import Finding
    from tailrace.project import Project
    from tailrace.source.catalogue import Catalogue


def only(project: Project, picture: Catalogue, *, streamed: bool | None = False) -> Finding:
    """Return the one finding that there must be."""
    found = judge(project, picture, streamed=streamed)
    assert len(found) == 1, [finding.what for finding in found]
    return found[0]


def test_a_sound_project_has_no_finding() -> None:
    assert judge(shop(), seen()) == []
    running = seen(publications={"tailrace_shop": PUBLISHED}, slots={"tailrace_shop": SLOT})
    assert judge(shop(), running, streamed=True) == []


def test_a_table_that_does_not_exist_is_named_with_the_nearest_one() -> None:
    made = shop(config={"table.include.list": "public.order,tailrace.heartbeat"}, contracts={}, sinks={})
    missing = judge(made, seen())[0]
    assert (missing.severity, missing.what) == ("error", "The table public.order does not exist.")
    assert missing.hint == "Did you mean public.orders?"


def test_a_table_without_a_primary_key_is_an_error_with_its_sql() -> None:
    found = only(shop(), seen(replace(ORDERS, key=())))
    assert (found.severity, found.what) == ("error", "The table public.orders has no primary key.")
    assert found.sql.startswith('ALTER TABLE "public"."orders" ADD PRIMARY KEY ("id");')


def test_a_contract_with_another_key_than_the_table_is_an_error() -> None:
    found = only(shop(orders=avsc(key=("buyer_id",))), seen())
    assert found.severity == "error"
    assert '"key" differs from the primary key of public.orders' in found.what
    assert found.hint == '"key": ["id"]'


def test_a_field_that_no_column_has_is_an_error_with_the_nearest_column() -> None:
    found = only(shop(orders=avsc([*FIELDS, {"name": "placed", "type": "string"}])), seen())
    assert (found.severity, found.what) == ("error", "schemas/orders.avsc: placed is no column of public.orders.")
    assert found.hint == "Did you mean placed_at?"


def test_a_field_that_a_conform_function_adds_is_no_finding() -> None:
    function = conform("public.orders", to="orders")(lambda row: {**row, "country": "NL"})
    made = shop(orders=avsc([*FIELDS, {"name": "country", "type": "string"}]), processors={"conform": (function,)})
    assert judge(made, seen()) == []


def test_a_generated_column_in_a_contract_is_an_error_because_it_is_not_sent() -> None:
    found = only(shop(), seen(column("paid", generated=True)))
    assert (found.severity, found.detail) == ("error", "It is a generated column, which is not sent.")


def test_an_excluded_column_in_a_contract_is_an_error() -> None:
    found = only(shop(config={"column.exclude.list": "public.orders.pa.d"}), seen())
    assert (found.severity, found.detail) == ("error", "The connector leaves it out.")


@pytest.mark.parametrize(
    ("name", "type_", "detail"),
    [
        ("id", "long", ""),
        ("id", "int", "bigint does not fit int; it fits long or numeric."),
        ("total", {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}, ""),
        ("total", {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 4},
         "numeric(14,2) does not fit decimal(14,4)."),
        ("total", "double", "numeric(14,2) does not fit double; it fits decimal or numeric."),
        ("placed_at", {"type": "long", "logicalType": "local-timestamp-micros"},
         "timestamp with time zone does not fit local-timestamp-micros; it fits timestamp-micros or string."),
    ],
)  # fmt: skip
def test_a_type_that_would_lose_something_is_an_error(name: str, type_: Any, detail: str) -> None:
    fields = [{**field, "type": type_} if field["name"] == name else field for field in FIELDS]
    found = judge(shop(orders=avsc(fields)), seen())
    assert [finding.detail for finding in found] == ([detail] if detail else [])


def test_a_contract_that_forbids_null_where_the_column_allows_it_is_an_error() -> None:
    found = only(shop(), seen(column("paid", nullable=True)))
    assert found.severity == "error"
    assert "paid forbids null" in found.what


def test_a_nullable_column_under_a_conform_function_is_a_warning() -> None:
    function = conform("public.orders", to="orders")(lambda row: {**row, "paid": bool(row["paid"])})
    found = only(shop(processors={"conform": (function,)}), seen(column("paid", nullable=True)))
    assert found.severity == "warning"


@pytest.mark.parametrize(
    ("setting", "severity"), [("__debezium_unavailable_value", "warning"), ("hex:5f5f", "warning"), ("hex:0", "error")]
)
def test_a_placeholder_that_a_user_could_write_is_a_warning_and_one_that_is_no_text_an_error(
    setting: str, severity: str
) -> None:
    found = only(shop(config={"unavailable.value.placeholder": setting}), seen())
    assert found.severity == severity
    assert "unavailable.value.placeholder" in found.what


def test_a_long_text_without_full_identity_is_restored_and_what_cannot_be_is_said_with_the_sql() -> None:
    made = shop(sinks={"stores": (LakeTable("orders", record="orders"),)})
    found = only(made, seen(replace(ORDERS, identity="DEFAULT")))
    assert found.severity == "note"
    assert "a long note that an update leaves unchanged is restored" in found.what
    assert "changes its primary key" in found.detail
    assert found.sql == 'ALTER TABLE "public"."orders" REPLICA IDENTITY FULL;'
    assert judge(made, seen(replace(ORDERS, identity="DEFAULT", toasted=False))) == []


def test_a_required_array_without_full_identity_would_stop_the_connector() -> None:
    table = replace(column("marks", type="_float8", shown="double precision[]", nullable=False, storage="x"))
    made = shop(sinks={"stores": (LakeTable("orders", record="orders"),)})
    found = judge(made, seen(replace(table, identity="DEFAULT")))
    assert [finding.severity for finding in found] == ["error", "warning", "note"]
    assert found[0].what == "public.orders: marks would stop the connector."


def test_an_array_that_a_function_reads_would_turn_null_by_itself() -> None:
    table = replace(column("marks", type="_bool", shown="boolean[]", storage="x"), identity="DEFAULT")
    function = conform("public.orders", to="orders")(lambda row: row)
    made = shop(processors={"conform": (function,)}, sinks={})
    assert judge(made, seen(table))[0].what == "public.orders: marks would turn NULL by themselves."


def test_a_sink_key_outside_the_primary_key_needs_full_identity() -> None:
    found = judge(shop(), seen(replace(ORDERS, identity="DEFAULT", toasted=False)))
    assert [finding.severity for finding in found] == ["error"]
    assert "the key is made of buyer_id, which is not in the primary key" in found[0].what
    assert found[0].sql == 'ALTER TABLE "public"."orders" REPLICA IDENTITY FULL;'


def test_an_item_that_several_rows_may_share_is_an_error() -> None:
    shared = DynamoDBTable("t", record="orders", pk="BUYER#{buyer_id}", sk="-")
    found = only(shop(sinks={"stores": (shared,)}), seen())
    assert (found.severity, found.hint) == ("error", "Add {id} to pk or sk.")
    assert "id of the primary key is not in the item's key" in found.what


@pytest.mark.parametrize(
    ("target", "what"),
    [
        (DynamoDBTable("t", record="orders", pk="O#{ids}", sk="-"), "has no field ids"),
        (DynamoDBTable("t", record="orders", pk="O#{id", sk="-"), "does not parse"),
        (DynamoDBTable("t", record="orders", pk="O#{id}", sk="-", ttl="paid"), "ttl names paid"),
        (DynamoDBTable("t", record="orders", pk="O#{id}", sk="-", indexes=(Index("i", pk="A", sk="{id}", when="id"),)),
         "the index i depends on id"),
        (SearchIndex("orders", record="orders", text=("id",)), "id is long; only text"),
        (SearchIndex("orders", record="orders", text=(Text("id"),)), "id is long; only text"),
        (SearchIndex("orders", record="orders", fields=("nope",)), "has no field nope"),
        (SearchIndex("orders", record="orders", text=(Text("nope"),)), "has no field nope"),
    ],
)  # fmt: skip
def test_a_declaration_that_names_a_wrong_field_is_an_error(target: Any, what: str) -> None:
    found = only(shop(sinks={"stores": (target,)}), seen())
    assert found.severity == "error"
    assert what in found.what


def test_a_text_with_an_analyzer_of_its_own_is_a_field_like_any_other() -> None:
    assert judge(shop(sinks={"stores": (SearchIndex("orders", record="orders", text=(Text("note"),)),)}), seen()) == []


def test_two_declarations_that_write_the_same_keys_are_an_error() -> None:
    twice = (LakeTable("orders", record="orders"), LakeTable("orders", record="orders"))
    assert "write to the same keys" in only(shop(sinks={"lake": twice}), seen()).what


def test_two_tables_that_become_one_record_are_an_error() -> None:
    sales = replace(ORDERS, name="sales.orders")
    made = shop(config={"table.include.list": "public.orders,sales.orders,tailrace.heartbeat"})
    picture = seen(tables={**seen().tables, "sales.orders": sales}, names=("public.orders", "sales.orders"))
    assert "public.orders and sales.orders both become the record orders." in [f.what for f in judge(made, picture)]


def test_a_foreign_key_without_an_index_is_a_warning_with_its_sql() -> None:
    foreign = (ForeignKey("buyer", ("buyer_id",), indexed=False), ForeignKey("fine", ("id",), indexed=True))
    found = only(shop(), seen(replace(ORDERS, foreign_keys=foreign)))
    assert found.severity == "warning"
    assert found.sql == 'CREATE INDEX CONCURRENTLY ON "public"."orders" ("buyer_id");'


def test_a_type_that_no_contract_holds_is_a_warning() -> None:
    table = replace(ORDERS, columns=(*ORDERS.columns, Column("place", "polygon", "polygon")))
    found = only(shop(), seen(table))
    assert (found.severity, found.what) == (
        "warning",
        "public.orders: place is polygon, which a contract cannot hold.",
    )


def test_a_table_beside_the_captured_ones_is_named_never_silently_absent() -> None:
    found = only(shop(), seen(names=("public.orders", "public.refunds", "audit.log")))
    assert (found.severity, found.detail) == ("note", "Left out: public.refunds.")


@pytest.mark.parametrize(
    "key",
    ["decimal.handling.mode", "key.converter.replace.null.with.default", "value.converter.replace.null.with.default",
     "key.converter.schemas.enable", "plugin.name", "publication.autocreate.mode",
     "skipped.operations", "column.propagate.source.type", "extended.headers.enabled"],
)  # fmt: skip
def test_a_setting_that_is_left_out_is_named_with_the_reason(key: str) -> None:
    made = shop()
    config = {name: value for name, value in CONFIG.items() if name != key}
    found = only(replace(made, connector=replace(made.connector, config=config)), seen())
    assert key in found.what
    assert found.hint == f'"{key}": "{CONFIG[key]}"'
    assert "not set" in found.detail


@pytest.mark.parametrize(
    ("key", "value"),
    [("tombstones.on.delete", "false"), ("value.converter.schemas.enable", "false"), ("transforms", "unwrap"),
     ("exactly.once.support", "required")],
)  # fmt: skip
def test_a_setting_that_would_lose_something_is_an_error(key: str, value: str) -> None:
    found = only(shop(config={key: value}), seen())
    assert found.severity == "error"
    assert key in found.what


@pytest.mark.parametrize("rule", RULES, ids=[rule.key for rule in RULES])
def test_every_setting_that_the_engine_relies_on_is_held_to_its_value(rule: Rule) -> None:
    said = [
        found for found in judge(shop(config={rule.key: "another"}), seen()) if f"{rule.key} should be" in found.what
    ]
    assert [found.severity for found in said] == ["warning" if rule.risky else "error"]


def test_a_heartbeat_that_is_not_captured_is_an_error_and_one_that_is_off_a_warning() -> None:
    unlisted = judge(shop(config={"table.include.list": "public.orders"}), seen())
    assert unlisted[0].what == "connectors/shop.json: table.include.list lacks tailrace.heartbeat."
    assert only(shop(config={"heartbeat.interval.ms": "0"}), seen()).severity == "warning"
    assert only(shop(config={"heartbeat.action.query": "SELECT 1"}), seen()).severity == "warning"


def test_a_secret_in_plain_text_is_a_warning_that_does_not_show_it() -> None:
    found = only(shop(config={"database.password": "hunter2"}), seen())
    assert found.severity == "warning"
    assert "hunter2" not in str(found.as_dict())


@pytest.mark.parametrize(
    ("setting", "value", "severity", "sql"),
    [
        ("wal_level", "replica", "error", "ALTER SYSTEM SET wal_level = 'logical'"),
        ("max_slot_wal_keep_size", "-1", "warning", "ALTER SYSTEM SET max_slot_wal_keep_size"),
        ("max_replication_slots", "0", "error", "ALTER SYSTEM SET max_replication_slots"),
    ],
)
def test_a_server_that_cannot_decode_safely_is_named_with_its_sql(
    setting: str, value: str, severity: str, sql: str
) -> None:
    found = only(shop(), seen(settings={**seen().settings, setting: value}))
    assert found.severity == severity
    assert found.sql.startswith(sql)


def test_a_slot_made_before_the_connector_streamed_is_a_warning_and_one_in_use_an_error() -> None:
    idle = only(shop(), seen(slots={"tailrace_shop": replace(SLOT, active=False)}), streamed=False)
    assert (idle.severity, idle.sql) == ("warning", "SELECT pg_drop_replication_slot('tailrace_shop');")
    assert only(shop(), seen(slots={"tailrace_shop": SLOT}), streamed=False).severity == "error"
    assert only(shop(), seen(slots={"tailrace_shop": SLOT}), streamed=None).severity == "warning"


def test_a_slot_that_is_gone_or_lost_or_of_another_database_is_an_error() -> None:
    assert only(shop(), seen(), streamed=True).what == "The slot tailrace_shop is gone."
    lost = only(shop(), seen(slots={"tailrace_shop": replace(SLOT, wal_status="lost")}), streamed=True)
    assert lost.what == "The slot tailrace_shop is lost."
    other = only(shop(), seen(slots={"tailrace_shop": replace(SLOT, database="crm")}), streamed=True)
    assert other.what == "The slot tailrace_shop belongs to something else."


def test_a_publication_for_all_tables_is_an_error_and_a_narrow_one_a_warning() -> None:
    wide = only(shop(), seen(publications={"tailrace_shop": replace(PUBLISHED, all_tables=True)}))
    assert (wide.severity, wide.sql.split(";")[0]) == ("error", 'DROP PUBLICATION "tailrace_shop"')
    narrow = only(shop(), seen(publications={"tailrace_shop": replace(PUBLISHED, tables=("public.orders",))}))
    assert (narrow.severity, narrow.what) == (
        "warning",
        "The publication tailrace_shop lacks tailrace.heartbeat, tailrace.signal.",
    )
    leaves = only(shop(), seen(publications={"tailrace_shop": replace(PUBLISHED, via_root=False)}))
    assert "publish_via_partition_root = true" in leaves.sql


def test_errors_come_before_warnings() -> None:
    found = judge(shop(config={"heartbeat.interval.ms": "0"}), seen(replace(ORDERS, key=())))
    assert [finding.severity for finding in found] == ["error", "warning"]


def test_an_array_in_a_contract_without_full_identity_would_turn_null_by_itself() -> None:
    table = replace(column("marks", type="_bool", shown="boolean[]", storage="x", item="bool"), identity="DEFAULT")
    fields = [*FIELDS, {"name": "marks", "type": ["null", {"type": "array", "items": ["null", "boolean"]}]}]
    made = shop(orders=avsc(fields), sinks={})
    found = judge(made, seen(table))[0]
    assert (found.severity, found.what) == ("error", "public.orders: marks would turn NULL by themselves.")
    assert judge(made, seen(replace(table, identity="FULL"))) == []


def test_an_array_as_part_of_a_key_is_an_error() -> None:
    marks = {"name": "marks", "type": {"type": "array", "items": ["null", "long"]}}
    table = column("marks", type="_int8", shown="bigint[]", nullable=False, item="int8")
    keyed = {"stores": (DynamoDBTable("t", record="orders", pk="M#{marks}", sk="O#{id}"),)}
    found = only(shop(orders=avsc([*FIELDS, marks]), sinks=keyed), seen(table))
    assert found.what.endswith("the key is made of marks, which is an array, not one value.")


def test_a_column_of_a_composite_type_is_a_warning_with_the_reason() -> None:
    found = only(shop(), seen(column("home", type="address", shown="address", sort="c")))
    assert (found.severity, "composite" in found.detail) == ("warning", True)


def test_an_interval_that_the_connector_sends_as_a_number_is_an_error() -> None:
    table = column("note", type="interval", shown="interval", storage="p")
    made = shop(sinks={})
    assert only(made, seen(table)).what == "public.orders: note is an interval, which the connector sends as a number."
    assert judge(shop(config={"interval.handling.mode": "string"}, sinks={}), seen(table)) == []
