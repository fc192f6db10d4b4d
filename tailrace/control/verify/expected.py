"""What a source row has to be in the stores: the user's conform function, then the contract, field by field.

Values come out in one Python form per kind (tailrace.contract lists them): a Decimal of exactly the contract's scale,
a datetime in UTC, a float of the contract's width. A row that cannot become a record is ``Unfit``: the write path has
to have parked it, and ``verify`` says so instead of calling it equal. No I/O, no rounding.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailrace.conforming import ConformFunction, Row
    from tailrace.contract import Contract, Field


_EXACT = Context(prec=10_000, Emax=999_999, Emin=-999_999, traps=[Inexact, InvalidOperation])


class Unfit(Exception):
    """A row, or one of its values, cannot be a record; the text names the field, never its value."""


def record(row: Row, contract: Contract, function: ConformFunction | None) -> dict[str, Any] | None:
    """Return the record that ``row`` becomes, None when the user's function filters it, or raise Unfit.

    A column that the source does not have is the default of its field, where the contract has one.
    """
    kinds = contract.by_name
    row = {**{name: default(kinds[name], given) for name, given in contract.defaults.items() if name not in row}, **row}
    conformed: Mapping[str, Any] | None = dict(row) if function is None else _call(function, row)
    if conformed is None:
        return None
    if function is not None:
        unknown = [name for name in conformed if name not in contract.by_name and name not in row]
        if unknown:
            raise Unfit(f"{unknown[0]} is not in the contract")
    missing = [field.name for field in contract.fields if field.name not in conformed]
    if missing:
        raise Unfit(f"{missing[0]} is missing")
    fitted = {field.name: fit(field, conformed[field.name]) for field in contract.fields}
    for name in contract.key:
        if name in row and fit(contract.by_name[name], row[name]) != fitted[name]:
            raise Unfit(f"the key column {name} was changed")
    return fitted


def _call(function: ConformFunction, row: Row) -> Mapping[str, Any] | None:
    try:
        return function(dict(row))
    except Exception as error:  # the user's code may raise anything; the write path parks such a row
        raise Unfit(f"the conform function raised {type(error).__name__}") from error


def default(field: Field, given: Any) -> Any:
    """Return the default of a field, which Avro writes as JSON, as the value of a row."""
    if given is None:
        return None
    if field.item is not None:
        return [default(field.item, entry) for entry in given]
    if field.kind == "decimal":
        whole = int.from_bytes(given.encode("latin-1"), "big", signed=True)
        return Decimal(whole).scaleb(-field.scale, _EXACT)
    return _DEFAULTS[field.kind](given) if field.kind in _DEFAULTS else given


def fit(field: Field, value: Any) -> Any:
    """Return a value in the one form of its kind, or raise Unfit."""
    if value is None:
        if field.nullable:
            return None
        raise Unfit(f"{field.name} is null but the contract forbids it")
    fitted = _array(field.item, value) if field.item else FITTING[field.kind](field, value)
    if fitted is None:
        raise Unfit(f"{field.name} is {type(value).__name__} where {field.kind} is expected")
    return fitted


def _array(item: Field, value: Any) -> list[Any] | None:
    return [fit(item, entry) for entry in value] if isinstance(value, list) else None


def _string(_: Field, value: Any) -> str | None:
    """Return text; dates and times as Postgres writes them, an instant in UTC."""
    if isinstance(value, str):
        return value
    if not isinstance(value, date | time):
        return None
    shown = value.isoformat(" ").removesuffix("+00:00") if isinstance(value, datetime) else value.isoformat()
    shown = shown.rstrip("0") if "." in shown else shown
    return shown + "+00" if isinstance(value, datetime) and value.tzinfo else shown


def _only(kind: type) -> Callable[[Field, Any], Any]:
    def keep(_: Field, value: Any) -> Any:
        return value if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) else None

    return keep


def _double(_: Field, value: Any) -> float | None:
    fits = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return float(value) if fits else None


def _float(field: Field, value: Any) -> float | None:
    """Return the nearest 32-bit float, which is all that the contract carries."""
    wide = _double(field, value)
    if wide is None or math.isnan(wide) or math.isinf(wide):
        return wide
    try:
        narrow: float = struct.unpack("f", struct.pack("f", wide))[0]
    except OverflowError as error:
        raise Unfit(f"{field.name} is too large for a float") from error
    return narrow


def _numeric(_: Field, value: Any) -> Decimal | None:
    if isinstance(value, Decimal):
        return value
    return Decimal(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


def _decimal(field: Field, value: Any) -> Decimal | None:
    """Return the value at the contract's scale; a digit that does not fit is never rounded away."""
    number = _numeric(field, value)
    if number is None:
        return None
    try:
        scaled = number.quantize(Decimal((0, (1,), -field.scale)), context=_EXACT)
    except Inexact as error:
        raise Unfit(f"{field.name} has more than {field.scale} decimal places") from error
    except InvalidOperation as error:
        raise Unfit(f"{field.name} is not a finite number") from error
    if not scaled.is_finite():
        raise Unfit(f"{field.name} is not a finite number")
    if len(scaled.as_tuple().digits) > field.precision:
        raise Unfit(f"{field.name} has more than {field.precision} digits")
    return scaled


def _instant(_: Field, value: Any) -> datetime | None:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else None


def _local(_: Field, value: Any) -> datetime | None:
    return value if isinstance(value, datetime) and value.tzinfo is None else None


def _date(_: Field, value: Any) -> date | None:
    return value if isinstance(value, date) and not isinstance(value, datetime) else None


def _uuid(_: Field, value: Any) -> UUID | None:
    try:
        return value if isinstance(value, UUID) else UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _bytes(_: Field, value: Any) -> bytes | None:
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else None


FITTING: dict[str, Callable[[Field, Any], Any]] = {
    "boolean": _only(bool), "int": _only(int), "long": _only(int), "float": _float, "double": _double,
    "string": _string, "json": _only(str), "bytes": _bytes, "decimal": _decimal, "numeric": _numeric,
    "date": _date, "time-micros": _only(time), "timestamp-micros": _instant, "local-timestamp-micros": _local,
    "uuid": _uuid,
}  # fmt: skip


_DAY = datetime(1970, 1, 1)  # noqa: DTZ001 - the start of local timestamps
_DEFAULTS: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda given: given.encode("latin-1"), "numeric": Decimal, "uuid": UUID,
    "date": lambda given: (_DAY + timedelta(days=given)).date(),
    "time-micros": lambda given: (_DAY + timedelta(microseconds=given)).time(),
    "timestamp-micros": lambda given: (_DAY + timedelta(microseconds=given)).replace(tzinfo=UTC),
    "local-timestamp-micros": lambda given: _DAY + timedelta(microseconds=given),
}  # fmt: skip


def text(value: Any) -> str:
    """Return a fitted value as the text that keys are made of, in every store."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def moment(value: datetime) -> str:
    """Return a point in time with six decimals, and a ``Z`` where it is in UTC."""
    shown = value.replace(tzinfo=None).isoformat(timespec="microseconds")
    return shown + "Z" if value.tzinfo else shown


def plain(number: Decimal) -> str:
    """Return a number without exponent and without trailing zeros, every digit kept."""
    if not number.is_finite():
        return str(number)
    if not number:
        return "0"
    shown = format(number, "f")
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def parsed_json(field: str, source: str) -> Any:
    """Return JSON text as values with exact numbers, or raise Unfit; an object that has a name twice is in no store."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise Unfit(f"{field} is JSON with a name twice in one object")
        return dict(pairs)

    try:
        return json.loads(source, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=once)
    except ValueError as error:
        raise Unfit(f"{field} is not JSON") from error


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def shape(value: Any) -> str:
    """Return parsed JSON as text that is the same for equal values only: numbers by value, keys sorted."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{shape(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(shape, value)) + "]"
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return plain(Decimal(repr(value)) if isinstance(value, float) else Decimal(value))
    return json.dumps(value)
