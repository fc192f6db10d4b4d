"""A small project and the picture of its database as plain values, for tests that ask no server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailrace import contract, settings
from tailrace.connector import HEARTBEAT, SIGNAL, Connector
from tailrace.control.checks.settings import RULES
from tailrace.project import Project
from tailrace.source import heartbeat, unchanged
from tailrace.source.catalogue import Catalogue, Column, Publication, Slot, Table
from tailrace.targets import DynamoDBTable, LakeTable, SearchIndex

if TYPE_CHECKING:
    from collections.abc import Iterable

ORDERS = Table(
    name="public.orders",
    columns=(
        Column("id", "int8", "bigint", nullable=False),
        Column("buyer_id", "int8", "bigint", nullable=False),
        Column("total", "numeric", "numeric(14,2)", modifier=(14 << 16 | 2) + 4, nullable=False, storage="m"),
        Column("note", "text", "text", storage="x"),
        Column("paid", "bool", "boolean", nullable=False),
        Column("placed_at", "timestamptz", "timestamp with time zone", nullable=False),
    ),
    key=("id",),
    identity="FULL",
    toasted=True,
)
BEAT = Table(
    heartbeat.TABLE, tuple(Column(name, "text", "text") for name in heartbeat.COLUMNS), key=("id",), toasted=True
)
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2}
FIELDS: list[dict[str, Any]] = [
    {"name": "id", "type": "long"},
    {"name": "buyer_id", "type": "long"},
    {"name": "total", "type": DECIMAL},
    {"name": "note", "type": ["null", "string"], "default": None},
    {"name": "paid", "type": "boolean"},
    {"name": "placed_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
]
CONFIG = {
    **{rule.key: rule.value for rule in RULES},
    unchanged.SETTING: unchanged.fresh("k3JbT0f9xW2mQ7aZ"),
    "database.dbname": "shop",
    "database.password": "${env:PASSWORD}",
    "topic.prefix": "shop.raw",
    "slot.name": "tailrace_shop",
    "publication.name": "tailrace_shop",
    "table.include.list": f"public.orders,{HEARTBEAT},{SIGNAL}",
    "notification.sink.topic.name": "shop.notifications",
    "heartbeat.interval.ms": "5000",
    "heartbeat.action.query": heartbeat.ACTION,
}
SEEN = Catalogue(
    database="shop",
    server_version=180004,
    system_identifier="7",
    encoding="UTF8",
    settings={"wal_level": "logical", "max_slot_wal_keep_size": "1024", "max_replication_slots": "8"},
    replication_role=True,
    names=("public.orders", HEARTBEAT, SIGNAL),
    tables={"public.orders": ORDERS, HEARTBEAT: BEAT},
    publications={},
    slots={},
)
PUBLISHED = Publication(
    name="tailrace_shop",
    all_tables=False,
    schemas=(),
    operations=frozenset({"insert", "update", "delete", "truncate"}),
    via_root=True,
    tables=("public.orders", HEARTBEAT, SIGNAL),
)
SLOT = Slot("tailrace_shop", "pgoutput", "shop", active=True, wal_status="reserved", retained_bytes=0)
SINKS: tuple[Any, ...] = (
    DynamoDBTable("shop", record="orders", pk="BUYER#{buyer_id}", sk="ORDER#{id}"),
    LakeTable("orders", record="orders"),
    SearchIndex("orders", record="orders", text=("note",)),
)


def avsc(fields: Iterable[dict[str, Any]] = FIELDS, key: tuple[str, ...] = ("id",)) -> contract.Contract:
    schema = {"type": "record", "name": "Orders", "key": list(key), "fields": [dict(field) for field in fields]}
    return contract.build("orders", schema, where="orders.avsc")


def shop(*, config: dict[str, str] | None = None, orders: contract.Contract | None = None, **changes: Any) -> Project:
    """Return the project, with these settings of the connector and this contract."""
    made = Project(
        folder=Path(),
        settings=settings.Settings.model_validate({"pipeline": {"name": "shop", "connector": "shop"}}),
        connector=Connector("shop", {**CONFIG, **(config or {})}),
        contracts={"orders": orders or avsc()},
        processors={"conform": ()},
        sinks={"stores": SINKS},
    )
    return replace(made, **changes)


def seen(table: Table = ORDERS, **changes: Any) -> Catalogue:
    """Return the picture of the database, with this table in it."""
    return replace(SEEN, **{"tables": {table.name: table, HEARTBEAT: BEAT}, **changes})


def column(name: str, **changes: Any) -> Table:
    """Return the table of orders with one column changed, or added."""
    found = ORDERS.by_name.get(name, Column(name, "text", "text"))
    others = [replace(found, **changes) if entry.name == name else entry for entry in ORDERS.columns]
    return replace(ORDERS, columns=(*others, *([] if name in ORDERS.by_name else [replace(found, **changes)])))
