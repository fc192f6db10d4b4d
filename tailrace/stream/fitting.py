"""Fitting: what a row or a user's record becomes under a contract, or Rejected naming the field.

A value is taken as it is, changed only where nothing is lost (an int for a decimal, text of a number for a decimal or
numeric, text of a UUID, a date or time as Postgres's own text for a string), or refused. Nothing is rounded,
truncated, parsed from free text or given a time zone.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from tailrace.contract import exactly
from tailrace.errors import Rejected
from tailrace.source import moments

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from tailrace.contract import Contract, Field

    Fit = Callable[[Any], Any]

_FLOAT_MAX = 3.4028234663852886e38
_EXACT: dict[str, type] = {
    "boolean": bool, "double": float, "string": str, "json": str, "bytes": bytes, "numeric": Decimal, "date": date,
    "time-micros": time, "uuid": UUID,
}  # fmt: skip


class _Misfit(ValueError):
    """A value that a kind cannot hold; the text says why and never shows the value."""


class Unfit(Rejected):
    """A record whose value of one field, ``field``, the contract does not take, or that lacks it."""

    def __init__(self, contract: str, field: str, why: str) -> None:
        super().__init__(
            f"The record does not fit the contract {contract}.",
            stage="conform",
            detail=f"{field} {why}",
            hint=f"Compare the row, the conform function and schemas/{contract}.avsc.",
        )
        self.field = field


class Fitting:
    """The compiled checks of one contract; pure, and safe to share.

    ``strangers`` hears of columns in a function's record that the contract does not have, and may raise.
    """

    def __init__(self, contract: Contract, strangers: Callable[[list[str]], None] | None = None) -> None:
        self.contract, self._strangers = contract, strangers
        self._fields = tuple((field.name, _EXACT.get(field.kind), _checks(field)) for field in contract.fields)
        self._key = tuple(entry for name in contract.key for entry in self._fields if entry[0] == name)
        self._key_template = _key_template(contract)
        self._names = {field.name for field in contract.fields}

    def record(self, given: Mapping[str, Any], columns: Collection[str]) -> dict[str, Any]:
        """Return the record made of ``given``; columns of the row that the contract does not have are left out."""
        record = self._take(self._fields, given)
        if len(given) > len(record) and given is not columns:
            self._refuse_strangers(given, columns)
        return record

    def key(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the key columns of a row as the contract types them."""
        return self._take(self._key, row)

    def key_bytes(self, fitted: Mapping[str, Any]) -> bytes:
        """Return ``contract.encode_key`` of a fitted key or record; a key of whole numbers needs no JSON writer."""
        if self._key_template:
            return self._key_template % tuple([fitted[name] for name in self.contract.key])
        return self.contract.encode_key(fitted)

    def _take(self, fields: tuple[tuple[str, type | None, Fit], ...], given: Mapping[str, Any]) -> dict[str, Any]:
        record = {}
        name = ""
        try:
            for name, exact, check in fields:
                value = given[name]
                if type(value) is not exact:
                    found, value = value, None if value is None else check(value)
                    if value is None:
                        self._refuse_absent(name, found)
                record[name] = value
        except KeyError:
            raise Unfit(self.contract.name, name, "is missing") from None
        except _Misfit as misfit:
            raise Unfit(self.contract.name, name, str(misfit)) from None
        except OverflowError:
            raise Unfit(self.contract.name, name, "is out of range") from None
        return record

    def _refuse_absent(self, name: str, found: Any) -> None:
        """Raise unless what could not be fitted is a null that the contract allows."""
        field = self.contract.by_name[name]
        if found is not None:
            raise _Misfit(f"is {type(found).__name__} where {field.kind} is expected")
        if not field.nullable:
            raise _Misfit("is null but the contract forbids it")

    def _refuse_strangers(self, given: Mapping[str, Any], columns: Collection[str]) -> None:
        found = [name for name in given if name not in self._names]
        for name in found:
            if name not in columns:
                raise Unfit(self.contract.name, name, "is neither a column of the row nor in the contract")
        if self._strangers is not None:
            self._strangers(found)


def _key_template(contract: Contract) -> bytes:
    """Return the canonical JSON of the key with a place for each number, or nothing where not all are whole numbers."""
    if any(contract.by_name[name].kind not in {"int", "long"} for name in contract.key):
        return b""
    names = [orjson.dumps(name).replace(b"%", b"%%") for name in contract.key]
    return b"{" + b",".join(name + b":%d" for name in names) + b"}"


def _checks(field: Field) -> Fit:
    """Return the check of one field, for values that are not simply of its exact type; None means: not of its kind."""
    if field.kind == "int":
        return _integer(31)
    if field.kind == "long":
        return _integer(63)
    if field.kind == "decimal":
        return _decimal(field.precision, field.scale)
    if field.item is not None:
        return _array(field.item)
    return _CHECKS.get(field.kind, _nothing)


def _nothing(_value: Any) -> Any:
    return None


def _array(item: Field) -> Fit:
    exact, check = _EXACT.get(item.kind), _checks(item)

    def element(value: Any) -> Any:
        if value is None:
            if not item.nullable:
                raise _Misfit("has a null inside but the contract forbids it")
            return None
        fitted = value if type(value) is exact else check(value)
        if fitted is None:
            raise _Misfit(f"has {type(value).__name__} inside where {item.kind} is expected")
        return fitted

    def fit(value: Any) -> list[Any] | None:
        return [element(entry) for entry in value] if isinstance(value, list) else None

    return fit


def _integer(bits: int) -> Fit:
    low, high = -(1 << bits), (1 << bits) - 1

    def check(value: Any) -> int | None:
        if type(value) is not int:
            return None
        if not low <= value <= high:
            raise _Misfit(f"needs more than {bits + 1} bits")
        return value

    return check


def _decimal(precision: int, scale: int) -> Fit:
    step, context = Decimal(1).scaleb(-scale), exactly(precision)

    def check(value: Any) -> Decimal | None:
        number = value if type(value) is Decimal else _number(value)
        if number is None:
            return None
        try:
            fits = number.quantize(step, context=context).is_finite()
        except ArithmeticError:
            fits = False
        if not fits:
            raise _misfit_of(number, precision, scale)
        return number

    return check


def _misfit_of(number: Decimal, precision: int, scale: int) -> _Misfit:
    """Return why a number is none of this precision and scale."""
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        return _Misfit("is NaN or infinite, which a decimal cannot hold")
    if exponent < -scale:
        return _Misfit(f"has more than {scale} digits after the point")
    return _Misfit(f"has more than {precision} digits")


def _number(value: Any) -> Decimal | None:
    if type(value) is int or isinstance(value, Decimal):
        return Decimal(value)
    if not isinstance(value, str):
        return None
    try:
        return Decimal(value)
    except ArithmeticError:
        raise _Misfit("is text that is no number") from None


def _uuid(value: Any) -> UUID | None:
    if not isinstance(value, str):
        return None
    try:
        return UUID(value)
    except ValueError:
        raise _Misfit("is text that is no UUID") from None


def _double(value: Any) -> float | None:
    if type(value) is not int:
        return None
    if int(float(value)) != value:
        raise _Misfit("is an integer that a float cannot hold exactly")
    return float(value)


def _single(value: Any) -> float | None:
    found = value if type(value) is float else _double(value)
    if found is not None and math.isfinite(found) and abs(found) > _FLOAT_MAX:
        raise _Misfit("is too large for a 32-bit float")
    return found


def _aware(value: Any) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    if value.tzinfo is None:
        raise _Misfit("is a timestamp without time zone where one with is expected")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _naive(value: Any) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    if value.tzinfo is not None:
        raise _Misfit("is a timestamp with time zone where one without is expected")
    return value


_CHECKS: dict[str, Fit] = {
    "string": moments.shown, "numeric": _number, "uuid": _uuid, "double": _double, "float": _single,
    "timestamp-micros": _aware, "local-timestamp-micros": _naive,
}  # fmt: skip
