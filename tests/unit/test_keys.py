"""Keys: what message.key.columns may say, and what `tailrace check` says of keys, old rows and names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tailrace.connector import Connector
from tailrace.control.check import judge
from tailrace.errors import ProjectError
from tailrace.source.catalogue import Leaf, Unique
from tailrace.targets import DynamoDBTable, LakeTable, RawLakeTable
from tests.shop import ORDERS, PUBLISHED, avsc, column, seen, shop

if TYPE_CHECKING:
    from tailrace.control.checks.finding import Finding
    from tailrace.project import Project
    from tailrace.source.catalogue import Catalogue, Table

LAKE = {"stores": (LakeTable("orders", record="orders"),)}
ID = Unique("orders_id", ("id",))
KEYLESS = replace(ORDERS, primary=(), uniques=(ID,))
POLICY = {"message.key.columns": "public.orders:id"}


def only(project: Project, picture: Catalogue) -> Finding:
    found = judge(project, picture)
    assert len(found) == 1, [finding.what for finding in found]
    return found[0]


def keyed(table: Table) -> Finding:
    """Return the one finding on a table whose key is message.key.columns' choice."""
    return only(shop(config=POLICY), seen(table))


def parts(*identities: str) -> Table:
    leaves = tuple(Leaf(f"public.orders_{number}", identity) for number, identity in enumerate(identities))
    return replace(ORDERS, partitioned=True, leaves=leaves, identity=min(identities, key="NOTHING DEFAULT FULL".find))


def test_message_key_columns_names_tables_and_columns_plainly() -> None:
    setting = r"public.visits:visitor,day; shop\.logins:token;"
    assert Connector("shop", {"message.key.columns": setting}).keys == {
        "public.visits": ("visitor", "day"),
        "shop.logins": ("token",),
    }
    assert Connector("shop", {}).keys == {}


@pytest.mark.parametrize(
    "setting",
    ["(.*).visits:id", "public.visits", "public.visits:", "visits:id", "public.v:a, b", "public.v:a;public.v:b"],
)
def test_message_key_columns_with_a_pattern_or_half_an_entry_is_refused(setting: str) -> None:
    with pytest.raises(ProjectError, match=r"message\.key\.columns is not a list of tables with their columns"):
        _ = Connector("shop", {"message.key.columns": setting}).keys


def test_a_chosen_key_that_tells_rows_apart_is_no_finding() -> None:
    assert judge(shop(config=POLICY), seen(KEYLESS)) == []
    by_index = replace(KEYLESS, identity="INDEX", identity_columns=("id",), toasted=False)
    assert judge(shop(config=POLICY, sinks=LAKE), seen(by_index)) == []


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (replace(ID, immediate=False), "orders_id is deferrable"),
        (replace(ID, whole=False), "orders_id has a WHERE"),
        (replace(ID, valid=False), "orders_id is not valid"),
        (replace(ID, columns=("id", "buyer_id")), "no unique index is over just id"),
    ],
)
def test_a_chosen_key_without_a_solid_unique_index_is_an_error_with_its_sql(index: Unique, why: str) -> None:
    found = keyed(replace(KEYLESS, uniques=(index,)))
    assert found.severity == "error"
    assert why in found.detail
    assert found.sql == 'CREATE UNIQUE INDEX ON "public"."orders" ("id");'


def test_a_chosen_key_that_may_be_null_is_an_error_with_its_sql() -> None:
    columns = tuple(replace(entry, nullable=True) if entry.name == "id" else entry for entry in KEYLESS.columns)
    found = judge(shop(config=POLICY), seen(replace(KEYLESS, columns=columns)))[0]
    assert "id may be NULL" in found.detail
    assert found.sql == 'ALTER TABLE "public"."orders" ALTER COLUMN "id" SET NOT NULL;'


def test_a_chosen_key_beside_a_primary_key_is_an_error() -> None:
    assert "has a primary key" in keyed(replace(KEYLESS, primary=("buyer_id",))).what


def test_an_outbox_may_be_keyed_by_any_columns() -> None:
    settings = shop().settings.model_validate({
        "pipeline": {"name": "shop", "connector": "shop"},
        "tables": {"public.orders": {"outbox": {"routes": ["order"], "id": "id", "key": "id", "type": "note",
                                                "route": "buyer_id", "payload": "note"}}},
    })  # fmt: skip
    table = replace(KEYLESS, primary=("buyer_id",), uniques=(), identity="DEFAULT", toasted=False)
    found = judge(shop(config=POLICY, settings=settings, sinks={}), seen(table))
    assert [finding.what for finding in found if finding.severity == "error"] == []


def test_a_chosen_key_of_columns_or_tables_that_do_not_exist_is_an_error() -> None:
    found = judge(shop(config={"message.key.columns": "public.orders:ID"}), seen(replace(KEYLESS, key=("ID",))))
    assert found[0].what.endswith("has no column ID.")
    other = only(shop(config={"message.key.columns": "public.other:id"}), seen())
    assert other.what.endswith("names public.other, which is not captured.")


def test_the_contract_of_a_chosen_key_has_that_key() -> None:
    found = only(shop(config=POLICY, orders=avsc(key=("buyer_id",)), sinks=LAKE), seen(KEYLESS))
    assert '"key" differs from the message.key.columns of public.orders' in found.what


def test_a_table_without_a_key_is_told_of_the_setting_that_would_name_one() -> None:
    found = only(shop(), seen(replace(ORDERS, key=(), uniques=(ID,))))
    assert '"message.key.columns": "public.orders:id"' in found.hint


@pytest.mark.parametrize(
    ("table", "sql"),
    [
        (replace(ORDERS, identity="NOTHING"), "DEFAULT"),
        (replace(ORDERS, identity="INDEX", identity_columns=("buyer_id",)), "DEFAULT"),
        (replace(ORDERS, identity="INDEX"), "DEFAULT"),
        (replace(ORDERS, identity="DEFAULT", uniques=(Unique("p", ("id",), primary=True, immediate=False),)), "FULL"),
    ],
)
def test_old_rows_that_do_not_name_the_key_are_an_error_with_the_sql(table: Table, sql: str) -> None:
    found = only(shop(sinks=LAKE), seen(replace(table, toasted=False)))
    assert (found.severity, found.sql) == ("error", f'ALTER TABLE "public"."orders" REPLICA IDENTITY {sql};')


def test_the_index_of_the_primary_key_as_identity_is_no_finding() -> None:
    table = replace(ORDERS, identity="INDEX", identity_columns=("id",), toasted=False)
    assert judge(shop(sinks=LAKE), seen(table)) == []


def test_a_chosen_key_under_default_identity_needs_its_index_named() -> None:
    found = only(shop(config=POLICY, sinks=LAKE), seen(replace(KEYLESS, identity="DEFAULT", toasted=False)))
    assert found.sql == 'ALTER TABLE "public"."orders" REPLICA IDENTITY USING INDEX "orders_id";'


def test_each_partition_answers_for_its_own_old_rows() -> None:
    silent = only(shop(sinks=LAKE), seen(replace(parts("DEFAULT", "NOTHING", "DEFAULT"), toasted=False)))
    assert (silent.severity, "public.orders_1 (NOTHING)" in silent.what) == ("error", True)
    assert silent.sql == 'ALTER TABLE "public"."orders_1" REPLICA IDENTITY DEFAULT;'
    weak = judge(shop(), seen(parts("FULL", "FULL", "DEFAULT")))
    mend = 'ALTER TABLE "public"."orders_2" REPLICA IDENTITY FULL;'
    assert {finding.sql for finding in weak if "THE_NEW" not in finding.sql} == {mend}
    assert [finding.severity for finding in weak] == ["error", "warning", "note", "note"]


def test_new_partitions_are_said_to_begin_with_the_default() -> None:
    found = only(shop(), seen(parts("FULL", "FULL")))
    assert (found.severity, "begins with REPLICA IDENTITY DEFAULT" in found.what) == ("note", True)
    assert judge(shop(sinks=LAKE), seen(replace(parts("DEFAULT", "DEFAULT"), toasted=False))) == []


@pytest.mark.parametrize(
    ("type_", "severity"),
    [("float8", "error"), ("timetz", "error"), ("hstore", "error"), ("numeric", "warning"), ("citext", "warning")],
)
def test_a_key_whose_equal_values_have_several_texts_is_named_with_the_sql(type_: str, severity: str) -> None:
    found = judge(shop(sinks={}), seen(column("id", type=type_, shown=type_, modifier=-1)))
    named = next(finding for finding in found if "key" in finding.what and "fit" not in finding.what)
    assert named.severity == severity
    assert named.sql.startswith('ALTER TABLE "public"."orders" ALTER COLUMN "id" TYPE ')


def test_a_text_key_whose_collation_calls_different_texts_equal_is_named_with_the_sql() -> None:
    fields = [{"name": "id", "type": "string"}]
    table = column("id", type="text", shown="text", storage="p", loose=True)
    found = only(shop(orders=avsc(fields), sinks=LAKE), seen(table))
    assert found.sql == 'ALTER TABLE "public"."orders" ALTER COLUMN "id" TYPE text COLLATE "C";'


def test_a_numeric_key_of_a_fixed_scale_is_no_finding() -> None:
    fields = [{"name": "id", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}]
    table = column("id", type="numeric", shown="numeric(9,2)", modifier=(9 << 16 | 2) + 4)
    assert judge(shop(orders=avsc(fields), sinks=LAKE), seen(table)) == []


def test_a_column_that_no_contract_can_spell_is_never_silently_absent() -> None:
    spaced = only(shop(), seen(column("order id")))
    assert spaced.severity == "warning"
    assert spaced.sql == 'ALTER TABLE "public"."orders" RENAME COLUMN "order id" TO "order_id";'
    assert 'TO "_1st";' in only(shop(), seen(column("1st"))).sql
    assert judge(shop(), seen(column("OrderId"))) == []
    key = replace(column("größe", nullable=False), key=("größe",))
    assert any("'größe' has a name that no contract can hold" in found.what for found in judge(shop(), seen(key)))


def test_columns_that_differ_by_their_case_only_are_refused_as_debezium_would() -> None:
    found = only(shop(), seen(column("Note")))
    assert (found.severity, found.sql) == (
        "error",
        'ALTER TABLE "public"."orders" RENAME COLUMN "Note" TO "Note_2";',
    )


def test_tables_that_kafka_or_debezium_would_take_for_one_are_refused() -> None:
    twins = {"a.b_c": replace(ORDERS, name="a.b_c"), "a_b.c": replace(ORDERS, name="a_b.c")}
    made = shop(config={"table.include.list": "a.b_c,a_b.c,tailrace.heartbeat"}, contracts={}, sinks={})
    found = judge(made, seen(tables={**seen().tables, **twins}, names=tuple(twins)))
    assert "a.b_c and a_b.c cannot both be captured." in [finding.what for finding in found]
    cased = only(shop(), seen(names=("public.orders", "audit.log", "Public.orders")))
    assert cased.what == "Public.orders and public.orders differ by their case only."
    assert cased.sql == 'ALTER TABLE "Public"."orders" RENAME TO "orders_2";'


def test_what_is_no_table_or_not_in_the_wal_is_refused() -> None:
    view = judge(shop(contracts={}, sinks={}), seen(tables={}, names=(), others={"public.orders": "a view"}))
    assert "public.orders is a view, which cannot be captured." in [finding.what for finding in view]
    dark = only(shop(), seen(replace(ORDERS, logged=False)))
    assert dark.sql == 'ALTER TABLE "public"."orders" SET LOGGED;'
    away = replace(
        parts("FULL", "FULL"), leaves=(Leaf("public.orders_0", "FULL"), Leaf("public.far", "FULL", foreign=True))
    )
    assert judge(shop(), seen(away))[0].sql == 'ALTER TABLE "public"."orders" DETACH PARTITION "public"."far";'
    leaf = only(shop(sinks=LAKE), seen(replace(ORDERS, root="public.all_orders")))
    assert leaf.what == "public.orders is a partition of public.all_orders."


def test_rows_that_the_capturing_role_may_not_see_are_an_error_with_the_sql() -> None:
    hidden = only(shop(), seen(replace(ORDERS, hidden=True), role="reader"))
    assert hidden.sql == 'ALTER ROLE "reader" BYPASSRLS;'
    barred = only(shop(), seen(replace(ORDERS, readable=False), role="reader"))
    assert 'GRANT SELECT ON "public"."orders" TO "reader";' in barred.sql
    assert only(shop(config={"database.user": "nobody"}), seen(role="me")).what == "There is no role nobody."


def test_a_publication_that_leaves_something_out_is_an_error_with_the_sql() -> None:
    cut = replace(PUBLISHED, filtered=("public.orders",))
    assert 'DROP TABLE "public"."orders";' in only(shop(), seen(publications={cut.name: cut})).sql
    deaf = replace(PUBLISHED, operations=frozenset({"insert", "update"}))
    found = only(shop(), seen(publications={deaf.name: deaf}))
    assert found.what == "The publication tailrace_shop does not publish delete, truncate."


def test_a_key_template_that_does_not_keep_its_fields_apart_is_named() -> None:
    for pk, severity in (("{buyer_id}{id}", "error"), ("{note}-{id}", "error"), ("{buyer_id}-{id}", "warning")):
        target = DynamoDBTable("shop", record="orders", pk=pk, sk="O")
        found = [each for each in judge(shop(sinks={"stores": (target,)}), seen()) if "apart" in each.what]
        assert [finding.severity for finding in found] == [severity]
    sound = DynamoDBTable("shop", record="orders", pk="{buyer_id}#{id}", sk="O#{placed_at}")
    assert judge(shop(sinks={"stores": (sound,)}), seen()) == []


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (("ORDER#{id}", "-"), ("REFUND#{id}", "-"), False),
        (("B#{buyer_id}", "ORDER#{id}"), ("B#{buyer_id}", "NOTE#{id}"), False),
        (("{id}", "-"), ("A#{id}", "-"), False),  # no field holds a #
        (("A{id}", "-"), ("A1{id}", "-"), True),  # A11 of the rows 11 and 1
        (("{note}-{id}", "-"), ("A-{id}", "-"), True),
        (("B#{buyer_id}", "{id}"), ("B#{buyer_id}", "TOTAL"), True),
        (("{id}x", "-"), ("{id}y", "-"), False),
    ],
)
def test_keys_of_two_records_in_one_table_that_may_be_the_same_text_are_named(
    one: tuple[str, str], other: tuple[str, str], *, meet: bool
) -> None:
    both = tuple(DynamoDBTable("shop", record="orders", pk=pk, sk=sk) for pk, sk in (one, other))
    found = [each.severity for each in judge(shop(sinks={"stores": both}), seen()) if "may write" in each.what]
    assert found == ["warning"] * meet


def test_two_tables_of_the_lake_that_share_a_place_are_refused() -> None:
    same = (LakeTable("b/c", record="orders", zone="a"), LakeTable("c", record="orders", zone="a/b"))
    assert "write to the same keys" in only(shop(sinks={"lake": same}), seen()).what
    inside = (LakeTable("b", record="orders", zone="a"), LakeTable("c", record="orders", zone="a/b"))
    assert only(shop(sinks={"lake": inside}), seen()).what == "The lake's table a/b/c lies inside the table a/b."


def test_a_raw_table_of_the_lake_has_a_place_of_its_own_and_asks_for_no_contract() -> None:
    raw = RawLakeTable("orders", table="public.orders")
    assert [each for each in judge(shop(sinks={"lake": (raw,)}), seen()) if each.severity == "error"] == []
    same = (raw, LakeTable("orders", record="orders", zone="raw"))
    assert "write to the same keys" in only(shop(sinks={"lake": same}), seen()).what
    inside = (raw, RawLakeTable("old", table="public.orders", zone="raw/orders"))
    assert "raw/orders/old lies inside the table raw/orders" in only(shop(sinks={"lake": inside}), seen()).what


def test_a_snapshot_in_chunks_asks_for_a_key_that_tells_rows_apart() -> None:
    assert ORDERS.distinct
    assert KEYLESS.distinct
    assert not replace(KEYLESS, uniques=()).distinct  # an outbox: chunks would skip rows of the same key


def test_a_generated_column_is_never_silently_absent() -> None:
    found = only(shop(), seen(column("doubled", generated=True)))
    assert (found.severity, found.what) == ("note", "public.orders: doubled is generated, and not sent.")
