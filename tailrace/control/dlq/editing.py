"""What a person sees of a dead letter and changes: a conformed record as JSON, or the payload of a raw message.

A record is shown by field, exact values as text: decimals, dates, times and bytes (base64) are JSON strings. What
comes back has to be a whole record under the contract, with the same key. Of a raw message the Debezium payload is
shown, its schema stays as it is; a message that is no JSON is text. Everything here is pure.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from tailrace.errors import Rejected, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.contract import Contract, Field

TEXTUAL = {
    "string", "json", "bytes", "decimal", "numeric", "date", "time-micros", "timestamp-micros",
    "local-timestamp-micros", "uuid",
}  # fmt: skip
_AFTER = "after"


class Form(Protocol):
    """One letter's value, as a person edits it."""

    @property
    def text(self) -> str:
        """What is shown."""

    def filled(self, text: str) -> bytes:
        """Return the bytes of an edited text; UsageError where it does not fit."""

    def with_fields(self, assignments: Sequence[str]) -> bytes:
        """Return the bytes with fields replaced, each as FIELD=VALUE; UsageError where one does not fit."""


class RecordForm:
    """A record under a contract; ``value`` is typed as contracts say."""

    def __init__(self, contract: Contract, schema_id: int, value: Mapping[str, Any]) -> None:
        self._contract, self._id, self._value = contract, schema_id, value

    @property
    def text(self) -> str:
        """The record as JSON."""
        shown = {name: _shown(self._value[name]) for name in self._contract.by_name}
        return json.dumps(shown, indent=2, ensure_ascii=False)

    def filled(self, text: str) -> bytes:
        """Return the framed record of an edited text."""
        given = _object(text)
        fields = self._contract.by_name
        strange = [*(given.keys() - fields.keys()), *(fields.keys() - given.keys())]
        if strange:
            raise UsageError(
                f"The edited record has not the fields of the contract {self._contract.name}.",
                detail=f"Too many or missing: {', '.join(sorted(strange))}.",
            )
        return self._framed({name: _typed(field, given[name]) for name, field in fields.items()})

    def with_fields(self, assignments: Sequence[str]) -> bytes:
        """Return the framed record with fields replaced."""
        made = dict(self._value)
        for assignment in assignments:
            name, text = split(assignment)
            field = self._contract.by_name.get(name)
            if field is None:
                known = ", ".join(self._contract.by_name)
                raise UsageError(f"The record has no field {name}.", hint=f"Its fields: {known}.")
            made[name] = _typed(field, _meant(field, text))
        return self._framed(made)

    def _framed(self, made: Mapping[str, Any]) -> bytes:
        for name in self._contract.key:
            if made[name] != self._value[name]:
                raise UsageError("The key of a letter cannot be edited.", detail=f"{name} belongs to the key.")
        try:
            return self._contract.encode(made, self._id)
        except Rejected as error:
            raise UsageError(error.problem, detail=error.detail, hint=error.hint) from error


class EnvelopeForm:
    """A raw message: the payload of Debezium's envelope, or the text where it is none."""

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._envelope = _parsed(value)

    @property
    def text(self) -> str:
        """The payload as JSON, or the message as it is."""
        if self._envelope is None:
            return self._value.decode(errors="replace")
        return json.dumps(self._payload(self._envelope), indent=2, ensure_ascii=False)

    def filled(self, text: str) -> bytes:
        """Return the message of an edited text."""
        if self._envelope is None:
            return text.encode()
        return self._framed(_object(text))

    def with_fields(self, assignments: Sequence[str]) -> bytes:
        """Return the message with columns of the row after the change replaced."""
        payload = self._payload(self._envelope) if self._envelope is not None else None
        row = payload.get(_AFTER) if isinstance(payload, dict) else None
        if payload is None or not isinstance(row, dict):
            raise UsageError("The message has no row that could be set.", hint="Edit it without --set, or with --file.")
        made = dict(row)
        for assignment in assignments:
            name, text = split(assignment)
            if name not in row:
                raise UsageError(f"The row has no column {name}.", hint=f"Its columns: {', '.join(row)}.")
            made[name] = _like(row[name], text)
        return self._framed({**payload, _AFTER: made})

    def _payload(self, envelope: dict[str, Any]) -> Any:
        return envelope["payload"] if "payload" in envelope and "schema" in envelope else envelope

    def _framed(self, payload: Any) -> bytes:
        envelope = self._envelope or {}
        whole = {**envelope, "payload": payload} if "payload" in envelope and "schema" in envelope else payload
        return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()


def split(assignment: str) -> tuple[str, str]:
    """Return field and text of FIELD=VALUE, or raise UsageError."""
    name, equals, text = assignment.partition("=")
    if not (name and equals):
        raise UsageError(f"{assignment!r} sets nothing.", hint="Write it like --set name=Ada or --set name=null.")
    return name, text


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError("The edited text is no JSON.", detail=where) from error
    if not isinstance(found, dict):
        raise UsageError("The edited text is no JSON object.")
    return found


def _parsed(value: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(value)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _like(old: Any, text: str) -> Any:
    """Return what a person means where a column held ``old``: text stays text, all else is JSON where it can be."""
    if text == "null":
        return None
    if isinstance(old, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _meant(field: Field, text: str) -> Any:
    """Return the JSON value that FIELD=VALUE stands for; ``null`` is NULL, and ``"null"`` the word."""
    if text == "null" and field.nullable:
        return None
    if field.kind in TEXTUAL and not (text.startswith('"') and text.endswith('"') and len(text) > 1):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise _unfit(field) from error


def _shown(value: Any) -> Any:
    """Return a value as JSON shows it."""
    if isinstance(value, list):
        return [_shown(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | UUID) else value


def _typed(field: Field, given: Any) -> Any:
    """Return a JSON value as the contract types the field, or raise UsageError naming the field."""
    if given is None:
        if not field.nullable:
            raise UsageError(f"{field.name} is null, which the contract forbids.")
        return None
    if field.item is not None:
        if not isinstance(given, list):
            raise _unfit(field)
        return [_typed(field.item, each) for each in given]
    try:
        return _READERS[field.kind](given)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise _unfit(field) from error


def _unfit(field: Field) -> UsageError:
    return UsageError(f"What {field.name} is set to is no {field.kind}.", hint="Compare it with `tailrace dlq show`.")


def _of(kind: type) -> Callable[[Any], Any]:
    def read(given: Any) -> Any:
        if type(given) is not kind:
            raise TypeError
        return given

    return read


def _float(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError
    return float(given)


def _json(given: Any) -> str:
    json.loads(_of(str)(given))
    return str(given)


def _text(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda given: read(_of(str)(given))


def _utc(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError
    return found.astimezone(UTC)


def _naive(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is not None:
        raise ValueError
    return found


_READERS: dict[str, Callable[[Any], Any]] = {
    "boolean": _of(bool), "int": _of(int), "long": _of(int), "float": _float, "double": _float, "string": _of(str),
    "json": _json, "bytes": _text(lambda text: base64.b64decode(text, validate=True)), "decimal": _text(Decimal),
    "numeric": _text(Decimal), "date": _text(date.fromisoformat), "time-micros": _text(time.fromisoformat),
    "timestamp-micros": _text(_utc), "local-timestamp-micros": _text(_naive), "uuid": _text(UUID),
}  # fmt: skip
