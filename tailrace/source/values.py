"""Debezium's column values as Python values, one converter per semantic type (TRAPS: a value is exact or refused).

``converter`` takes a column's Connect schema, ``of_kind`` a contract's kind where messages carry no schema. Both return
None where JSON already gives the Python value. NULL never reaches a converter. A date or time that Python cannot hold
(infinity, BC, year 10000, 24:00:00) becomes its Postgres text, which a contract takes as string only; what is exact in
no form (nanoseconds that are no whole microsecond) raises ValueError. Text that has several spellings is given the one
that Postgres would choose: intervals, hstore as jsonb writes it. What is not here stays what JSON gives.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tailrace.source import moments, shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Convert = Callable[[Any], Any]

SOURCE_TYPE = "__debezium.source.column.type"
NUMERIC = frozenset({"NUMERIC", "DECIMAL", "MONEY"})
_DAY_ZERO = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - timestamp without time zone is naive by nature
_DAY_US = 86_400_000_000
_REFORM = datetime(1582, 10, 25)  # noqa: DTZ001 - same; ten days later, for the days that the reform left out
_TIMESTAMPS = {"io.debezium.time.MicroTimestamp", "io.debezium.time.Timestamp"}
_JAVA_ARRAY = re.compile(r"\[Ljava\.lang\.\w+;@[0-9a-f]+")
_SPECIAL = {
    "NAN": Decimal("NaN"), "POSITIVE_INFINITY": Decimal("Infinity"), "NEGATIVE_INFINITY": Decimal("-Infinity"),
}  # fmt: skip
_LONGEST_UTC = len("2026-01-02T03:04:05.123456Z")


def day(days: int) -> date | str:
    """Return the date that lies ``days`` after 1970-01-01; text where Python has no such year."""
    try:
        return date.fromordinal(_DAY_ZERO + days)
    except (ValueError, OverflowError):
        return moments.of_days(days)


def clock(microseconds: int) -> time | str:
    """Return the time of day; as text 24:00:00, which Postgres knows and Python does not."""
    if not 0 <= microseconds < _DAY_US:
        if microseconds == _DAY_US:
            return moments.of_clock(microseconds)
        raise ValueError("not a time of day")
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, second = divmod(seconds, 60)
    return time(minutes // 60, minutes % 60, second, fraction)


def clock_ms(milliseconds: int) -> time | str:
    """Return the time of day given in milliseconds."""
    return clock(milliseconds * 1000)


def clock_ns(nanoseconds: int) -> time | str:
    """Return the time of day given in nanoseconds."""
    return clock(_whole_us(nanoseconds))


def local(microseconds: int) -> datetime | str:
    """Return the naive datetime that lies so far after 1970; text where Python has no such year."""
    if type(microseconds) is not int:  # JSON integers past 64 bits arrive as floats, digits lost
        raise ValueError("not a whole number")
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return moments.of_microseconds(microseconds)


def local_ms(milliseconds: int) -> datetime | str:
    """Return the naive datetime given in milliseconds."""
    return moments.INFINITE_MS.get(milliseconds) or local(milliseconds * 1000)


def local_ns(nanoseconds: int) -> datetime | str:
    """Return the naive datetime given in nanoseconds."""
    return local(_whole_us(nanoseconds))


def _whole_us(nanoseconds: int) -> int:
    microseconds, rest = divmod(nanoseconds, 1000)
    if rest or type(nanoseconds) is not int:
        raise ValueError("finer than a microsecond")
    return microseconds


def instant(text: str) -> datetime | str:
    """Return the UTC datetime of ISO text with a zone; text where Python has no such year; no zone is refused."""
    if not text[:1].isdigit() or text.startswith("0000"):
        return moments.of_instant(text)
    if len(text) > _LONGEST_UTC and text[_LONGEST_UTC - 1 : -1].strip("0"):
        raise ValueError("finer than a microsecond, or not in UTC")
    found = datetime.fromisoformat(text)
    if found.tzinfo is UTC:
        return found
    if found.tzinfo is None:
        raise ValueError("no time zone")
    return found.astimezone(UTC)


def zoned_clock(text: str) -> str:
    """Return a time with time zone as Postgres writes it in UTC, which is how the source sends it."""
    if not text.endswith("Z"):
        raise ValueError("not in UTC")
    whole, _, fraction = text[:-1].partition(".")
    digits = fraction.rstrip("0")
    return f"{whole if whole.count(':') > 1 else whole + ':00'}{'.' + digits if digits else ''}+00"


def binary(text: str) -> bytes:
    """Return the bytes of base64 text."""
    return base64.b64decode(text, validate=True)


def floating(value: Any) -> float:
    """Return the float of a JSON number, or of the texts NaN, Infinity and -Infinity."""
    return float(value)


def number(text: str) -> Decimal:
    """Return the number in a text, in which Debezium spells NaN and infinity its own way."""
    return _SPECIAL.get(text) or Decimal(text)


def in_array(convert: Convert, name: str | None, source: str) -> Convert:
    """Return a converter of elements that refuses what the connector is known to send wrong inside arrays.

    Elements of several dimensions arrive as the names of Java objects, timestamps before the calendar's reform in the
    Julian calendar.
    """
    if source == "_TIMESTAMP" or name in _TIMESTAMPS:
        return lambda value: _reformed(convert(value))
    return convert


def _reformed(value: Any) -> Any:
    if value < _REFORM if isinstance(value, datetime) else str(value).endswith("BC"):
        raise ValueError("a timestamp before 1582-10-25 inside an array")
    return value


def one_dimension(text: Any) -> Any:
    """Return a text element, unless it is what the connector makes of an array inside an array."""
    if isinstance(text, str) and text.startswith("[Ljava.lang.") and _JAVA_ARRAY.fullmatch(text):
        raise ValueError("an array of several dimensions")
    return text


def unscaled(text: str, scale: int) -> Decimal:
    """Return base64 big-endian two's complement, divided by ten to the power of ``scale`` (which may be negative)."""
    integer = int.from_bytes(binary(text), "big", signed=True)
    return Decimal((int(integer < 0), tuple(int(digit) for digit in str(abs(integer))), -scale))


def variable_scale(value: Mapping[str, Any]) -> Decimal:
    """Return the Decimal of Debezium's {scale, value} struct."""
    return unscaled(value["value"], value["scale"])


def hstore(text: str) -> str:
    """Return the JSON text of an hstore as Postgres's jsonb writes it: one spelling for equal values."""
    pairs = sorted(json.loads(text).items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode()))
    return json.dumps(dict(pairs), ensure_ascii=False)


def bits(length: int) -> Convert:
    """Return the converter of bit(n): little-endian bytes to the text that Postgres shows, ``length`` digits."""

    def convert(text: str) -> str:
        return format(int.from_bytes(binary(text), "little"), f"0{length}b")

    return convert


BY_NAME: dict[str, Convert] = {
    "io.debezium.time.Date": day, "org.apache.kafka.connect.data.Date": day,
    "io.debezium.time.Time": clock_ms, "org.apache.kafka.connect.data.Time": clock_ms,
    "io.debezium.time.MicroTime": clock, "io.debezium.time.NanoTime": clock_ns,
    "io.debezium.time.Timestamp": local_ms, "org.apache.kafka.connect.data.Timestamp": local_ms,
    "io.debezium.time.MicroTimestamp": local, "io.debezium.time.NanoTimestamp": local_ns,
    "io.debezium.time.ZonedTimestamp": instant, "io.debezium.data.Uuid": UUID,
    "io.debezium.time.Interval": moments.of_interval, "io.debezium.time.ZonedTime": zoned_clock, **shapes.BY_NAME,
    "io.debezium.data.VariableScaleDecimal": variable_scale,
}  # fmt: skip
BY_TYPE: dict[str, Convert] = {"bytes": binary, "float": floating, "double": floating}
BY_KIND: dict[str, Convert] = {
    "float": floating, "double": floating, "bytes": binary, "decimal": number, "numeric": number, "date": day,
    "timestamp-micros": instant, "uuid": UUID,
}  # fmt: skip
AMBIGUOUS = frozenset({"time-micros", "local-timestamp-micros"})  # milliseconds or microseconds? only a schema says


def converter(schema: Mapping[str, Any]) -> Convert | None:
    """Return what turns a column's JSON value into its Python value, None where it already is."""
    name, kind, parameters = schema.get("name"), schema["type"], schema.get("parameters") or {}
    if name in BY_NAME:
        return BY_NAME[name]
    if name == "org.apache.kafka.connect.data.Decimal":
        scale = int(parameters.get("scale", 0))
        return lambda text: unscaled(text, scale)
    if name == "io.debezium.data.Bits":
        return bits(int(parameters.get("length", 1)))
    source = str(parameters.get(SOURCE_TYPE, "")).upper()
    if kind == "string" and name is None and source in NUMERIC:
        return number
    if source == "HSTORE" and kind == "string":
        return hstore
    return _listed(schema, source) if kind == "array" else BY_TYPE.get(kind)


def _listed(schema: Mapping[str, Any], source: str) -> Convert | None:
    """Return the converter of an array, element by element; only the array itself names its source type, as _X."""
    parameters = {SOURCE_TYPE: source.removeprefix("_"), **(schema["items"].get("parameters") or {})}
    found = converter({**schema["items"], "parameters": parameters})
    item = in_array(found, schema["items"].get("name"), source) if found else None
    if item is None:
        if schema["items"]["type"] != "string":
            return None
        item = one_dimension

    def convert(values: list[Any]) -> list[Any]:
        return [None if value is None else item(value) for value in values]

    return convert


def _refuse(_value: Any) -> Any:
    raise ValueError("the message carries no schema to say the unit")


def of_kind(kind: str) -> Convert | None:
    """Return the converter of a contract's kind, for messages that carry no schema."""
    return _refuse if kind in AMBIGUOUS else BY_KIND.get(kind)
