"""Debezium's column values as Python values, one converter per semantic type (TRAPS: a value is exact or refused).

``converter`` takes a column's Connect schema, ``of_kind`` a contract's kind where messages carry no schema. Both return
None where JSON already gives the Python value. NULL never reaches a converter. A value that Python cannot hold exactly
(infinity dates, 24:00:00, nanoseconds that are no whole microsecond) raises ValueError or OverflowError.
Types without a Python value here stay what JSON gives: intervals, timetz, ranges, geometry, hstore maps.
"""

from __future__ import annotations

import base64
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Convert = Callable[[Any], Any]

SOURCE_TYPE = "__debezium.source.column.type"
NUMERIC = frozenset({"NUMERIC", "DECIMAL", "MONEY"})
_DAY_ZERO = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - timestamp without time zone is naive by nature
_DAY_US = 86_400_000_000
_LONGEST_UTC = len("2026-01-02T03:04:05.123456Z")


def day(days: int) -> date:
    """Return the date that lies ``days`` after 1970-01-01."""
    return date.fromordinal(_DAY_ZERO + days)


def clock(microseconds: int) -> time:
    """Return the time of day; 24:00:00, which Postgres knows and Python does not, is refused."""
    if not 0 <= microseconds < _DAY_US:
        raise ValueError("not a time of day")
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, second = divmod(seconds, 60)
    return time(minutes // 60, minutes % 60, second, fraction)


def clock_ms(milliseconds: int) -> time:
    """Return the time of day given in milliseconds."""
    return clock(milliseconds * 1000)


def clock_ns(nanoseconds: int) -> time:
    """Return the time of day given in nanoseconds."""
    return clock(_whole_us(nanoseconds))


def local(microseconds: int) -> datetime:
    """Return the naive datetime that lies so far after 1970; infinity is refused."""
    if type(microseconds) is not int:  # JSON integers past 64 bits arrive as floats, digits lost
        raise ValueError("not a whole number")
    return _EPOCH + timedelta(microseconds=microseconds)


def local_ms(milliseconds: int) -> datetime:
    """Return the naive datetime given in milliseconds."""
    return local(milliseconds * 1000)


def local_ns(nanoseconds: int) -> datetime:
    """Return the naive datetime given in nanoseconds."""
    return local(_whole_us(nanoseconds))


def _whole_us(nanoseconds: int) -> int:
    microseconds, rest = divmod(nanoseconds, 1000)
    if rest or type(nanoseconds) is not int:
        raise ValueError("finer than a microsecond")
    return microseconds


def instant(text: str) -> datetime:
    """Return the UTC datetime of ISO text with a zone; infinity, years past 9999 and a missing zone are refused."""
    if len(text) > _LONGEST_UTC and text[_LONGEST_UTC - 1 : -1].strip("0"):
        raise ValueError("finer than a microsecond, or not in UTC")
    found = datetime.fromisoformat(text)
    if found.tzinfo is UTC:
        return found
    if found.tzinfo is None:
        raise ValueError("no time zone")
    return found.astimezone(UTC)


def binary(text: str) -> bytes:
    """Return the bytes of base64 text."""
    return base64.b64decode(text, validate=True)


def floating(value: Any) -> float:
    """Return the float of a JSON number, or of the texts NaN, Infinity and -Infinity."""
    return float(value)


def unscaled(text: str, scale: int) -> Decimal:
    """Return base64 big-endian two's complement, divided by ten to the power of ``scale`` (which may be negative)."""
    integer = int.from_bytes(binary(text), "big", signed=True)
    return Decimal((int(integer < 0), tuple(int(digit) for digit in str(abs(integer))), -scale))


def variable_scale(value: Mapping[str, Any]) -> Decimal:
    """Return the Decimal of Debezium's {scale, value} struct."""
    return unscaled(value["value"], value["scale"])


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
    "io.debezium.data.VariableScaleDecimal": variable_scale,
}  # fmt: skip
BY_TYPE: dict[str, Convert] = {"bytes": binary, "float": floating, "double": floating}
BY_KIND: dict[str, Convert] = {
    "float": floating, "double": floating, "bytes": binary, "decimal": Decimal, "numeric": Decimal, "date": day,
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
    if kind == "string" and name is None and str(parameters.get(SOURCE_TYPE, "")).upper() in NUMERIC:
        return Decimal
    return _listed(schema) if kind == "array" else BY_TYPE.get(kind)


def _listed(schema: Mapping[str, Any]) -> Convert | None:
    """Return the converter of an array, element by element."""
    item = converter(schema["items"])
    if item is None:
        return None

    def convert(values: list[Any]) -> list[Any]:
        return [None if value is None else item(value) for value in values]

    return convert


def _refuse(_value: Any) -> Any:
    raise ValueError("the message carries no schema to say the unit")


def of_kind(kind: str) -> Convert | None:
    """Return the converter of a contract's kind, for messages that carry no schema."""
    return _refuse if kind in AMBIGUOUS else BY_KIND.get(kind)
