"""Contracts: one .avsc per record, read once, and the bytes that travel under it.

Values are Avro in Confluent framing (a zero byte, the schema id as four bytes big-endian, the body). Keys are
canonical JSON of the primary-key columns, in the order of the contract's ``"key"`` list. Python values per kind:

boolean bool · int, long int · float, double float · string, json str (JSON text as the source wrote it) ·
bytes bytes · decimal, numeric Decimal · date date · time-micros time · timestamp-micros datetime (UTC) ·
local-timestamp-micros datetime (naive) · uuid UUID · array list of values of its item's kind, None among them

It opens no connection: ids come from the registry (tailrace.registry), files from the project.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, InvalidOperation, Rounded
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any
from uuid import UUID

import fastavro
import fastavro.read
import orjson
from fastavro.read import SchemaResolutionError

from tailrace.errors import ProjectError, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Value = Mapping[str, Any]

KINDS = {
    "boolean", "int", "long", "float", "double", "string", "bytes", "decimal", "numeric", "date", "time-micros",
    "timestamp-micros", "local-timestamp-micros", "uuid", "json", "array",
}  # fmt: skip
NO_ITEM = {"array", "json"}  # Avro's lists of lists are not Postgres's; JSON in an array is text
NO_KEY = {"array"}
_FRAME = struct.Struct(">bI")

# Avro has no unbounded decimal; ours is a string whose logical type fastavro learns here (its documented hook).
fastavro.read.LOGICAL_READERS["string-numeric"] = lambda text, *_: Decimal(text)


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a record: its kind (see the module's list), precision and scale where it is decimal.

    ``item`` describes the elements of an array, and is None for every other kind.
    """

    name: str
    kind: str
    nullable: bool
    precision: int = 0
    scale: int = 0
    item: Field | None = None


@dataclass(frozen=True)
class Contract:
    """The shape of one record: ``name`` is the file's stem and the topic's last part."""

    name: str
    schema: Mapping[str, Any]
    fields: tuple[Field, ...]
    key: tuple[str, ...]

    @cached_property
    def parsed(self) -> Any:
        """The schema as fastavro compiled it."""
        return fastavro.parse_schema(dict(self.schema))

    @cached_property
    def by_name(self) -> dict[str, Field]:
        """The fields by their names."""
        return {field.name: field for field in self.fields}

    @cached_property
    def key_readers(self) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
        """What makes a key column's value of its JSON, by name."""
        return tuple((name, KEY_READERS[self.by_name[name].kind]) for name in self.key)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """What a field is where a row or an older record does not have it, as Avro writes it; not every field says."""
        return {entry["name"]: entry["default"] for entry in self.schema["fields"] if "default" in entry}

    @cached_property
    def plain(self) -> Any:
        """The schema without logical types, compiled: the same bytes, once values are as ``wires`` make them."""
        fields = [{"name": entry["name"], "type": _plain(entry["type"])} for entry in self.schema["fields"]]
        return fastavro.parse_schema({"type": "record", "name": self.name, "fields": fields})

    @cached_property
    def wires(self) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
        """What turns a field's value into that of its plain type, for the fields whose kind is a logical type."""
        found = ((field.name, _wire(field)) for field in self.fields)
        return tuple((name, wire) for name, wire in found if wire)

    def encode(self, value: Value, schema_id: int) -> bytes:
        """Return the framed Avro bytes, or raise Rejected(stage=encode) naming the field that does not fit."""
        out = BytesIO(_FRAME.pack(0, schema_id))
        out.seek(_FRAME.size)
        try:
            plain = dict(value)
            for name, wire in self.wires:
                if plain[name] is not None:
                    plain[name] = wire(plain[name])
            fastavro.schemaless_writer(out, self.plain, plain, strict=True)
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, struct.error) as error:
            raise Rejected(
                f"The value does not fit the contract {self.name}.",
                stage="encode",
                detail=self.misfit(value) or type(error).__name__,
                hint=f"Compare the row with schemas/{self.name}.avsc.",
            ) from error
        return out.getvalue()

    def misfit(self, value: Value) -> str:
        """Name the first field of ``value`` that does not fit, without showing its value."""
        for name in value:
            if name not in self.by_name:
                return f"{name} is not in the contract"
        for field in self.fields:
            if field.name not in value:
                return f"{field.name} is missing"
            given = value[field.name]
            if given is None and not field.nullable:
                return f"{field.name} is null but the contract forbids it"
            if given is not None and not isinstance(given, PYTHON[field.kind]):
                return f"{field.name} is {type(given).__name__} where {field.kind} is expected"
        return ""

    def decode(self, framed: bytes, schema: Any = None) -> dict[str, Any]:
        """Return the value of framed bytes; ``schema`` is the writer's, when it is not this contract."""
        if len(framed) < _FRAME.size or framed[0] != 0:
            raise Rejected("The value is not in Confluent framing.", stage="decode", detail=f"{len(framed)} bytes")
        try:
            body = BytesIO(framed[_FRAME.size :])
            decoded = fastavro.schemaless_reader(body, schema or self.parsed, self.parsed if schema else None)
        except UNREADABLE as error:
            raise Rejected(
                f"The value does not decode as {self.name}.", stage="decode", detail=type(error).__name__
            ) from error
        return dict(decoded)

    def encode_key(self, value: Value) -> bytes:
        """Return the canonical JSON of the key columns of ``value``."""
        return orjson.dumps({name: _key_text(value[name]) for name in self.key})

    def decode_key(self, key: bytes | None) -> dict[str, Any]:
        """Return the key columns of canonical JSON, typed as the contract says."""
        try:
            parsed = orjson.loads(key or b"null")
            return {name: read(parsed[name]) for name, read in self.key_readers}
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            raise Rejected(
                f"The key does not decode as that of {self.name}.",
                stage="decode",
                detail=type(error).__name__,
            ) from error


PYTHON: dict[str, tuple[type, ...]] = {
    "boolean": (bool,), "int": (int,), "long": (int,), "float": (float,), "double": (float,), "string": (str,),
    "json": (str,), "bytes": (bytes,), "decimal": (Decimal,), "numeric": (Decimal,), "date": (date,),
    "time-micros": (time,), "timestamp-micros": (datetime,), "local-timestamp-micros": (datetime,), "uuid": (UUID, str),
    "array": (list,),
}  # fmt: skip


UNREADABLE = (
    ValueError, EOFError, IndexError, TypeError, KeyError, ArithmeticError, struct.error, SchemaResolutionError,
)  # fmt: skip

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_EPOCH = _EPOCH.replace(tzinfo=None)
_DAY_ZERO = date(1970, 1, 1).toordinal()
_US = timedelta(microseconds=1)


def exactly(precision: int) -> Context:
    """Return the context of numbers of so many digits: what would lose one, a zero included, raises ArithmeticError."""
    return Context(prec=precision, traps=[Rounded, InvalidOperation])


def _unscaled(field: Field) -> Callable[[Decimal], bytes]:
    """Return what makes the two's complement of a decimal, as long as it has to be and no longer."""
    step, scale, context = Decimal(1).scaleb(-field.scale), field.scale, exactly(field.precision)

    def wire(number: Decimal) -> bytes:
        whole = int(number.quantize(step, context=context).scaleb(scale, context))
        return whole.to_bytes((whole.bit_length() + 8) >> 3, "big", signed=True)

    return wire


def _wire(field: Field) -> Callable[[Any], Any] | None:
    if field.item is not None:
        return _listed(_wire(field.item))
    return _unscaled(field) if field.kind == "decimal" else _WIRES.get(field.kind)


def _listed(wire: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    return wire and (lambda values: [None if value is None else wire(value) for value in values])


def _clock(value: time) -> int:
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


_WIRES: dict[str, Callable[[Any], Any]] = {
    "numeric": Decimal.__str__, "date": lambda day: day.toordinal() - _DAY_ZERO, "time-micros": _clock,
    "timestamp-micros": lambda at: (at - _EPOCH) // _US,
    "local-timestamp-micros": lambda at: (at - _LOCAL_EPOCH) // _US,
    "uuid": lambda uuid: uuid if type(uuid) is str else UUID.__str__(uuid),
}  # fmt: skip


def _plain(shape: Any) -> Any:
    """Return an Avro type without its logical type."""
    if isinstance(shape, list):
        return [_plain(branch) for branch in shape]
    if isinstance(shape, dict) and shape["type"] == "array":
        return {"type": "array", "items": _plain(shape["items"])}
    return shape["type"] if isinstance(shape, dict) else shape


def _same(value: Any) -> Any:
    return value


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


KEY_READERS: dict[str, Callable[[Any], Any]] = {
    "boolean": _same, "int": _same, "long": _same, "float": _same, "double": _same, "string": _same, "json": _same,
    "bytes": base64.b64decode, "decimal": Decimal, "numeric": Decimal, "date": date.fromisoformat,
    "time-micros": time.fromisoformat, "timestamp-micros": _utc, "local-timestamp-micros": datetime.fromisoformat,
    "uuid": UUID,
}  # fmt: skip


def _key_text(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)


def schema_id(framed: bytes) -> int:
    """Return the registry id in the frame of a value, or raise Rejected."""
    if len(framed) < _FRAME.size or framed[0] != 0:
        raise Rejected("The value is not in Confluent framing.", stage="decode", detail=f"{len(framed)} bytes")
    return int(_FRAME.unpack_from(framed)[1])


def load(path: Path) -> Contract:
    """Read one .avsc file, or raise ProjectError naming what is wrong with it."""
    try:
        schema = json.loads(path.read_text())
        fastavro.parse_schema(json.loads(json.dumps(schema)))
    except (OSError, ValueError, fastavro.schema.SchemaParseException, fastavro.schema.UnknownType) as error:
        raise ProjectError(
            f"The contract {path.name} does not parse.",
            detail=str(error),
            hint="It must be one Avro record in JSON; `tailrace schema derive` writes one from a table.",
        ) from error
    return build(path.stem, schema, where=path.name)


def build(name: str, schema: Any, *, where: str) -> Contract:
    """Return the contract of a schema, or raise ProjectError."""
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ProjectError(f"The contract {where} is not an Avro record.", hint='Its "type" must be "record".')
    fields = tuple(_field(entry, where) for entry in schema["fields"])
    key = schema.get("key")
    names = {field.name for field in fields}
    if not isinstance(key, list) or not key or not set(key) <= names:
        raise ProjectError(
            f'The contract {where} has no valid "key".',
            detail=f'"key" is {key!r}; it must list fields of the record.',
            hint='Add "key": ["id"] beside "fields": the primary-key columns of the table, in order.',
        )
    odd = [field.name for field in fields if field.name in key and field.kind in NO_KEY]
    if odd:
        raise ProjectError(f"The contract {where} has a key that no store can hold.", detail=f"{odd[0]} is an array.")
    return Contract(name=name, schema=schema, fields=fields, key=tuple(key))


def _field(entry: Mapping[str, Any], where: str) -> Field:
    branches = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    types = [branch for branch in branches if branch != "null"]
    shape = types[0] if len(types) == 1 else {"type": "union"}
    detail = {"type": shape} if isinstance(shape, str) else shape
    kind = str(detail.get("logicalType") or detail["type"])
    item = _field({"name": entry["name"], "type": detail["items"]}, where) if kind == "array" else None
    if kind not in KINDS or (item is not None and item.kind in NO_ITEM):
        raise ProjectError(
            f"The contract {where} uses a type that is not supported: field {entry['name']}.",
            detail=f"{item.kind} cannot be in an array." if item else f"{kind} is none of {', '.join(sorted(KINDS))}.",
        )
    return Field(
        name=entry["name"],
        kind=kind,
        nullable="null" in branches,
        precision=int(detail.get("precision", 0)),
        scale=int(detail.get("scale", 0)),
        item=item,
    )
