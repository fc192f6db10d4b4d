"""What a change becomes in DynamoDB: its items, one for each key that the table declares. Pure: no client, no clock.

Attributes: ``pk``, ``sk``, every field of the record by name, ``_v`` (version), ``_type`` (record) and, for each index
N, ``N_pk`` and ``N_sk``, absent where the item is not in it. A delete leaves a tombstone with its version at every
place, so that an older write cannot bring an item back; a change of the key leaves one where the item was. What
DynamoDB would round, or refuse, is Rejected(stage=write) here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tailrace.errors import ProjectError, Rejected
from tailrace.sink.dynamodb_keys import KEY_BYTES, key_text, render, template, valid
from tailrace.sink.dynamodb_overflow import overflow_folder, spilled
from tailrace.sink.dynamodb_values import NO_SET, NULL, Unfit, attribute_of, item_bound, item_size, seconds, set_of
from tailrace.targets import (
    DELETED_ATTRIBUTE,
    POINTER,
    RECORD_ATTRIBUTE,
    TTL_ATTRIBUTE,
    VERSION_ATTRIBUTE,
    DynamoDBTable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.change import Change
    from tailrace.contract import Contract
    from tailrace.sink.dynamodb_overflow import Spill
    from tailrace.sink.dynamodb_values import Attribute

    Record = Mapping[str, Any]
    Place = tuple[str, str]

TOMBSTONE_SECONDS = 7 * 24 * 3600
ITEM_BYTES = 400 * 1024


@dataclass(frozen=True, slots=True)
class Put:
    """One guarded put; ``position`` is that of its change in the batch, ``size`` what its item does not exceed.

    ``spills`` are the values that lie in objects of their own, which have to be there before the item; ``leaves`` says
    that this is the tombstone of a record that moved, which has to be elsewhere before it.
    """

    place: Place
    version: int
    item: Mapping[str, Attribute]
    size: int
    position: int
    spills: tuple[Spill, ...] = ()
    leaves: bool = False


class Shape:
    """One key of a table's items: the table's own, with its indexes, or a mirror's."""

    def __init__(self, target: DynamoDBTable) -> None:
        self.fields = target.key_fields
        self._pk, self._sk = template(target.pk), template(target.sk)
        self._indexes = [(index, template(index.pk), template(index.sk)) for index in target.indexes]

    def place(self, record: Record) -> Place:
        """Return the key of a record, or raise Rejected."""
        return key_text(self._pk, record, "pk"), key_text(self._sk, record, "sk")

    def place_of_old(self, record: Record) -> Place | None:
        """Return the key under which a record may lie; None where it never can have been written."""
        pk, sk = render(self._pk, record), render(self._sk, record)
        return (pk, sk) if pk and sk and valid(pk, "pk") and valid(sk, "sk") else None

    def index_keys(self, record: Record) -> dict[str, Attribute]:
        """Return the indexes' attributes; none where ``when`` is not true or a part of the key is null or empty."""
        found: dict[str, Attribute] = {}
        for index, *parts in self._indexes:
            texts = [render(part, record) for part in parts]
            if all(texts) and (index.when is None or record[index.when]):
                for text, attribute in zip(texts, KEY_BYTES, strict=True):
                    if not valid(text, attribute):
                        raise Rejected(f"The {attribute} of the index {index.name} is too long.", stage="write")
                    found[f"{index.name}_{attribute}"] = {"S": text}
        return found


class Renderer:
    """Makes the puts of one target."""

    def __init__(self, target: DynamoDBTable, contract: Contract) -> None:
        self._target, self._contract = target, contract
        self._shapes = [Shape(shape) for shape in target.shapes]
        _demand_sets(target, contract)
        self._columns = [
            (field.name, set_of(field) if field.name in target.sets else attribute_of(field))
            for field in contract.fields
        ]
        own = {"pk", "sk", VERSION_ATTRIBUTE, RECORD_ATTRIBUTE, DELETED_ATTRIBUTE, TTL_ATTRIBUTE}
        clash = own.intersection(field.name for field in contract.fields)
        if clash:
            raise ProjectError(
                f"The record {contract.name} has fields that DynamoDB items of Tailrace reserve.",
                detail=", ".join(sorted(clash)),
                hint="Rename them in the conform function and the contract.",
            )

    def puts(self, change: Change, position: int, now: float) -> list[Put]:
        """Return the puts of one change, tombstones for the places it left included; Rejected when it cannot be."""
        left = self._places_before(change)
        live = [] if change.value is None else self._live(change, change.value, position)
        for put in live:
            left.pop(put.place, None)
        return [self._tombstone(change, place, position, now) for place in left] + live

    def _places_before(self, change: Change) -> dict[Place, None]:
        """Return where the record was, as far as the change says; nowhere for a record that is new."""
        before = change.before
        if before is None and (change.value is None or change.op == "u"):
            self._need_key_alone(change)
            before = change.key if change.value is None else None
        found = [shape.place_of_old(before) for shape in self._shapes] if before else []
        return {place: None for place in found if place is not None}

    def _need_key_alone(self, change: Change) -> None:
        """Raise Rejected when the place of an item needs more than the key, which is all that such a change has."""
        named = {name for shape in self._shapes for name in shape.fields}
        missing = named - set(self._contract.key)
        if missing:
            raise Rejected(
                f"The {'delete' if change.value is None else 'update'} does not say under which key the item is.",
                stage="write",
                detail=f"the item's key needs {', '.join(sorted(missing))}, which only the row before has",
                hint="Set REPLICA IDENTITY FULL on the table.",
            )

    def _live(self, change: Change, value: Record, position: int) -> list[Put]:
        fields = self._fields(value)
        found = []
        for shape in self._shapes:
            place = shape.place(value)
            item = {**self._head(place, change), **fields, **shape.index_keys(value)}
            put = Put(place, change.version, item, item_bound(item), position)
            found.append(put if put.size <= ITEM_BYTES else self._fitted(put, value))
        return found

    def _fields(self, value: Record) -> dict[str, Attribute]:
        fields: dict[str, Attribute] = {}
        for name, made in self._columns:
            given = value[name]
            try:
                attribute = NULL if given is None else made(given)
            except Unfit as error:
                raise Rejected(f"DynamoDB cannot hold {name} as it is.", stage="write", detail=str(error)) from error
            if attribute is not None:
                fields[name] = attribute
            if self._target.oversize == "s3" and POINTER[0] in (attribute or {}).get("M", {}):
                raise Rejected(f"{name} would be taken for a pointer.", stage="write", detail=f"it has {POINTER[0]}")
        if self._target.ttl and value[self._target.ttl] is not None:
            fields[TTL_ATTRIBUTE] = {"N": str(seconds(value[self._target.ttl]))}
        return fields

    def _fitted(self, put: Put, value: Record) -> Put:
        """Return a too large put with its largest values in objects of their own, or raise Rejected."""
        size = item_size(put.item)
        if size <= ITEM_BYTES:
            return put
        if self._target.oversize == "s3":
            folder = overflow_folder(self._target.table, *put.place)
            item, spills = spilled(put.item, value, self._contract, f"{folder}/{put.version:020d}", limit=ITEM_BYTES)
            if item_size(item) <= ITEM_BYTES:
                return replace(put, item=item, size=item_size(item), spills=spills)
        raise Rejected(
            "The item is larger than DynamoDB allows.", stage="write", detail=f"{size} of {ITEM_BYTES} bytes"
        )

    def _tombstone(self, change: Change, place: Place, position: int, now: float) -> Put:
        item = {
            **self._head(place, change),
            DELETED_ATTRIBUTE: {"BOOL": True},
            TTL_ATTRIBUTE: {"N": str(int(now) + TOMBSTONE_SECONDS)},
        }
        return Put(place, change.version, item, item_bound(item), position, leaves=change.value is not None)

    def _head(self, place: Place, change: Change) -> dict[str, Attribute]:
        return {
            "pk": {"S": place[0]},
            "sk": {"S": place[1]},
            VERSION_ATTRIBUTE: {"N": str(change.version)},
            RECORD_ATTRIBUTE: {"S": change.record},
        }


def _demand_sets(target: DynamoDBTable, contract: Contract) -> None:
    """Raise ProjectError for a declared set that can be none."""
    for name in target.sets:
        field = contract.by_name.get(name)
        if field is None or field.item is None or field.item.kind in NO_SET:
            raise ProjectError(
                f"{name} of {contract.name} cannot be written as a set.",
                detail="A set is made of an array of texts, numbers, times or bytes.",
                hint=f"Take it out of sets= of the DynamoDBTable {target.table}.",
            )
