"""A search index as ``verify`` reads it: every document of the concrete index, delete markers left out.

Documents are read with a scroll after a refresh, numbers in JSON as exact decimals. The alias is checked on its own:
it must exist and must hide every delete marker from those who search.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import AuthorizationException, NotFoundError, TransportError
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.serializer import JSONSerializer

from tailrace.control.verify import search_digest
from tailrace.control.verify.expected import Unfit, parsed_json, plain, shape, text
from tailrace.control.verify.store import Fields, Pair, Seen
from tailrace.errors import Refused, Unreachable
from tailrace.targets import DELETED_FIELD, Nested, SearchIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tailrace.contract import Field
    from tailrace.control.verify.ranges import Part, Ranges
    from tailrace.targets import GeoPoint

PAGE = 5_000
LONGEST_ID = 512
KEEP = "5m"


class _Exact(JSONSerializer):  # type: ignore[misc]  # the client publishes no types
    """JSON with numbers as exact decimals."""

    def loads(self, s: str) -> Any:
        return json.loads(s, parse_float=Decimal)


class Search:
    """One alias and the concrete index behind it."""

    def __init__(self, pair: Pair, url: str) -> None:
        target = pair.target
        assert isinstance(target, SearchIndex)
        self.name, self.pairs = target.alias, (pair,)
        self._client = OpenSearch([url], timeout=60, serializer=_Exact())
        self._index = ""
        names = target.fields or tuple(pair.contract.by_name)
        self._fields = {
            name: field for name, field in pair.contract.by_name.items() if name in names or name in pair.contract.key
        }
        self._places = {point.name: point for point in target.points}
        self._arrays = {shape.field for shape in target.objects if isinstance(shape, Nested)}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def expected(self, pair: Pair, record: Mapping[str, Any]) -> tuple[str, Fields]:
        """Return the document that a record has to be, or raise Unfit."""
        fields = {
            name: _rendered(field, record[name], array=name in self._arrays)
            for name, field in self._fields.items()
            if name not in self._places
        }
        fields |= {name: _place(point, record) for name, point in self._places.items()}
        return identity([record[name] for name in pair.contract.key]), fields

    def scan(self, part: Part | None = None) -> Iterator[Seen]:
        """Yield every document that is not a delete marker."""
        index = self._concrete()
        self._call(self._client.indices.refresh, index=index)
        request = {"query": search_digest.living(part), "sort": ["_doc"], "size": PAGE}
        page = self._call(self._client.search, index=index, body=request, params={"scroll": KEEP})
        while page["hits"]["hits"]:
            _whole(page, index)
            yield from (self._seen(hit) for hit in page["hits"]["hits"])
            page = self._call(self._client.scroll, body={"scroll": KEEP, "scroll_id": page["_scroll_id"]})
        self._call(self._client.clear_scroll, body={"scroll_id": [page["_scroll_id"]]})

    def digests(self, pair: Pair, ranges: Ranges) -> dict[int, str] | None:
        """Return digests of what the index says of its own writes; None where it does not say that."""
        index = self._concrete()
        field = pair.contract.key[0]
        mapped = self._call(self._client.indices.get_mapping, index=index)[index]["mappings"].get("properties", {})
        if ranges.bounds and mapped.get(field, {}).get("type") not in search_digest.ORDERED:
            return None
        self._call(self._client.indices.refresh, index=index)
        with suppress(AuthorizationException):  # a managed cluster may keep its state to itself
            life = search_digest.life(self._call(self._client.cluster.state, metric="metadata", index=index), index)
            asked = partial(self._call, self._client.search, index=index)
            return search_digest.digests(asked, len(life.terms), life.name, field, ranges)
        return None

    def fetch(self, pair: Pair, identities: Sequence[str]) -> dict[str, Seen]:  # noqa: ARG002 - one pair only
        """Return the documents under some ids."""
        index, found = self._concrete(), dict[str, Seen]()
        for start in range(0, len(identities), PAGE):
            body = {"ids": list(identities[start : start + PAGE])}
            answer = self._call(self._client.mget, index=index, body=body)
            for hit in answer["docs"]:
                if hit.get("found") and not hit["_source"].get(DELETED_FIELD):
                    found[hit["_id"]] = self._seen(hit)
        return found

    def may_be_gone(self, fields: Fields) -> bool:  # noqa: ARG002 - the protocol's signature
        """Say no: nothing removes documents by itself."""
        return False

    def faults(self) -> list[str]:
        """Say so when the alias shows delete markers."""
        body = {"query": {"term": {DELETED_FIELD: True}}}
        shown = self._call(self._client.count, index=self.name, body=body)["count"]
        return [f"The alias {self.name} shows {shown} delete markers: its filter is missing."] if shown else []

    def _concrete(self) -> str:
        """Return the index behind the alias, or raise Refused."""
        if not self._index:
            found = self._call(self._client.indices.get_alias, name=self.name)
            if len(found) != 1:
                raise Refused(f"The alias {self.name} has {len(found)} indexes.", hint="It must have exactly one.")
            [self._index] = found
        return self._index

    def _seen(self, hit: Mapping[str, Any]) -> Seen:
        source = hit["_source"]
        pair = self.pairs[0]
        held = {**dict.fromkeys(pair.optional), **source}
        fields = {name: _read(field, held[name]) for name, field in self._fields.items() if name in held}
        fields |= {name: source.get(name) for name in self._places}
        for name in source.keys() - self._fields.keys() - self._places.keys() - {DELETED_FIELD}:
            fields[name] = "unexpected: " + shape(source[name])
        key = tuple(_text(pair.contract.by_name[name], source.get(name)) for name in pair.contract.key)
        return Seen(hit["_id"], fields, key if all(key) else None, pair, hit.get("_version"))

    def _call(self, operation: Callable[..., Any], **request: Any) -> Any:
        try:
            return operation(**request)
        except NotFoundError as error:
            raise Refused(f"There is no search alias {self.name}.", hint="Run `tailrace apply`.") from error
        except AuthorizationException:
            raise
        except NoConnection as error:
            raise Unreachable("OpenSearch does not answer.", detail=type(error).__name__) from error
        except TransportError as error:
            raise Unreachable(
                f"OpenSearch refuses to read {self.name}.", detail=f"status {error.status_code}"
            ) from error


def identity(key: Sequence[Any]) -> str:
    """Return the document id of a key."""
    texts = [text(value) for value in key]
    if len(texts) > 1:
        texts = [part.replace("%", "%25").replace("|", "%7C") for part in texts]
    joined = "|".join(texts)
    encoded = joined.encode()
    plain_id = 0 < len(encoded) <= LONGEST_ID and not joined.startswith("sha256:")
    return joined if plain_id else "sha256:" + hashlib.sha256(encoded).hexdigest()


def _place(point: GeoPoint, record: Mapping[str, Any]) -> str | None:
    """Return a place as a document has to hold it: well-known text, longitude first."""
    if point.lat:
        given = [record[point.lon], record[point.lat]]
        if None in given:
            return None
        return (
            "POINT (" + " ".join(format(each, "f") if isinstance(each, Decimal) else str(each) for each in given) + ")"
        )
    if record[point.name] is None:
        return None
    shown = str(record[point.name])
    if not (shown.startswith("(") and shown.endswith(")") and shown.count(",") == 1):
        raise Unfit(f"{point.name} is no point")
    return f"POINT ({shown[1:-1].replace(',', ' ')})"


def _rendered(field: Field, value: Any, *, array: bool = False) -> Any:
    """Return what a document has to hold, in the form that ``_read`` gives."""
    if field.item and value is not None:
        return [_rendered(field.item, entry) for entry in value]
    if field.kind in ("float", "double") and value is not None and not math.isfinite(value):
        raise Unfit(f"{field.name} is not a finite number, which the index cannot hold")
    if value is None or field.kind in ("boolean", "int", "long", "float", "double"):
        return value
    if field.kind in ("decimal", "numeric"):
        return _number(field, value)
    if field.kind == "json":
        found = parsed_json(field.name, value)
        listed = array and isinstance(found, list) and all(isinstance(each, dict) for each in found)
        if not (listed or isinstance(found, dict)):
            raise Unfit(f"{field.name} is JSON but no object, which the index cannot hold")
        return shape(found)
    return base64.b64encode(value).decode() if field.kind == "bytes" else text(value)


def _read(field: Field, value: Any) -> Any:
    if value is None:
        return None
    if field.item and isinstance(value, list):
        return [_read(field.item, entry) for entry in value]
    if field.kind in ("float", "double") and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return float(value)
    if field.kind in ("decimal", "numeric") and isinstance(value, str):
        try:
            return _number(field, Decimal(value))
        except InvalidOperation:
            return value
    return shape(value) if field.kind == "json" or isinstance(value, dict | list | Decimal) else value


def _number(field: Field, value: Decimal) -> str:
    """Return a number by value; an unbounded numeric keeps its trailing zeros."""
    return "number " + (plain(value) if field.kind == "decimal" else format(value, "f"))


def _text(field: Field, value: Any) -> str:
    """Return a key column's value as text that Postgres casts back; empty where there is none."""
    if field.kind == "bytes" and isinstance(value, str):
        try:
            return "\\x" + base64.b64decode(value, validate=True).hex()
        except ValueError:  # something else than what was written
            return ""
    return "" if value is None else text(value)


def _whole(page: Mapping[str, Any], index: str) -> None:
    failed = page["_shards"]["failed"]
    if failed or page["timed_out"]:
        raise Unreachable(f"The index {index} could not be read as a whole.", detail=f"{failed} shards failed.")
