"""Debezium's envelope: the bytes of one raw message become an Event, or Rejected.

Messages are JSON with schema and payload; schema-less JSON is read too, typed by the contract's kinds. The schema part
is the same bytes in every message of a table version, so it is parsed once: a message that begins with known bytes has
only its payload parsed. It reads one message at a time and knows no partition. An unchanged TOAST value, for which
Debezium sends a stand-in, is refused unless whoever asks restores it (``Settle``).
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from tailrace.errors import Rejected
from tailrace.source import values
from tailrace.source.unchanged import Placeholder, label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.conforming import Row

_SCHEMA, _PAYLOAD = b'{"schema":', b',"payload":'
_KNOWN = 16  # schema versions kept per table
_TROUBLE = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError)
_IMAGE, _POSITION = (dict, NoneType), (int, NoneType)
_BLANK_TEXT = ("", "0", "{}", "P0Y0M0DT0H0M0S")


class Event(NamedTuple):
    """One change of one row. ``whole_before`` says that ``before`` holds every column, not only the key."""

    op: str
    before: Row | None
    after: Row | None
    whole_before: bool
    lsn: int | None
    committed_us: int
    tx: str


class Long(NamedTuple):
    """A column whose unchanged value may be stood in for: under which label it is kept, and what stands in for it."""

    name: str
    label: str
    forms: tuple[Any, ...]


class Shape:
    """What one schema says of a table's rows: a converter per column that needs one, the defaults, the long columns.

    ``columns`` are their Connect schemas, where there is one.
    """

    columns: tuple[Mapping[str, Any], ...] = ()

    def __init__(
        self,
        converters: Mapping[str, Callable[[Any], Any]],
        defaults: Mapping[str, Any],
        long: tuple[Long, ...] = (),
    ) -> None:
        self.converters = tuple(converters.items())
        self.defaults = dict(defaults)
        self.long = long

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any], placeholder: Placeholder) -> Shape:
        """Return the shape in an envelope's Connect schema."""
        row = next(field for field in schema["fields"] if field["field"] in ("after", "before"))
        found = {column["field"]: values.converter(column) for column in row["fields"]}
        made = cls(
            {name: convert for name, convert in found.items() if convert},
            {column["field"]: column["default"] for column in row["fields"] if "default" in column},
            tuple(long for long in (_long(column, placeholder) for column in row["fields"]) if long.forms),
        )
        made.columns = tuple(row["fields"])
        return made

    @classmethod
    def of_kinds(cls, kinds: Mapping[str, str], placeholder: Placeholder) -> Shape:
        """Return the shape that a contract's kinds give to rows without schema."""
        found = {name: values.of_kind(kind) for name, kind in kinds.items()}
        long = tuple(Long(name, name, placeholder.every()) for name in kinds)
        return cls({name: convert for name, convert in found.items() if convert}, {}, long)

    def unsent(self, row: Row) -> tuple[str, ...]:
        """Return the columns of a row, not converted yet, that hold a stand-in."""
        return tuple(name for name, _, forms in self.long if any(row.get(name) == form for form in forms))

    def convert(self, row: Row) -> Row:
        """Return ``row`` with its values converted in place, or raise Rejected naming the column."""
        name = ""
        try:
            for name, convert in self.converters:
                value = row.get(name)
                if value is not None:
                    row[name] = convert(value)
        except _TROUBLE as error:
            raise Rejected(
                f"The value of the column {name} cannot be held exactly.", stage="decode", detail=_reason(error)
            ) from error
        return row

    def whole(self, row: Row, key: tuple[str, ...]) -> bool:
        """Say whether an old image holds more than its key.

        Under REPLICA IDENTITY DEFAULT the other columns arrive as null, as their default or as their type's zero, and
        nothing else marks them. A true row that looks so is taken for a bare key: sinks then refuse, never guess.
        """
        return any(name not in key and not self._blank(name, value) for name, value in row.items())

    def _blank(self, name: str, value: Any) -> bool:
        if not value or value in _BLANK_TEXT or value == self.defaults.get(name) or isinstance(value, dict):
            return True  # of a structure, each type has a zero of its own
        return isinstance(value, str) and (value.startswith("1970-01-01") or not value.strip("0.:Z+-"))


class Filled(Shape):
    """The shape of rows without some columns, whose fields have a default: they are put in as the row is converted."""

    def __init__(self, shape: Shape, fills: Mapping[str, Any]) -> None:
        super().__init__(dict(shape.converters), shape.defaults, shape.long)
        self.columns, self._fills = shape.columns, dict(fills)

    def convert(self, row: Row) -> Row:
        """Return ``row`` with its values converted and the missing ones added, in place."""
        row = super().convert(row)
        row.update(self._fills)
        return row


class Sent(NamedTuple):
    """What an event says before its values are converted: ``unsent`` columns of ``after`` hold a stand-in.

    ``size`` is the payload's in bytes; ``after`` may be changed in place.
    """

    op: str
    after: Row | None
    unsent: tuple[str, ...]
    shape: Shape
    size: int


Settle = Callable[[Sent], None]


def refuse_unsent(sent: Sent) -> None:
    """Raise Rejected where a value is missing: what is done with unchanged TOAST values that nobody keeps."""
    if sent.unsent:
        raise missing(sent.unsent[0], "This table has no images to restore it from.", "Run `tailrace apply`, or say ")


def missing(column: str, detail: str, way: str) -> Rejected:
    """Return the rejection of a row whose unchanged TOAST value is not known."""
    return Rejected(
        f"The column {column} was not sent: its TOAST value is unchanged.",
        stage="conform",
        detail=detail,
        hint=f"{way}ALTER TABLE ... REPLICA IDENTITY FULL: then Postgres sends it with every update.",
    )


class EnvelopeReader:
    """Reads the messages of one raw topic. ``kinds`` (column to contract kind) serve messages without schema.

    ``judge`` sees the shape in every schema that is not known yet, and returns it, or another one, or raises.
    """

    def __init__(
        self,
        kinds: Mapping[str, str],
        key: tuple[str, ...],
        placeholder: Placeholder | None = None,
        judge: Callable[[Shape], Shape] | None = None,
    ) -> None:
        self._key, self._judge = key, judge
        self._placeholder = placeholder or Placeholder()
        self._bare = Shape.of_kinds(kinds, self._placeholder)
        self._known: dict[bytes, Shape] = {}
        self._prefix, self.shape = b"\0", self._bare  # of the newest message that said its schema

    def read(self, value: bytes, settle: Settle | None = None, *, moved: bool = False) -> Event:
        """Return the event in a message's value, or raise Rejected.

        ``settle`` sees every event before it is converted, and may restore what was not sent. ``moved`` says that the
        row came from another key: only then an insert may hold a stand-in.
        """
        known = value.startswith(self._prefix) or self._recall(value)  # compared once: schemas are kilobytes long
        if known and value.endswith(b"}"):
            start = len(self._prefix)
            try:
                return self._event(self.shape, orjson.loads(value[start:-1]), value, start, settle, moved=moved)
            except orjson.JSONDecodeError:
                pass  # what follows the known schema is not one payload: the whole message says what is wrong
        shape, payload = self._parse(value)
        return self._event(shape, payload, value, 0, settle, moved=moved)

    def shape_of(self, value: bytes) -> Shape:
        """Return the shape that a message's schema gives to the rows of its table, or raise Rejected."""
        return self._parse(value)[0]

    def read_key(self, key: bytes | None, shape: Shape) -> Row:
        """Return the key columns in a message's key, which is the primary key as plain JSON, typed by ``shape``."""
        try:
            parsed = orjson.loads(key or b"null")
            found = {name: parsed[name] for name in self._key}
        except _TROUBLE as error:
            raise Rejected(
                "The message's key is not the primary key as JSON.", stage="decode", detail=_reason(error)
            ) from error
        return shape.convert(found)

    def _recall(self, value: bytes) -> bool:
        """Make the known schema that ``value`` begins with the current one; False where there is none."""
        for prefix, shape in self._known.items():
            if value.startswith(prefix):
                self._prefix, self.shape = prefix, shape
                return True
        return False

    def _parse(self, value: bytes) -> tuple[Shape, Any]:
        """Parse a whole message; remember its schema bytes where they can be told from the payload."""
        try:
            parsed = orjson.loads(value)
            if "payload" not in parsed or "schema" not in parsed:
                return self._bare, parsed
            shape = Shape.of_schema(parsed["schema"], self._placeholder) if parsed["schema"] else self._bare
        except (*_TROUBLE, StopIteration) as error:
            raise Rejected(
                "The message is not a Debezium envelope in JSON.", stage="decode", detail=_reason(error)
            ) from error
        if self._judge is not None and parsed["schema"]:
            shape = self._judge(shape)
        prefix = split(value, parsed["schema"])
        if prefix:
            self._remember(prefix, shape)
        return shape, parsed["payload"]

    def _remember(self, prefix: bytes, shape: Shape) -> None:
        if len(self._known) >= _KNOWN:
            del self._known[next(iter(self._known))]
        self._known[prefix] = shape
        self._prefix, self.shape = prefix, shape

    def _event(
        self, shape: Shape, payload: Any, value: bytes, start: int, settle: Settle | None, *, moved: bool
    ) -> Event:
        """Return the event of a parsed payload; ``start`` is where the payload begins in ``value``."""
        try:
            op, before, after, source = payload["op"], payload.get("before"), payload.get("after"), payload["source"]
            microseconds = source.get("ts_us")
            committed = source["ts_ms"] * 1000 if microseconds is None else microseconds
            lsn, tx = source.get("lsn"), source.get("txId")
        except _TROUBLE as error:
            raise Rejected("The payload is not a Debezium envelope.", stage="decode", detail=_reason(error)) from error
        if not isinstance(before, _IMAGE) or not isinstance(after, _IMAGE):
            raise Rejected("A row image of the payload is not an object.", stage="decode")
        if type(op) is not str or type(committed) is not int or not isinstance(lsn, _POSITION):
            raise Rejected("The payload's op, source time or lsn has a wrong type.", stage="decode")
        whole = before is not None and shape.whole(before, self._key)  # asked before its values are converted
        unsent = self._unsent(shape, after, value, start) if after and not whole and (op == "u" or moved) else ()
        if settle is not None:
            settle(Sent(op, after, unsent, shape, len(value) - start))
        elif unsent:
            refuse_unsent(Sent(op, after, unsent, shape, len(value) - start))
        if before is not None:  # where only the key is true, nothing else is even a value of its column's type
            before = shape.convert(before if whole else {name: before[name] for name in self._key if name in before})
        if after is not None:
            shape.convert(after)
        return Event(op, before, after, whole, lsn, committed, "" if tx is None else str(tx))

    def _unsent(self, shape: Shape, after: Row, value: bytes, start: int) -> tuple[str, ...]:
        """Return the columns that hold a stand-in; where the message has no trace of one, no column is looked at."""
        for trace in self._placeholder.traces:
            if value.find(trace, start) >= 0:
                return shape.unsent(after)
        return ()


def split(value: bytes, schema: Any) -> bytes:
    """Return the bytes up to the payload, or nothing where they cannot be told with certainty.

    A quote inside a JSON text is escaped, so the separator is always structure, but it may be a nested one: the part
    before it has to be the whole schema.
    """
    if not schema or not value.startswith(_SCHEMA):
        return b""
    at = value.find(_PAYLOAD)
    while at >= 0:
        try:
            if orjson.loads(value[len(_SCHEMA) : at]) == schema:
                return value[: at + len(_PAYLOAD)]
        except orjson.JSONDecodeError:
            at = value.find(_PAYLOAD, at + 1)  # a nested one
        else:
            return b""
    return b""


def _long(column: Mapping[str, Any], placeholder: Placeholder) -> Long:
    source = str((column.get("parameters") or {}).get(values.SOURCE_TYPE, "")).upper()
    name = column["field"]
    return Long(name, label(name, column, numeric=source in values.NUMERIC), placeholder.forms(column))


def _reason(error: BaseException) -> str:
    """Name an error without quoting the value that caused it."""
    return type(error).__name__
