"""A database with every trap that `tailrace check` can see: what makes it, and the project that walks into it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tailrace.control import init
from tailrace.control.schema import pretty, schema_of
from tailrace.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailrace.connector import Connector
    from tailrace.source.catalogue import Catalogue

# By name: the columns and what follows them, and statements behind that.
TABLES: dict[str, tuple[str, ...]] = {
    "keyless": ("(x int)",),
    "silent": ("(id int PRIMARY KEY)", "ALTER TABLE silent REPLICA IDENTITY NOTHING"),
    "sideways": (
        "(id int PRIMARY KEY, other int NOT NULL UNIQUE)",
        "ALTER TABLE sideways REPLICA IDENTITY USING INDEX sideways_other_key",
    ),
    "postponed": ("(id int PRIMARY KEY DEFERRABLE)",),
    "required": ("(id int PRIMARY KEY, marks bool[] NOT NULL)",),
    "lists": ("(id int PRIMARY KEY, marks float8[], sums numeric[])",),
    "spans": ("(id int PRIMARY KEY, span interval)",),
    "owners": ("(id int PRIMARY KEY)",),
    "child": ("(id int PRIMARY KEY, owner int NOT NULL REFERENCES owners)",),
    "shapes": ("(id int PRIMARY KEY, outline polygon)",),
    "spelled": ('(id int PRIMARY KEY, "order id" text, "1st" text)',),
    "cased": ('(id int PRIMARY KEY, note text, "Note" text)',),
    "orders": ("(id int PRIMARY KEY)", 'CREATE TABLE "Orders" (id int PRIMARY KEY)'),
    "parts": (
        "(id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20)",
        "ALTER TABLE parts_2 REPLICA IDENTITY NOTHING",
    ),
    "mixed": (
        "(id int PRIMARY KEY, marks bool[]) PARTITION BY RANGE (id)",
        *(f"CREATE TABLE mixed_{n} PARTITION OF mixed FOR VALUES FROM ({n}) TO ({n + 1})" for n in range(3)),
        "ALTER TABLE mixed_0 REPLICA IDENTITY FULL", "ALTER TABLE mixed_1 REPLICA IDENTITY FULL",
    ),
    "spread": (
        "(id int) PARTITION BY RANGE (id)",
        "CREATE FOREIGN DATA WRAPPER nothing", "CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing",
        "CREATE FOREIGN TABLE spread_far PARTITION OF spread FOR VALUES FROM (0) TO (10) SERVER nowhere",
    ),
    "computed": ("(id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)",),
    "chosen_late": ("(a int NOT NULL UNIQUE DEFERRABLE)",),
    "chosen_null": ("(a int UNIQUE)", "ALTER TABLE chosen_null REPLICA IDENTITY FULL"),
    "chosen_part": ("(a int NOT NULL)", "CREATE UNIQUE INDEX ON chosen_part (a) WHERE a > 0"),
    "hiding": ("(id int PRIMARY KEY, seen text, secret text)",),
    "guarded": ("(id int PRIMARY KEY)", "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY"),
    "numbers": ("(id numeric PRIMARY KEY)",),
    "months": ("(id interval PRIMARY KEY)",),
    "clocks": ("(id timetz PRIMARY KEY)",),
}  # fmt: skip
OTHERS = (
    "CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY)",
    "CREATE VIEW shown AS SELECT * FROM owners",
    "CREATE FOREIGN TABLE far (x int) SERVER nowhere",
    "CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int PRIMARY KEY)",
)  # fmt: skip
CAPTURED = [*(f"public.{name}" for name in (*TABLES, "fleeting", "shown", "far", "parts_1")), "sales.orders"]
CONFIG = {
    "table.include.list": ",".join(CAPTURED),  # without the heartbeat
    "message.key.columns": "public.chosen_late:a;public.chosen_null:a;public.chosen_part:a",
    "column.exclude.list": r"public\.hiding\.(id|secret)",
    "interval.handling.mode": "numeric",
}
# What check has to say; where there is SQL, its beginning.
NAMED: tuple[tuple[str, str], ...] = (
    ("The table public.keyless has no primary key.", 'ALTER TABLE "public"."keyless" ADD PRIMARY KEY'),
    ("The table public.silent has REPLICA IDENTITY NOTHING.", 'ALTER TABLE "public"."silent" REPLICA IDENTITY DEFAULT'),
    ("The table public.sideways has REPLICA IDENTITY INDEX (other).", 'ALTER TABLE "public"."sideways" REPLICA'),
    ("The table public.postponed has REPLICA IDENTITY DEFAULT.", 'ALTER TABLE "public"."postponed" REPLICA IDENTITY F'),
    ("public.required: marks would stop the connector.", 'ALTER TABLE "public"."required" REPLICA IDENTITY FULL'),
    ("public.lists: marks and sums would turn NULL by themselves.", 'ALTER TABLE "public"."lists" REPLICA IDENTITY F'),
    ("public.spans: span is an interval, which the connector sends as a number.", ""),
    ("public.child: the foreign key child_owner_fkey has no index.", "CREATE INDEX CONCURRENTLY"),
    ("sinks/dynamodb.py: child: the key is made of owner, which is not", 'ALTER TABLE "public"."child" REPLICA IDENTI'),
    ("public.shapes: outline is polygon, which a contract cannot hold.", ""),
    ("public.spelled: 'order id' is a name that no contract can hold.", 'ALTER TABLE "public"."spelled" RENAME COLUMN'),
    ("public.spelled: '1st' is a name that no contract can hold.", 'ALTER TABLE "public"."spelled" RENAME COLUMN "1st'),
    ("public.cased: the columns Note and note differ by their case only.", 'ALTER TABLE "public"."cased" RENAME'),
    ("public.Orders and public.orders differ by their case only.", 'ALTER TABLE "public"."Orders" RENAME TO'),
    ("public.orders and sales.orders both become the record orders.", ""),
    ("public.parts: the partitions public.parts_2 (NOTHING) do not name", 'ALTER TABLE "public"."parts_2" REPLICA IDE'),
    ("public.mixed: the partitions public.mixed_2 (DEFAULT) differ", 'ALTER TABLE "public"."mixed_2" REPLICA'),
    ("public.mixed: marks would turn NULL by themselves.", 'ALTER TABLE "public"."mixed_2" REPLICA IDENTITY FULL;'),
    ("public.mixed: a new partition begins with REPLICA IDENTITY DEFAULT.", "ALTER TABLE THE_NEW_PARTITION"),
    ("public.spread has foreign tables as partitions: public.spread_far.", 'ALTER TABLE "public"."spread" DETACH'),
    ("public.computed: twice is generated, and not sent.", ""),
    ("message.key.columns: public.chosen_late: a does not tell", 'CREATE UNIQUE INDEX ON "public"."chosen_late" ("a")'),
    ("The table public.chosen_late has REPLICA IDENTITY DEFAULT.", 'ALTER TABLE "public"."chosen_late" REPLICA IDENTI'),
    ("message.key.columns: public.chosen_null: a does not tell", 'ALTER TABLE "public"."chosen_null" ALTER COLUMN "a"'),
    ("message.key.columns: public.chosen_part: a does not tell", 'CREATE UNIQUE INDEX ON "public"."chosen_part" ("a")'),
    ("schemas/hiding.avsc: id is no column of public.hiding.", ""),
    ("schemas/hiding.avsc: secret is no column of public.hiding.", ""),
    ("public.guarded: row level security hides rows from the role", "ALTER ROLE"),
    ("may not read public.guarded.", "GRANT USAGE ON SCHEMA"),
    ("has no right to replicate.", "ALTER ROLE"),
    ("public.numbers: the key id is numeric", 'ALTER TABLE "public"."numbers" ALTER COLUMN "id" TYPE numeric(38,10)'),
    ("public.months: the key id is interval", 'ALTER TABLE "public"."months" ALTER COLUMN "id" TYPE text'),
    ("public.clocks: id is time with time zone, which cannot be a key.", 'ALTER TABLE "public"."clocks" ALTER COLUMN'),
    ("public.fleeting cannot be captured: unlogged tables", 'ALTER TABLE "public"."fleeting" SET LOGGED'),
    ("public.shown is a view, which cannot be captured.", ""),
    ("public.far is a foreign table, which cannot be captured.", ""),
    ("public.parts_1 is a partition of public.parts.", ""),
    ("table.include.list lacks tailrace.heartbeat.", ""),
    ("is wider than table.include.list.", "DROP PUBLICATION"),
    ("exists before the connector has streamed.", "SELECT pg_drop_replication_slot"),
)  # fmt: skip


def statements(name: str) -> Iterator[str]:
    """Yield what makes the database of this name what it is, its publication, slot and role included."""
    yield f"CREATE ROLE reader_{name} LOGIN"
    for table, (columns, *after) in TABLES.items():
        yield f"CREATE TABLE {table} {columns}"
        yield from after
    yield from OTHERS
    yield f"CREATE PUBLICATION tailrace_{name} FOR ALL TABLES"
    yield f"SELECT pg_create_logical_replication_slot('tailrace_{name}', 'pgoutput')"


def project(folder: Path, name: str) -> None:
    """Write the project, all but its contracts."""
    init.lay_out(folder, init.wanted(folder, name, None, CAPTURED))
    for unused in ("sinks/lake", "sinks/search", "processors/conform"):
        (folder / f"{unused}.py").unlink()
    declared = "child = DynamoDBTable('child', record='child', pk='OWNER#{owner}', sk='CHILD#{id}')"
    (folder / "sinks" / "dynamodb.py").write_text(f"from tailrace import DynamoDBTable\n{declared}\n")
    connector = folder / "connectors" / f"{name}.json"
    config = {**json.loads(connector.read_text()), **CONFIG, "database.user": f"reader_{name}"}
    connector.write_text(json.dumps(config))


def contracts(folder: Path, connector: Connector, seen: Catalogue) -> None:
    """Write the contract of every table that can have one; that of hidden columns as if they were not."""
    for table in seen.tables.values():
        record = table.name.split(".", 1)[1]
        try:
            schema: dict[str, Any] = schema_of("traps", connector, record, table)[0]
        except ProjectError:
            first = table.columns[0].name
            schema = {"type": "record", "name": record, "key": [first], "fields": [{"name": first, "type": "int"}]}
        if record == "hiding":
            schema["fields"] += [{"name": "secret", "type": ["null", "string"]}]
        (folder / "schemas" / f"{record}.avsc").write_text(pretty(schema))
