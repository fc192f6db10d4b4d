"""What a record is in OpenSearch: index settings and mapping of a contract, the id and the document of a record.

The mapping is explicit and strict. Exact numbers travel as JSON strings and JSON text travels as it is, so that
``_source`` keeps every digit; times have six digits. A value that JSON or the index cannot hold (a NaN, a JSON array
where an object is indexed) is rejected, never changed. It opens no connection.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from tailrace.errors import ProjectError, Refused, Rejected
from tailrace.sink.rendering import KEY_TEXT, Unfit, json_object, map_point, objects, point_text, render_of
from tailrace.targets import DELETED_FIELD, Nested, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailrace.contract import Contract, Field
    from tailrace.targets import GeoPoint, Object, SearchIndex

LONGEST_KEYWORD = 8191  # characters; Lucene takes 32,766 bytes and UTF-8 needs at most 4 a character
LONGEST_ID = 512  # bytes
HASHED = "sha256:"
EXACT_IN_DOUBLE = 15  # decimal digits that a double holds
DATE_FORMAT = "strict_date_optional_time"
MAPPING = {  # int and float get the wider type at once: a field's type cannot be changed, a contract's can grow
    "boolean": {"type": "boolean"}, "int": {"type": "long"}, "long": {"type": "long"}, "float": {"type": "double"},
    "double": {"type": "double"}, "bytes": {"type": "binary"}, "json": {"type": "flat_object"},
    "date": {"type": "date", "format": DATE_FORMAT}, "timestamp-micros": {"type": "date", "format": DATE_FORMAT},
    "local-timestamp-micros": {"type": "date", "format": DATE_FORMAT},
}  # fmt: skip

NARROWER = {"int": "integer", "float": "float"}  # as they were mapped once


def index_name(target: SearchIndex, number: int = 1) -> str:
    """Return the name of an index that stands, or stood, behind the alias."""
    return f"{target.alias}-{number:06}"


def hidden(target: SearchIndex) -> dict[str, Any]:
    """Return what an alias is: delete markers hidden, writes taken."""
    markers = {"bool": {"must_not": {"term": {DELETED_FIELD: True}}}}
    return {target.alias: {"filter": markers, "is_write_index": True}}


def index_body(target: SearchIndex, contract: Contract) -> dict[str, Any]:
    """Return the body of ``PUT /<index_name>``: settings, mapping and the alias, which hides delete markers."""
    _known(target, contract)
    texts = {text.field: text for text in map(_text, target.text)}
    own = {shape.field: _properties(shape) for shape in target.objects} | {
        point.name: {"type": "geo_point"} for point in target.points
    }
    properties = {
        field.name: own.get(field.name) or field_mapping(field, text=texts.get(field.name))
        for field in fields(target, contract)
    }
    return {
        "settings": settings(target),
        "mappings": {"dynamic": "strict", "properties": {**properties, **own, DELETED_FIELD: {"type": "boolean"}}},
        "aliases": hidden(target),
    }


def settings(target: SearchIndex) -> dict[str, Any]:
    """Return the settings of a target's index."""
    copies = {"auto_expand_replicas": "0-1"} if target.replicas is None else {"number_of_replicas": target.replicas}
    index = {"number_of_shards": target.shards, **copies, "refresh_interval": interval(target.refresh_seconds)}
    return {"index": index | ({"analysis": dict(target.analysis)} if target.analysis else {})}


def interval(seconds: float) -> str:
    """Return seconds as OpenSearch writes a time."""
    return f"{seconds:g}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


def _known(target: SearchIndex, contract: Contract) -> None:
    """Raise ProjectError for a declared field that is not in the contract, or cannot be what it is declared as."""
    kinds = {name: (field.item or field).kind for name, field in contract.by_name.items()}
    wanted: list[tuple[str, tuple[str, ...]]] = [(text.field, ("string",)) for text in map(_text, target.text)]
    wanted += [(shape.field, ("json",)) for shape in target.objects]
    wanted += [(name, kinds_of) for point in target.points for name, kinds_of in _sources(point)]
    wanted += [(name, ()) for name in target.fields]
    for name, allowed in wanted:
        if name not in kinds or (allowed and kinds[name] not in allowed):
            raise ProjectError(
                f"The search index {target.alias} names the field {name} of {contract.name}.",
                detail=f"It is {kinds[name]}, not {' or '.join(allowed)}."
                if name in kinds
                else "There is no such field.",
                hint=f"Compare sinks/ with schemas/{contract.name}.avsc.",
            )


def _sources(point: GeoPoint) -> list[tuple[str, tuple[str, ...]]]:
    numbers = ("double", "float", "decimal", "numeric", "int", "long")
    return [(point.lat, numbers), (point.lon, numbers)] if point.lat else [(point.name, ("string",))]


def _text(declared: str | Text) -> Text:
    return Text(declared) if isinstance(declared, str) else declared


def _properties(shape: Object) -> dict[str, Any]:
    """Return the mapping of a json field with declared properties; OpenSearch shows no ``type`` of an object."""
    kind = {"type": "nested"} if isinstance(shape, Nested) else {}
    return {**kind, "dynamic": "false", "properties": {name: {"type": of} for name, of in shape.properties.items()}}


def missing(target: SearchIndex, contract: Contract, there: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a mapping lacks for a contract; Refused when one is there with another type.

    What a field of the same type has besides is for ``tailrace plan`` to compare.
    """
    wanted = index_body(target, contract)["mappings"]["properties"]
    narrow = narrower(contract)
    kept = {name: there[name].get("type", "object") for name in wanted if name in there}
    kept = {name: kind for name, kind in kept.items() if kind != narrow.get(name)}
    types = {name: shape.get("type", "object") for name, shape in wanted.items()}
    wrong = [f"{name} is {kind} instead of {types[name]}" for name, kind in kept.items() if kind != types[name]]
    if wrong:
        raise Refused(
            f"The index behind {target.alias} cannot follow the contract {contract.name}.",
            detail=f"{', '.join(wrong)}: the type of a field cannot be changed in place.",
            hint=f"`tailrace search rebuild {target.alias}` fills a new index and switches the alias.",
        )
    return {name: shape for name, shape in wanted.items() if name not in there}


def narrower(contract: Contract) -> dict[str, str]:
    """Return the narrower type that a field of an older index may have, by name: all that its kind needs."""
    kinds = {field.name: (field.item or field).kind for field in contract.fields}
    return {name: NARROWER[kind] for name, kind in kinds.items() if kind in NARROWER}


def fields(target: SearchIndex, contract: Contract) -> tuple[Field, ...]:
    """Return the fields that a document holds: the key, and those the target names, in the contract's order."""
    wanted = {*(target.fields or contract.by_name), *contract.key}
    return tuple(field for field in contract.fields if field.name in wanted)


def field_mapping(field: Field, *, text: Text | None = None) -> dict[str, Any]:
    """Return the mapping of one field; ``text`` makes it searchable by words, exact under ``.keyword``.

    An array is a field like its elements: OpenSearch has no other.
    """
    if field.item is not None:
        return field_mapping(field.item, text=text)
    if field.kind == "decimal" and field.precision <= EXACT_IN_DOUBLE:
        return {"type": "scaled_float", "scaling_factor": 10**field.scale}
    if field.kind in MAPPING:
        return dict(MAPPING[field.kind])
    keyword = {"type": "keyword", "ignore_above": LONGEST_KEYWORD}
    if text is None:
        return keyword
    analyzer = {} if text.analyzer == "standard" else {"analyzer": text.analyzer}
    more = {name: {"type": "text", "analyzer": name} for name in text.also}
    return {"type": "text", **analyzer, "fields": {"keyword": keyword, **more}}


def document_id(contract: Contract, key: Mapping[str, Any]) -> str:
    """Return the id of a record's document: the key's text, the parts of a composite key joined by ``|``.

    What is too long for an id, or empty, or looks like what stands for it, is its hash.
    """
    if len(contract.key) == 1:
        given = key[contract.key[0]]
        if type(given) is int:  # the usual key, and always a good id
            return str(given)
        identity = key_text(given)
    else:
        parts = (key_text(key[name]) for name in contract.key)
        identity = "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts)
    short = len(identity) * 4 <= LONGEST_ID or len(identity.encode()) <= LONGEST_ID
    if short and identity and not identity.startswith(HASHED):
        return identity
    return f"{HASHED}{hashlib.sha256(identity.encode()).hexdigest()}"


def key_text(value: Any) -> str:
    """Return one key column as text: strings as they are, everything else as the document shows it."""
    render = KEY_TEXT.get(type(value))
    return render(value) if render else str(value)


class Renderer:
    """Documents of one target, as JSON bytes on one line."""

    def __init__(self, target: SearchIndex, contract: Contract) -> None:
        own: dict[str, Callable[[Any], Any]] = {
            shape.field: objects if isinstance(shape, Nested) else json_object for shape in target.objects
        }
        own |= {point.name: map_point for point in target.points if not point.lat}
        self._names = tuple(each.name for each in fields(target, contract))
        found = ((each.name, own.get(each.name) or render_of(each)) for each in fields(target, contract))
        self._renders = tuple((name, render) for name, render in found if render is not None)
        self._points = tuple(point for point in target.points if point.lat)

    def document(self, value: Mapping[str, Any]) -> bytes:
        """Return the document of a record, or raise Rejected naming the field that does not fit."""
        name = ""
        try:
            shown = {each: value[each] for each in self._names}
            for name, render in self._renders:
                given = shown[name]
                if given is not None:
                    shown[name] = render(given)
            for point in self._points:
                name, lat, lon = point.name, value[point.lat], value[point.lon]
                shown[name] = None if lat is None or lon is None else point_text(lon, lat)
            name = ""
            return orjson.dumps(shown, option=orjson.OPT_UTC_Z)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Rejected(
                f"The value of {name or 'a field'} does not fit the search index.",
                stage="write",
                detail=str(error) if isinstance(error, Unfit) else type(error).__name__,
            ) from error
