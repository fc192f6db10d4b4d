"""Rows of an outbox become domain events; what cleans the table is nothing; what cannot be an event is parked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import settings, topics, version
from tailrace.conforming import ConformFunction
from tailrace.connector import HEARTBEAT
from tailrace.control import check
from tailrace.control.checks import outbox as outbox_checks
from tailrace.control.epochs import names
from tailrace.control.resources import changelog
from tailrace.control.resources import topics as topic_kind
from tailrace.errors import ProjectError
from tailrace.project import Project, _validate
from tailrace.settings import OutboxSettings
from tailrace.source.catalogue import Column, Table
from tailrace.stream.conform import Conformer, Output
from tailrace.stream.events import EventPlan
from tests.raw import column, message, payload
from tests.shop import CONFIG, PUBLISHED, SLOT, seen, shop

if TYPE_CHECKING:
    from collections.abc import Sequence

RAW = topics.raw("shop", "public.outbox")
OUTBOX = OutboxSettings(routes=["order", "customer"])
COLUMNS = [
    column("id", "string", semantic="io.debezium.data.Uuid", postgres="UUID", optional=False),
    column("aggregatetype", "string", postgres="TEXT"),
    column("aggregateid", "string", postgres="TEXT"),
    column("type", "string", postgres="TEXT"),
    column("payload", "string", semantic="io.debezium.data.Json", postgres="JSONB"),
]
UUID = "0b7cbbd2-8a5b-4a1c-9e54-0f6ad8b4a111"
TABLE = Table(
    name="public.outbox",
    columns=tuple(
        Column(name, kind, kind, nullable=name in ("type", "payload"), storage="x")
        for name, kind in [
            ("id", "uuid"),
            ("aggregatetype", "text"),
            ("aggregateid", "text"),
            ("type", "text"),
            ("payload", "jsonb"),
        ]
    ),
    key=("id",),
    identity="DEFAULT",
    toasted=True,
)


@dataclass
class Record:
    """A raw record of the outbox."""

    offset: int
    value: bytes | None
    key: bytes | None = b'{"aggregateid":"o-1"}'
    timestamp: int = 1_767_322_800_123
    headers: Sequence[tuple[str, bytes]] = ()


def row(**changes: Any) -> dict[str, Any]:
    made = {
        "id": UUID,
        "aggregatetype": "order",
        "aggregateid": "o-1",
        "type": "OrderPlaced",
        "payload": '{"total": 12.50}',
    }
    return {**made, **changes}


def give(*bodies: dict[str, Any] | None, columns: list[dict[str, Any]] = COLUMNS) -> tuple[list[Output], list[str]]:
    """Return the events and the reasons of the dead letters that these payloads become."""
    conformer = Conformer([EventPlan(RAW, "shop", OUTBOX)], epoch=3, worker="conform")
    records = [Record(at, None if body is None else message(body, columns)) for at, body in enumerate(bodies)]
    made = conformer.batch(RAW, 2, records)
    return made.outputs, [letter.reason for letter in made.letters]


@pytest.mark.parametrize("op", ["c", "r"])
def test_an_inserted_row_is_an_event_with_its_id_its_type_and_its_provenance(op: str) -> None:
    (event,), letters = give(payload(op, after=row()))
    assert letters == []
    assert (event.topic, event.partition) == ("shop.events.order", 2)
    assert (event.key, event.value) == (b"o-1", b'{"total": 12.50}')
    headers = dict(event.headers)
    assert (headers["id"], headers["type"]) == (UUID.encode(), b"OrderPlaced")
    assert headers["tailrace.version"] == b"%d" % version.pack(3, 0)
    assert (headers["tailrace.op"], headers["tailrace.origin"]) == (op.encode(), f"{RAW}/2/0".encode())


def test_each_route_has_its_topic_and_the_order_of_the_rows_stays() -> None:
    routes = ["order", "customer", "order"]
    events, letters = give(*(payload("c", after=row(aggregatetype=route)) for route in routes))
    assert letters == []
    assert [event.topic for event in events] == [f"shop.events.{route}" for route in routes]
    origins = [dict(event.headers)["tailrace.origin"] for event in events]
    assert origins == [f"{RAW}/2/{at}".encode() for at in range(3)]


@pytest.mark.parametrize("body", [payload("d", before=row()), payload("t"), None], ids=["delete", "truncate", "null"])
def test_what_cleans_the_table_is_no_event(body: dict[str, Any] | None) -> None:
    assert give(body) == ([], [])


def test_an_update_is_parked_and_the_events_beside_it_go_on() -> None:
    events, letters = give(payload("c", after=row()), payload("u", after=row()), payload("c", after=row()))
    assert len(events) == 2
    assert len(letters) == 1
    assert "was updated" in letters[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aggregatetype": "secret-route"}, "a route that is not declared"),
        ({"aggregatetype": None}, "NULL in aggregatetype"),
        ({"aggregateid": None}, "NULL in aggregateid"),
        ({"id": None}, "NULL in id"),
        ({"payload": 7}, "neither json nor text nor bytea"),
    ],
)
def test_a_row_that_cannot_be_an_event_is_parked_and_its_values_are_not_told(
    changes: dict[str, Any], reason: str
) -> None:
    events, letters = give(payload("c", after=row(**changes)))
    assert events == []
    assert len(letters) == 1
    assert reason in letters[0]
    assert "secret-route" not in letters[0]


@pytest.mark.parametrize("op", ["m", "x", ""])
def test_an_operation_that_nobody_knows_is_parked(op: str) -> None:
    events, letters = give(payload(op, after=row()))
    assert events == []
    assert len(letters) == 1


def test_a_row_without_one_of_the_columns_is_parked_and_the_column_named() -> None:
    lacking = row()
    del lacking["payload"]
    assert "no column payload" in give(payload("c", after=lacking))[1][0]


def test_the_payload_is_its_bytes_null_is_none_and_bytea_is_bytes() -> None:
    events, _ = give(payload("c", after=row(payload=None)), payload("c", after=row(payload='{"a":  1}')))
    assert [event.value for event in events] == [None, b'{"a":  1}']
    binary = [*COLUMNS[:-1], column("payload", "bytes", postgres="BYTEA")]
    ((event,), _) = give(payload("c", after=row(payload="AAEC")), columns=binary)
    assert event.value == b"\0\1\2"


def test_an_event_without_a_type_has_no_header_type_and_numbers_are_keys_too() -> None:
    numbered = [*COLUMNS[:2], column("aggregateid", "int64", postgres="INT8"), *COLUMNS[3:]]
    ((event,), _) = give(payload("c", after=row(type=None, aggregateid=42)), columns=numbered)
    assert "type" not in dict(event.headers)
    assert event.key == b"42"


def project(*, keyed: bool = True, routes: tuple[str, ...] = ("order", "customer"), **more: Any) -> Project:
    """Return the shop with an outbox."""
    raw = {"pipeline": {"name": "shop", "connector": "shop"}}
    tables = {"public.outbox": {"outbox": {"routes": list(routes), **more}}}
    config = {"table.include.list": f"public.orders,public.outbox,{CONFIG['table.include.list'].split(',', 1)[1]}"}
    keys = {"message.key.columns": "public.outbox:aggregateid"} if keyed else {}
    return shop(config={**config, **keys}, settings=settings.Settings.model_validate({**raw, "tables": tables}))


def findings(made: Project, table: Table = TABLE) -> list[str]:
    picture = seen()
    picture = replace(picture, tables={**picture.tables, table.name: table})
    return [f"{found.severity}: {found.what} {found.hint}" for found in outbox_checks.check(made, picture)]


def test_an_outbox_is_captured_and_becomes_events_and_no_record() -> None:
    made = project()
    assert made.tables == ("public.orders",)
    assert made.tables_of("conform") == ("public.orders", "public.outbox")
    with pytest.raises(ProjectError, match="No captured table becomes the record outbox"):
        made.table_of("outbox")
    wanted = {topic.name: topic for topic in topic_kind.declared(made)}
    assert {"shop.raw.public.outbox", "shop.events.order", "shop.events.customer"} <= set(wanted)
    assert "shop.conformed.outbox" not in wanted
    assert wanted["shop.events.order"].partitions == wanted["shop.raw.public.outbox"].partitions
    assert wanted["shop.events.order"].config == wanted["shop.raw.public.outbox"].config
    assert names(made) == [topics.raw("shop", name) for name in ("public.orders", "public.outbox", HEARTBEAT)] + [
        "shop.conformed.orders"
    ]
    picture = seen()
    assert changelog.declared(made, replace(picture, tables={TABLE.name: TABLE})) == []


def test_check_asks_for_no_contract_of_an_outbox_and_finds_nothing_wrong_with_a_right_one() -> None:
    picture = seen(publications={PUBLISHED.name: PUBLISHED}, slots={SLOT.name: SLOT})
    picture = replace(picture, tables={**picture.tables, TABLE.name: TABLE})
    said = [found for found in check.judge(project(), picture) if "outbox" in f"{found.what} {found.detail}"]
    assert [found.what for found in said if "schemas/" in f"{found.what} {found.detail}"] == []
    assert findings(project()) == []


def test_check_names_the_setting_that_keeps_the_order_of_an_aggregate() -> None:
    (found,) = findings(project(keyed=False))
    assert found.startswith("error")
    assert '"message.key.columns": "public.outbox:aggregateid"' in found


@pytest.mark.parametrize(
    ("setting", "columns"),
    [
        ("public.outbox:aggregateid", ("aggregateid",)),
        (r"public\.outbox:aggregateid;public.other:a,b", ("aggregateid",)),
        ("public.other:a; public.(.*)box:a, b", ("a", "b")),
        ("public.other:a", None),
        ("", None),
    ],
)
def test_the_setting_is_read_as_debezium_reads_it(setting: str, columns: tuple[str, ...] | None) -> None:
    assert outbox_checks.key_columns(setting, "public.outbox") == columns


def test_check_names_columns_that_are_missing_may_be_null_or_hold_no_payload() -> None:
    columns = [replace(entry, nullable=entry.name == "aggregateid") for entry in TABLE.columns if entry.name != "type"]
    columns = [replace(entry, type="int8") if entry.name == "payload" else entry for entry in columns]
    said = " ".join(findings(project(), replace(TABLE, columns=tuple(columns))))
    assert "error: The outbox public.outbox has no column type." in said
    assert "warning: The outbox public.outbox: aggregateid may be NULL." in said
    assert "error: The outbox public.outbox: payload is jsonb." in said


def test_a_route_that_is_declared_twice_is_refused() -> None:
    with pytest.raises(ProjectError, match="declares the route order twice"):
        _validate(project(routes=("order", "order")))


def test_a_conform_function_on_an_outbox_is_refused() -> None:
    function = ConformFunction("public.outbox", "outbox", dict)
    with pytest.raises(ProjectError, match=r"The outbox public\.outbox has a conform function"):
        _validate(replace(project(), processors={"conform": (function,)}))


def test_a_route_that_cannot_be_a_topic_and_an_outbox_without_routes_are_refused() -> None:
    for routes in ((), ("a b",)):
        with pytest.raises(ValueError, match="routes"):
            project(routes=routes)


def test_what_is_no_row_has_a_topic_of_its_own_so_that_the_connector_never_waits_for_one() -> None:
    plain = {topic.name for topic in topic_kind.declared(shop())}
    marked = {topic.name for topic in topic_kind.declared(shop(config={"provide.transaction.metadata": "true"}))}
    without = {topic.name for topic in topic_kind.declared(shop(config={"message.prefix.exclude.list": ".*"}))}
    assert marked - plain == {"shop.raw.transaction"}
    assert plain - without == {"shop.raw.message"}
