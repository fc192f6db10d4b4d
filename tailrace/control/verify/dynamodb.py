"""A DynamoDB table as ``verify`` reads it: a Scan, every attribute with its type, tombstones left out.

Values are tagged with their DynamoDB type, so that the text "1" is not the number 1; numbers are compared by value,
because DynamoDB keeps no trailing zeros. The version attribute is only asked to be a number.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tailrace import aws
from tailrace.control.verify.expected import Unfit, parsed_json, plain, text
from tailrace.control.verify.store import Fields, Pair, Seen
from tailrace.errors import Refused, Unreachable
from tailrace.targets import (
    DELETED_ATTRIBUTE,
    RECORD_ATTRIBUTE,
    TTL_ATTRIBUTE,
    VERSION_ATTRIBUTE,
    DynamoDBTable,
    template_fields,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tailrace.contract import Field

SEPARATOR = " / "
BATCH = 100
# DynamoDB Local reads for each page what is left of the table or segment, up to the limit if there is one: 370,000
# items in one go were more than its memory, in segments they take a minute. DynamoDB itself does not mind.
SEGMENTS, PAGE_ITEMS = 16, 4000
DIGITS, SMALLEST, LARGEST = 38, -130, 125  # significant digits, exponents of the first one


class DynamoDB:
    """One table with all records that are declared for it."""

    def __init__(self, table: str, pairs: Sequence[Pair], url: str) -> None:
        self.name, self.pairs = table, pairs
        self._client = aws.client("dynamodb", url)
        self._by_record = {pair.contract.name: pair for pair in reversed(pairs)}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def expected(self, pair: Pair, record: Mapping[str, Any]) -> tuple[str, Fields]:
        """Return the item that a record has to be, or raise Unfit."""
        target = pair.target
        assert isinstance(target, DynamoDBTable)
        kinds = pair.contract.by_name
        fields = {name: _attribute(kinds[name], value) for name, value in record.items()}
        fields[RECORD_ATTRIBUTE] = "S:" + target.record
        fields[VERSION_ATTRIBUTE] = "N"
        pk, sk = _render(target.pk, record), _render(target.sk, record)
        if not pk or not sk:
            raise Unfit("the item's key has a part that is null or empty")
        fields["pk"], fields["sk"] = "S:" + pk, "S:" + sk
        for index in target.indexes:
            first, second = _render(index.pk, record), _render(index.sk, record)
            if first and second and (index.when is None or record[index.when]):
                fields |= {f"{index.name}_pk": "S:" + first, f"{index.name}_sk": "S:" + second}
        if target.ttl is not None and record[target.ttl] is not None:
            fields[TTL_ATTRIBUTE] = f"N:{_seconds(record[target.ttl])}"
        return _identity(pk, sk), fields

    def scan(self) -> Iterator[Seen]:
        """Yield every item that is not a tombstone."""
        for segment in range(SEGMENTS):
            yield from self._scan(segment)

    def _scan(self, segment: int) -> Iterator[Seen]:
        request = {"TableName": self.name, "ConsistentRead": True, "Limit": PAGE_ITEMS}
        request |= {"Segment": segment, "TotalSegments": SEGMENTS}
        while True:
            page = self._call("scan", request)
            yield from (self._seen(item) for item in page["Items"] if not _deleted(item))
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def fetch(self, pair: Pair, identities: Sequence[str]) -> dict[str, Fields]:  # noqa: ARG002 - one table, any record
        """Return the items under some keys."""
        found: dict[str, Fields] = {}
        for start in range(0, len(identities), BATCH):
            keys = [_key(identity) for identity in identities[start : start + BATCH]]
            while keys:
                wanted = {self.name: {"Keys": keys, "ConsistentRead": True}}
                answer = self._call("batch_get_item", {"RequestItems": wanted})
                for item in answer["Responses"].get(self.name, ()):
                    if not _deleted(item):
                        seen = self._seen(item)
                        found[seen.identity] = seen.fields
                keys = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
        return found

    def may_be_gone(self, fields: Fields) -> bool:
        """Say whether the item's time to live is over."""
        ttl = fields.get(TTL_ATTRIBUTE)
        return ttl is not None and int(ttl.removeprefix("N:")) <= time.time()

    def faults(self) -> list[str]:
        """Return nothing: a table has no state beside its items."""
        return []

    def _seen(self, item: Mapping[str, Any]) -> Seen:
        fields = {name: tagged(value) for name, value in item.items()}
        if fields.get(VERSION_ATTRIBUTE, "").startswith("N:"):
            fields[VERSION_ATTRIBUTE] = "N"
        pair = self._by_record.get(fields.get(RECORD_ATTRIBUTE, "").removeprefix("S:"))
        if pair is not None:
            fields = {**dict.fromkeys(pair.optional, "NULL"), **fields}
        identity = _identity(*(fields[name].removeprefix("S:") for name in ("pk", "sk")))
        return Seen(identity, fields, None if pair is None else _key_columns(pair, fields), pair)

    def _call(self, operation: str, request: Mapping[str, Any]) -> Any:
        try:
            return getattr(self._client, operation)(**request)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ResourceNotFoundException":
                raise Refused(f"There is no DynamoDB table {self.name}.", hint="Run `tailrace apply`.") from error
            raise Unreachable(f"DynamoDB refuses to read {self.name}.", detail=code) from error
        except BotoCoreError as error:
            raise Unreachable("DynamoDB does not answer.", detail=type(error).__name__) from error


def tagged(value: Mapping[str, Any]) -> str:
    """Return an attribute value with its type, equal exactly where DynamoDB's values are equal."""
    [(kind, content)] = value.items()
    if kind == "N":
        return "N:" + plain(Decimal(content))
    if kind == "B":
        return "B:" + bytes(content).hex()
    if kind == "L":
        return "L:" + repr([tagged(entry) for entry in content])
    if kind == "M":
        return "M:" + repr(sorted((name, tagged(entry)) for name, entry in content.items()))
    return kind if kind == "NULL" else f"{kind}:{content}"


def _attribute(field: Field, value: Any) -> str:
    if value is None:
        return "NULL"
    if field.item:
        return "L:" + repr([_attribute(field.item, entry) for entry in value])
    return _scalar(field.kind, field.name, value)


def _scalar(kind: str, name: str, value: Any) -> str:
    if kind == "boolean":
        return f"BOOL:{value}"
    if kind in ("int", "long", "float", "double", "decimal", "numeric"):
        return _number(name, value)
    if kind == "json":
        return tagged(_native(name, parsed_json(name, value)))
    if kind == "bytes":
        return f"B:{value.hex()}"
    return "S:" + text(value)


def _number(name: str, value: Any) -> str:
    if isinstance(value, int) and abs(value) < 10**DIGITS:
        return f"N:{value}"
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite() or (number and not SMALLEST <= number.adjusted() <= LARGEST):
        raise Unfit(f"{name} is no number that DynamoDB can hold")
    shown = plain(number)
    if len(shown.lstrip("-").replace(".", "").strip("0")) > DIGITS:
        raise Unfit(f"{name} has more than {DIGITS} digits, which DynamoDB cannot hold")
    return "N:" + shown


def _native(name: str, value: Any) -> dict[str, Any]:
    """Return parsed JSON as a DynamoDB attribute value."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, list):
        return {"L": [_native(name, entry) for entry in value]}
    if isinstance(value, dict):
        return {"M": {key: _native(name, entry) for key, entry in value.items()}}
    return {"N": _number(name, value).removeprefix("N:")}


def _render(template: str, record: Mapping[str, Any]) -> str:
    """Fill a key template, ``%`` and ``#`` in values percent-encoded; empty when a value in it is null."""
    names = _names(template)
    if any(record[name] is None for name in names):
        return ""
    return template.format(**{name: _part(record[name]) for name in names})


_names = lru_cache(template_fields)


def _part(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else text(value).replace("%", "%25").replace("#", "%23")


def _seconds(value: date) -> int:
    """Return a timestamp, or midnight of a date, in whole seconds since 1970 UTC."""
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _deleted(item: Mapping[str, Any]) -> bool:
    return bool(item.get(DELETED_ATTRIBUTE, {}).get("BOOL"))


def _identity(pk: str, sk: str) -> str:
    """Return both parts of a key as one text, in which the first separator ends the first part."""
    return pk.replace("/", "//") + SEPARATOR + sk


def _key(identity: str) -> dict[str, dict[str, str]]:
    pk, sk = identity.split(SEPARATOR, 1)
    return {"pk": {"S": pk.replace("//", "/")}, "sk": {"S": sk}}


def _key_columns(pair: Pair, fields: Fields) -> tuple[str, ...] | None:
    found = [fields.get(name, "").partition(":") for name in pair.contract.key]
    if not all(kind in ("N", "S", "B", "BOOL") for kind, _, _ in found):
        return None
    return tuple("\\x" + content if kind == "B" else content for kind, _, content in found)
