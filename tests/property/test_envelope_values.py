"""What goes into an envelope comes out typed and exact, for every type the module names."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.errors import Rejected
from tailrace.source.envelope import EnvelopeReader, split
from tailrace.source.unchanged import DEFAULT as PLACEHOLDER
from tailrace.source.unchanged import Placeholder, certain, fresh
from tests.raw import column, connect_schema, message, payload

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - timestamp without time zone
LOCAL = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))  # noqa: DTZ001 - same
JAVA = "io.debezium."


def micros(value: datetime) -> int:
    return (value - EPOCH) // timedelta(microseconds=1)


def of_day(value: time) -> int:
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def read(value: Any, described: dict[str, Any]) -> Any:
    body = payload("c", after={"id": 1, "x": value})
    reader = EnvelopeReader({}, ("id",))
    raw = message(body, [column("id", "int64", optional=False), described])
    events = [reader.read(raw), reader.read(raw)]  # the second goes the short way
    assert events[0] == events[1] or str(events[0]) == str(events[1])
    assert events[1].after is not None
    return events[1].after["x"]


@given(st.decimals(allow_nan=False))
def test_a_numeric_keeps_every_digit(value: Decimal) -> None:
    assert str(read(str(value), column("x", "string", postgres="NUMERIC"))) == str(value)


@pytest.mark.parametrize(
    ("text", "value"), [("NAN", "NaN"), ("POSITIVE_INFINITY", "Infinity"), ("NEGATIVE_INFINITY", "-Infinity")]
)
def test_a_numeric_that_is_not_a_number_stays_so(text: str, value: str) -> None:
    assert str(read(text, column("x", "string", postgres="numeric"))) == value


def array_of(kind: str, postgres: str, semantic: str = "") -> dict[str, Any]:
    items = {"type": kind, "optional": True, **({"name": JAVA + semantic} if semantic else {})}
    return {**column("x", "array", postgres=postgres), "items": items}


def test_a_numeric_inside_an_array_is_a_number() -> None:
    assert read(["1.50", None], array_of("string", "_NUMERIC")) == [Decimal("1.50"), None]


@pytest.mark.parametrize(
    ("value", "described"),
    [
        (["[Ljava.lang.String;@2ac273d3"], array_of("string", "_TEXT")),
        ([-12218860800000000], array_of("int64", "_TIMESTAMP", "time.MicroTimestamp")),
        ([-63517993200000000], array_of("int64", "_TIMESTAMP", "time.MicroTimestamp")),
    ],
)
def test_what_arrives_wrong_inside_an_array_is_refused(value: Any, described: dict[str, Any]) -> None:
    with pytest.raises(Rejected, match="column x"):
        read(value, described)


@given(st.integers(-(10**40), 10**40), st.integers(-6, 30))
def test_a_connect_decimal_keeps_its_digits_and_scale(unscaled: int, scale: int) -> None:
    text = base64.b64encode(unscaled.to_bytes(20, "big", signed=True)).decode()
    described = column("x", "bytes", semantic="org.apache.kafka.connect.data.Decimal")
    described["parameters"] = {"scale": str(scale)}
    sign, digits, exponent = read(text, described).as_tuple()
    assert (int("".join(map(str, digits))) * (-1) ** sign, exponent) == (unscaled, -scale)
    variable = column("x", "struct", semantic=f"{JAVA}data.VariableScaleDecimal")
    assert read({"scale": scale, "value": text}, variable).as_tuple() == (sign, digits, exponent)


@given(st.dates())
def test_a_date_is_its_date(value: date) -> None:
    days = value.toordinal() - date(1970, 1, 1).toordinal()
    assert read(days, column("x", "int32", semantic=f"{JAVA}time.Date")) == value


@given(LOCAL)
def test_a_timestamp_is_exact_in_every_unit(value: datetime) -> None:
    assert read(micros(value), column("x", "int64", semantic=f"{JAVA}time.MicroTimestamp")) == value
    if 1678 < value.year < 2262:  # what 64 bits of nanoseconds reach
        assert read(micros(value) * 1000, column("x", "int64", semantic=f"{JAVA}time.NanoTimestamp")) == value
    cut = value.replace(microsecond=value.microsecond // 1000 * 1000)
    assert read(micros(cut) // 1000, column("x", "int64", semantic=f"{JAVA}time.Timestamp")) == cut


@given(st.times())
def test_a_time_is_exact_in_every_unit(value: time) -> None:
    assert read(of_day(value), column("x", "int64", semantic=f"{JAVA}time.MicroTime")) == value
    assert read(of_day(value) * 1000, column("x", "int64", semantic=f"{JAVA}time.NanoTime")) == value
    cut = value.replace(microsecond=value.microsecond // 1000 * 1000)
    assert read(of_day(cut) // 1000, column("x", "int32", semantic=f"{JAVA}time.Time")) == cut


@given(LOCAL)
def test_a_timestamptz_is_utc(value: datetime) -> None:
    text = value.isoformat() + "Z"
    assert read(text, column("x", "string", semantic=f"{JAVA}time.ZonedTimestamp")) == value.replace(tzinfo=UTC)


@given(st.uuids(), st.text(st.characters(exclude_categories=["Cs"])), st.binary(), st.floats(allow_nan=False))
def test_uuid_text_bytes_and_float_come_back(uuid: UUID, text: str, data: bytes, number: float) -> None:
    assert read(str(uuid), column("x", "string", semantic=f"{JAVA}data.Uuid")) == uuid
    assert read(text, column("x", "string")) == text
    assert read(text, column("x", "string", semantic=f"{JAVA}data.Json")) == text
    assert read(base64.b64encode(data).decode(), column("x", "bytes")) == data
    written = number if abs(number) < float("inf") else str(number).replace("inf", "Infinity")
    assert read(written, column("x", "double")) == number


@given(st.lists(st.none() | st.dates()))
def test_an_array_is_converted_element_by_element(values: list[date | None]) -> None:
    days = [None if value is None else value.toordinal() - date(1970, 1, 1).toordinal() for value in values]
    listed = {**column("x", "array"), "items": {"type": "int32", "name": f"{JAVA}time.Date"}}
    assert read(days, listed) == values


@pytest.mark.parametrize(
    ("kind", "semantic", "value"),
    [
        ("string", "time.ZonedTimestamp", "2026-01-02T03:04:05.1234567Z"),
        ("int64", "time.MicroTime", 86_400_000_001),
        ("string", "time.Interval", "1 day"),
        ("int32", "time.Date", 2147483647),
        ("int64", "time.MicroTimestamp", -9223372036853775810),
        ("int64", "time.NanoTimestamp", 1),
        ("int64", "time.NanoTimestamp", 10**20),
        ("int64", "time.MicroTimestamp", 1.5),
        ("string", "data.Uuid", "no uuid"),
    ],
)
def test_what_python_cannot_hold_exactly_is_refused(kind: str, semantic: str, value: Any) -> None:
    with pytest.raises(Rejected, match="column x"):
        read(value, column("x", kind, semantic=JAVA + semantic))


@pytest.mark.parametrize(
    ("kind", "semantic", "value", "text"),
    [
        ("string", "time.ZonedTimestamp", "-infinity", "-infinity"),
        ("string", "time.ZonedTimestamp", "+12026-01-02T03:04:05.100000Z", "12026-01-02 03:04:05.1+00"),
        ("string", "time.ZonedTimestamp", "-0043-03-15T12:00:00Z", "0044-03-15 12:00:00+00 BC"),
        ("string", "time.ZonedTimestamp", "0000-12-31T12:00:00Z", "0001-12-31 12:00:00+00 BC"),
        ("int64", "time.MicroTimestamp", 2**63 - 1, "infinity"),
        ("int64", "time.MicroTimestamp", -(2**63), "-infinity"),
        ("int64", "time.Timestamp", 9223372036825200000, "infinity"),
        ("int64", "time.Timestamp", -9223372036832400000, "-infinity"),
        ("int64", "time.MicroTimestamp", -62135596800000001, "0001-12-31 23:59:59.999999 BC"),
        ("int64", "time.MicroTime", 86_400_000_000, "24:00:00"),
        ("int32", "time.Date", 2146033979, "infinity"),
        ("int32", "time.Date", -2147472691, "-infinity"),
        ("int32", "time.Date", -622191234, "infinity"),
        ("int32", "time.Date", -625821272, "-infinity"),
        ("int32", "time.Date", -2440550, "4713-01-01 BC"),
        ("int32", "time.Date", 2145042905, "5874897-12-31"),
        ("int32", "time.Date", 2932897, "10000-01-01"),
        ("string", "time.Interval", "P1Y-2M0DT4H0M-0.500000S", "P1Y-2MT4H-0.5S"),
        ("string", "time.Interval", "P0Y0M0DT0H0M0S", "PT0S"),
        ("string", "time.ZonedTime", "02:05:06.500Z", "02:05:06.5+00"),
        ("string", "time.ZonedTime", "24:00Z", "24:00:00+00"),
    ],
)
def test_what_python_cannot_hold_is_the_text_of_postgres(kind: str, semantic: str, value: Any, text: str) -> None:
    assert read(value, column("x", kind, semantic=JAVA + semantic)) == text


def test_an_hstore_is_json_with_its_keys_in_the_order_of_jsonb() -> None:
    described = column("x", "string", semantic=f"{JAVA}data.Json", postgres="HSTORE")
    assert read('{"bb":"1","é":null,"a":"\\u0001"}', described) == '{"a": "\\u0001", "bb": "1", "é": null}'


OURS = fresh("k3JbT0f9xW2mQ7aZ")


def listed(items: str, semantic: str = "") -> dict[str, Any]:
    return {**column("x", "array"), "items": {"type": items, **({"name": semantic} if semantic else {})}}


def shapes(data: bytes, uuid: str) -> list[tuple[dict[str, Any], Any]]:
    """Return what stands for an unchanged value in each type of column, as Debezium 3.6 and 3.7 write it."""
    text, coded = data.decode(), base64.b64encode(data).decode()
    hstore = json.dumps({text: text})
    return [
        (column("x", "string"), text), (column("x", "string", postgres="NUMERIC"), text),
        (column("x", "string", semantic=f"{JAVA}data.Json"), text), (column("x", "bytes"), coded),
        (column("x", "string", semantic=f"{JAVA}data.Json", postgres="HSTORE"), hstore),
        (column("x", "string", postgres="HSTORE"), hstore.replace(": ", ":")), (column("x", "map"), {text: text}),
        (listed("string"), [text]), (listed("bytes"), [coded]), (listed("int32"), list(data)),
        (listed("int64"), list(data)), (listed("int32", f"{JAVA}time.Date"), list(data)),
        (listed("string", f"{JAVA}data.Uuid"), [uuid]),
    ]  # fmt: skip


def updated(described: dict[str, Any], value: Any, setting: str, *, op: str = "u", before: Any = None) -> Any:
    reader = EnvelopeReader({}, ("id",), Placeholder(setting))
    columns = [column("id", "int64", optional=False), described]
    event = reader.read(message(payload(op, before=before, after={"id": 1, "x": value}), columns))
    assert event.after is not None
    return event.after["x"]


@pytest.mark.parametrize(
    ("setting", "data", "uuid"),
    [
        (PLACEHOLDER, PLACEHOLDER.encode(), "b68a35a7-17ad-35b3-af2a-ae46edb4545a"),
        (OURS, b"\0k3JbT0f9xW2mQ7aZ", "SELF"),
    ],
)
def test_an_unchanged_toast_value_is_refused_in_every_shape(setting: str, data: bytes, uuid: str) -> None:
    known = str(UUID(bytes=hashlib.md5(data).digest(), version=3)) if uuid == "SELF" else uuid
    for described, value in shapes(data, known):
        with pytest.raises(Rejected, match="TOAST") as caught:
            updated(described, value, setting)
        assert caught.value.stage == "conform"


def test_a_value_that_equals_a_stand_in_survives_where_it_cannot_be_one() -> None:
    shape, text, uuid = column("x", "string"), PLACEHOLDER, "b68a35a7-17ad-35b3-af2a-ae46edb4545a"
    assert updated(shape, text, OURS) == text
    for op in "cr":
        assert updated(shape, text, PLACEHOLDER, op=op) == text
    assert updated(shape, text, PLACEHOLDER, before={"id": 1, "x": "old"}) == text
    assert updated(column("x", "string", semantic=f"{JAVA}data.Uuid"), uuid, PLACEHOLDER) == UUID(uuid)
    assert updated(column("x", "string", semantic=f"{JAVA}data.Enum"), text, PLACEHOLDER) == text
    assert updated(shape, json.dumps([text]), PLACEHOLDER) == json.dumps([text])


def test_only_a_placeholder_that_no_text_of_postgres_can_equal_is_certain() -> None:
    assert certain(OURS)
    for setting in (PLACEHOLDER, "hex:5f5f", "hex:zz", "hex:00" + b"short".hex(), "hex:ff00"):
        assert not certain(setting)


def test_text_that_only_mentions_the_placeholder_is_text() -> None:
    assert updated(column("x", "string"), f"see {PLACEHOLDER}", PLACEHOLDER) == f"see {PLACEHOLDER}"


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_rejection(value: bytes) -> None:
    with pytest.raises(Rejected):
        EnvelopeReader({}, ("id",)).read(value)


def test_a_payload_key_inside_the_schema_does_not_split_it() -> None:
    schema = connect_schema([{**column("id", "int64"), "parameters": {"a": "b", "payload": "c"}}])
    whole = json.dumps({"schema": schema, "payload": {"payload": 1}}, separators=(",", ":")).encode()
    assert whole[len(split(whole, schema)) :] == b'{"payload":1}}'


def test_an_old_image_that_holds_only_the_key_is_not_whole() -> None:
    columns = [column("id", "int64"), {**column("state", "string"), "default": "open"}, column("at", "string")]
    reader = EnvelopeReader({}, ("id",))
    bare = reader.read(message(payload("d", before={"id": 1, "state": "open", "at": "1970-01-01T00:00:00Z"}), columns))
    whole = reader.read(message(payload("d", before={"id": 1, "state": "shut", "at": None}), columns))
    assert (bare.whole_before, whole.whole_before) == (False, True)
