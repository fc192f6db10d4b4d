"""A DynamoDB table as ``verify`` reads it: a Scan, every attribute with its type, tombstones left out.

The version attribute is only asked to be a number. A pointer to a value in an object of its own is followed. An item
whose time to live is over may be there or not: DynamoDB removes it when it likes.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tailrace import aws
from tailrace.control.verify.dynamodb_values import attribute, json_of, render, seconds, set_of, tagged
from tailrace.control.verify.expected import Unfit
from tailrace.control.verify.overflow import Overflow, is_pointer
from tailrace.control.verify.store import Fields, Pair, Seen
from tailrace.errors import Refused, Unreachable
from tailrace.targets import (
    DELETED_ATTRIBUTE,
    RECORD_ATTRIBUTE,
    TTL_ATTRIBUTE,
    VERSION_ATTRIBUTE,
    DynamoDBTable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tailrace.control.verify.ranges import Part, Ranges
    from tailrace.endpoints import Endpoints
    from tailrace.targets import Sink, Target

SEPARATOR = " / "
BATCH = 100
# DynamoDB Local reads for each page what is left of the table or segment, up to the limit if there is one: 370,000
# items in one go were more than its memory, in segments they take a minute. DynamoDB itself does not mind.
SEGMENTS, PAGE_ITEMS = 16, 4000


class DynamoDB:
    """One table with all records that are declared for it."""

    def __init__(self, table: str, pairs: Sequence[Pair], endpoints: Endpoints, bucket: str) -> None:
        self.name, self.pairs = table, pairs
        self._client = aws.client("dynamodb", endpoints.dynamodb)
        self._overflow = Overflow(bucket, endpoints.s3)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._overflow.close()

    def expected(self, pair: Pair, record: Mapping[str, Any]) -> tuple[str, Fields]:
        """Return the item that a record has to be, or raise Unfit."""
        target = pair.target
        assert isinstance(target, DynamoDBTable)
        kinds = pair.contract.by_name
        fields = {name: attribute(kinds[name], value) for name, value in record.items() if name not in target.sets}
        for name in target.sets:
            if record[name] or record[name] is None or name in pair.optional:  # an empty set is no attribute
                fields[name] = set_of(kinds[name], record[name])
        fields[RECORD_ATTRIBUTE] = "S:" + target.record
        fields[VERSION_ATTRIBUTE] = "N"
        pk, sk = render(target.pk, record), render(target.sk, record)
        if not pk or not sk:
            raise Unfit("the item's key has a part that is null or empty")
        fields["pk"], fields["sk"] = "S:" + pk, "S:" + sk
        for index in target.indexes:
            first, second = render(index.pk, record), render(index.sk, record)
            if first and second and (index.when is None or record[index.when]):
                fields |= {f"{index.name}_pk": "S:" + first, f"{index.name}_sk": "S:" + second}
        if target.ttl is not None and record[target.ttl] is not None:
            fields[TTL_ATTRIBUTE] = f"N:{seconds(record[target.ttl])}"
        return _identity(pk, sk), fields

    def scan(self, part: Part | None = None) -> Iterator[Seen]:  # noqa: ARG002 - no range of keys is a range of items
        """Yield every item that is not a tombstone."""
        for segment in range(SEGMENTS):
            yield from self._scan(segment)

    def digests(self, pair: Pair, ranges: Ranges) -> dict[int, str] | None:  # noqa: ARG002 - the protocol's signature
        """Return None: DynamoDB adds nothing up, items have to be read."""
        return None

    def _scan(self, segment: int) -> Iterator[Seen]:
        request = {"TableName": self.name, "ConsistentRead": True, "Limit": PAGE_ITEMS}
        request |= {"Segment": segment, "TotalSegments": SEGMENTS}
        while True:
            page = self._call("scan", request)
            yield from (self._seen(item) for item in page["Items"] if not _deleted(item))
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def fetch(self, pair: Pair, identities: Sequence[str]) -> dict[str, Seen]:  # noqa: ARG002 - one table, any record
        """Return the items under some keys."""
        found: dict[str, Seen] = {}
        for start in range(0, len(identities), BATCH):
            keys = [_key(identity) for identity in identities[start : start + BATCH]]
            while keys:
                wanted = {self.name: {"Keys": keys, "ConsistentRead": True}}
                answer = self._call("batch_get_item", {"RequestItems": wanted})
                for item in answer["Responses"].get(self.name, ()):
                    if not _deleted(item):
                        seen = self._seen(item)
                        found[seen.identity] = seen
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
        pair = self._pair(item)
        fields = {name: self._read(pair, name, value) for name, value in item.items()}
        version = fields.get(VERSION_ATTRIBUTE, "")
        if version.startswith("N:"):
            fields[VERSION_ATTRIBUTE] = "N"
        if pair is not None:
            fields = {**dict.fromkeys(pair.optional, "NULL"), **fields}
        identity = _identity(*(fields[name].removeprefix("S:") for name in ("pk", "sk")))
        number = version.removeprefix("N:")
        key = None if pair is None else _key_columns(pair, fields)
        return Seen(identity, fields, key, pair, int(number) if number.isdigit() else None)

    def _read(self, pair: Pair | None, name: str, value: Mapping[str, Any]) -> str:
        """Return an attribute's value, from its object where it points to one."""
        if pair is None or not _spills(pair) or not is_pointer(value):
            return tagged(value)
        body, kind = self._overflow.follow(value), pair.contract.by_name[name].kind
        if body is None:
            return "an object that is missing or another"
        if kind == "bytes":
            return tagged({"B": body})
        return json_of(name, body.decode()) if kind == "json" else tagged({"S": body.decode()})

    def _pair(self, item: Mapping[str, Any]) -> Pair | None:
        """Return what an item belongs to: its record's, and of several shapes the one whose key it has."""
        record = item.get(RECORD_ATTRIBUTE, {}).get("S")
        pairs = [pair for pair in self.pairs if pair.contract.name == record]
        shaped = (pair for pair in pairs if len(pairs) == 1 or _has_shape(pair.target, item))
        return next(shaped, pairs[0] if pairs else None)

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


def _deleted(item: Mapping[str, Any]) -> bool:
    return bool(item.get(DELETED_ATTRIBUTE, {}).get("BOOL"))


def _identity(pk: str, sk: str) -> str:
    """Return both parts of a key as one text, in which the first separator ends the first part."""
    return pk.replace("/", "//") + SEPARATOR + sk


def place_of(identity: str) -> tuple[str, str]:
    """Return the partition key and the sort key of an item that is named in a report."""
    pk, sk = identity.split(SEPARATOR, 1)
    return pk.replace("//", "/"), sk


def _key(identity: str) -> dict[str, dict[str, str]]:
    pk, sk = place_of(identity)
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _key_columns(pair: Pair, fields: Fields) -> tuple[str, ...] | None:
    found = [fields.get(name, "").partition(":") for name in pair.contract.key]
    if not all(kind in ("N", "S", "B", "BOOL") for kind, _, _ in found):
        return None
    return tuple("\\x" + content if kind == "B" else content for kind, _, content in found)


def _spills(pair: Pair) -> bool:
    return isinstance(pair.target, DynamoDBTable) and pair.target.oversize == "s3"


def _has_shape(target: Target | Sink, item: Mapping[str, Any]) -> bool:
    """Say whether an item's key could be made by the templates of a target; a ``#`` of a value is encoded."""
    assert isinstance(target, DynamoDBTable)
    return all(_pattern(made).fullmatch(item[part]["S"]) for made, part in ((target.pk, "pk"), (target.sk, "sk")))


@lru_cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = Formatter().parse(template)
    return re.compile("".join(re.escape(literal) + ("[^#]*" if name else "") for literal, name, _, _ in parts))
