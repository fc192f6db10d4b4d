"""What a message does not say is never made up: NULL is no default, a bare key no row, no key no key."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace import contract
from tailrace.change import BEFORE, OP, TX
from tailrace.contract import Field
from tailrace.control.verify.expected import Unfit, fit, parsed_json
from tailrace.sink import dynamodb_values
from tailrace.source.envelope import EnvelopeReader
from tailrace.stream.conform import Conformed, Conformer, TablePlan
from tests.cluster import Record
from tests.raw import column, message, payload

JAVA = "io.debezium."
DOOR = contract.build(
    "door",
    {
        "type": "record", "name": "Door", "key": ["id"],
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "state", "type": ["string", "null"], "default": "open"},
            {"name": "count", "type": ["null", "int"], "default": None},
        ],
    },
    where="door",
)  # fmt: skip
ID = column("id", "int64", postgres="INT8", optional=False)
STATE = {**column("state", "string", postgres="TEXT"), "default": "open"}
COUNT = column("count", "int32", postgres="INT4")


def conformed(*records: Record) -> Conformed:
    plan = TablePlan("raw", "out", DOOR, 7, table="public.door")
    return Conformer([plan], epoch=1, worker="conform").batch("raw", 0, records)


def door(number: int | None, *, columns: list[dict[str, Any]], key: bytes | None = b'{"id":1}', **row: Any) -> Record:
    return Record(0, key, message(payload("c", after={"id": number, **row}), columns))


def values(made: Conformed) -> list[dict[str, Any]]:
    assert made.letters == []
    return [DOOR.decode(output.value or b"") for output in made.outputs]


def test_a_null_in_a_column_with_a_default_stays_null_and_only_a_column_that_is_gone_gets_it() -> None:
    null = door(1, columns=[ID, STATE, COUNT], state=None, count=None)
    gone = door(1, columns=[ID, COUNT], count=None)
    assert values(conformed(null)) == [{"id": 1, "state": None, "count": None}]
    assert values(conformed(gone)) == [{"id": 1, "state": "open", "count": None}]


def test_records_without_a_message_key_keep_the_key_of_their_row_and_never_share_one() -> None:
    columns = [ID, STATE, COUNT]
    made = conformed(*(door(number, columns=columns, key=None, state="shut", count=0) for number in (1, 2)))
    assert [output.key for output in made.outputs] == [b'{"id":1}', b'{"id":2}']


def test_what_has_no_key_at_all_is_parked() -> None:
    unkeyed = door(None, columns=[ID, STATE, COUNT], key=None, state="shut", count=0)
    deleted = Record(1, None, message(payload("d"), [ID, STATE, COUNT]))
    made = conformed(unkeyed, deleted, Record(2, None, None))
    assert (made.outputs, len(made.letters)) == ([], 3)


POINT = {"x": 0.0, "y": 0.0, "wkb": "AQEAAAAAAAAAAAAAAAAAAAAAAAAA", "srid": None}
# What 3.7.0.Final puts for a NOT NULL column into an old row that holds its key only, by the column's type (measured).
ZEROS: dict[str, tuple[dict[str, Any], Any]] = {
    "int": (column("x", "int32", postgres="INT4"), 0),
    "float": (column("x", "double", postgres="FLOAT8"), 0.0),
    "bool": (column("x", "boolean", postgres="BOOL"), False),
    "text": (column("x", "string", postgres="TEXT"), ""),
    "numeric": (column("x", "string", postgres="NUMERIC"), "0"),
    "numeric(9,2)": (column("x", "string", postgres="NUMERIC"), "0.00"),
    "bytea": (column("x", "bytes", postgres="BYTEA"), ""),
    "json": (column("x", "string", semantic=f"{JAVA}data.Json", postgres="JSONB"), ""),
    "enum": (column("x", "string", semantic=f"{JAVA}data.Enum", postgres="MOOD"), ""),
    "bit(11)": (column("x", "bytes", semantic=f"{JAVA}data.Bits", postgres="BIT"), ""),
    "point": (column("x", "struct", semantic=f"{JAVA}data.geometry.Point", postgres="POINT"), POINT),
    "line": (
        column("x", "struct", semantic=f"{JAVA}data.geometry.Line", postgres="LINE"), {"a": 0.0, "b": 1.0, "c": 0.0},
    ),
    "uuid": (column("x", "string", semantic=f"{JAVA}data.Uuid", postgres="UUID"), ""),
    "date": (column("x", "int32", semantic=f"{JAVA}time.Date", postgres="DATE"), 0),
    "time": (column("x", "int64", semantic=f"{JAVA}time.MicroTime", postgres="TIME"), 0),
    "timetz": (column("x", "string", semantic=f"{JAVA}time.ZonedTime", postgres="TIMETZ"), "00:00:00Z"),
    "timestamp": (column("x", "int64", semantic=f"{JAVA}time.MicroTimestamp", postgres="TIMESTAMP"), 0),
    "timestamptz": (
        column("x", "string", semantic=f"{JAVA}time.ZonedTimestamp", postgres="TIMESTAMPTZ"), "1970-01-01T00:00:00Z",
    ),
    "interval": (column("x", "string", semantic=f"{JAVA}time.Interval", postgres="INTERVAL"), "P0Y0M0DT0H0M0S"),
    "text[]": ({**column("x", "array", postgres="_TEXT"), "items": {"type": "string"}}, []),
    "default": ({**column("x", "string", postgres="TEXT"), "default": "open"}, "open"),
    "nullable": (column("x", "string", postgres="TEXT"), None),
}  # fmt: skip


@pytest.mark.parametrize("type_", ZEROS)
def test_an_old_row_that_holds_the_key_only_is_never_taken_for_the_row(type_: str) -> None:
    described, zero = ZEROS[type_]
    event = EnvelopeReader({}, ("id",)).read(message(payload("d", before={"id": 1, "x": zero}), [ID, described]))
    assert (event.whole_before, event.before) == (False, {"id": 1})


def test_a_delete_under_the_default_identity_carries_no_record_before() -> None:
    before = {"id": 1, "state": "open", "count": None, "token": ""}
    token = column("token", "string", semantic=f"{JAVA}data.Uuid", postgres="UUID", optional=False)
    made = conformed(Record(0, b'{"id":1}', message(payload("d", before=before), [ID, STATE, COUNT, token])))
    (headers,) = [dict(output.headers) for output in made.outputs]
    assert (headers[OP], BEFORE in headers, made.letters) == (b"d", False, [])


def test_the_transaction_of_a_record_is_its_number_and_not_the_name_that_differs_in_every_record() -> None:
    body = payload("c", after={"id": 1, "state": None, "count": 1}, txId=757)
    told = {"id": "757:35865984", "total_order": 1, "data_collection_order": 1}
    made = conformed(Record(0, b'{"id":1}', message({**body, "transaction": told}, [ID, STATE, COUNT])))
    assert dict(made.outputs[0].headers)[TX] == b"757"


def test_bits_arrive_in_the_order_in_which_postgres_shows_them() -> None:
    described = column("x", "bytes", semantic=f"{JAVA}data.Bits", postgres="BIT")
    described["parameters"]["length"] = "11"
    after = {"id": 1, "x": "AwQ="}  # 0x03 0x04: the lowest byte first
    event = EnvelopeReader({}, ("id",)).read(message(payload("c", after=after), [ID, described]))
    assert event.after == {"id": 1, "x": "10000000011"}


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"c": null, "d": 0, "c": 2}}]'])
def test_json_with_a_name_twice_is_refused_where_one_of_its_values_would_be_lost(text: str) -> None:
    with pytest.raises(dynamodb_values.Unfit, match="a name twice"):
        dynamodb_values.document(text)
    with pytest.raises(Unfit, match="x is JSON with a name twice"):
        parsed_json("x", text)


def test_a_name_that_is_in_several_objects_is_not_there_twice() -> None:
    text = '{"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]}'
    listed = {"L": [{"M": {"a": {"N": "2"}}}, {"M": {"a": {"N": "3"}}}]}
    assert dynamodb_values.document(text) == {"M": {"a": {"M": {"a": {"N": "1"}}}, "b": listed}}
    assert parsed_json("x", text) == {"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]}


def test_verify_names_an_array_of_several_dimensions_though_the_store_holds_nulls_in_its_place() -> None:
    numbers = Field("x", "array", nullable=True, item=Field("x", "int", nullable=True))
    assert fit(numbers, [1, None]) == [1, None]
    with pytest.raises(Unfit, match="x is list where int is expected"):
        fit(numbers, [[1, 2], [3, None]])
