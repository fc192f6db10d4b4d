"""The record that the contract suite writes, and a tape that makes its Changes.

``parcel`` has one key column (``id``) and a field of every kind that stores tend to get wrong. Its store key may
depend on ``owner``, which is not a key column and changes. A Tape is one topic-partition: it numbers what it is given.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tailrace import contract, version
from tailrace.change import Change

if TYPE_CHECKING:
    from collections.abc import Iterable

RECORD = "parcel"
TOPIC = "testing.conformed.parcel"
COMMITTED_US = 1_767_225_600_000_000  # 2026-01-01 00:00:00 UTC
PARCEL = contract.build(
    RECORD,
    {
        "type": "record",
        "name": "parcel",
        "key": ["id"],
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "owner", "type": "string"},
            {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 4}},
            {"name": "exact", "type": ["null", {"type": "string", "logicalType": "numeric"}], "default": None},
            {"name": "note", "type": ["null", "string"], "default": None},
            {"name": "active", "type": ["null", "boolean"], "default": None},
            {"name": "detail", "type": ["null", {"type": "string", "logicalType": "json"}], "default": None},
            {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": None},
        ],
    },
    where="tailrace.testing",
)


def parcel(number: int, **fields: Any) -> dict[str, Any]:
    """Return a whole parcel record; ``fields`` replace the usual values."""
    usual: dict[str, Any] = {
        "id": number,
        "owner": "ada",
        "amount": Decimal("10.5000"),
        "exact": Decimal("1.25"),
        "note": f"parcel {number}",
        "active": True,
        "detail": '{"size": "small", "tags": ["a", "b"]}',
        "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    }
    return {**usual, **fields}


class Tape:
    """One topic-partition: it gives each change the next offset, here and in the source.

    The LSNs of its changes go backwards, as those of overlapping transactions do, every third is unknown, as in a
    snapshot, and their times go backwards too: who orders changes by any of them breaks the promises.
    """

    def __init__(self, partition: int = 0, topic: str = TOPIC) -> None:
        self.topic, self.partition = topic, partition
        self._source = 0
        self._next = 0

    @property
    def next_offset(self) -> int:
        """The offset that the next change gets in this topic-partition."""
        return self._next

    def put(self, value: dict[str, Any], before: dict[str, Any] | None = None) -> Change:
        """Return an insert, or an update when ``before`` is given."""
        return self._change(value["id"], value, before, "c" if before is None else "u")

    def delete(self, before: dict[str, Any]) -> Change:
        """Return the delete of a record whose last image was ``before``."""
        return self._change(before["id"], None, before, "d")

    def again(self, changes: Iterable[Change]) -> list[Change]:
        """Return the same changes delivered once more, in this order: new offsets here, the versions they had."""
        return [replace(change, offset=self._advance()) for change in changes]

    def _change(self, number: int, value: dict[str, Any] | None, before: dict[str, Any] | None, op: str) -> Change:
        self._source += 1
        return Change(
            record=RECORD,
            key={"id": number},
            value=value,
            before=before,
            version=version.pack(1, self._source),
            op=op,
            lsn=None if self._source % 3 == 0 else (1 << 60) - self._source,
            committed_us=COMMITTED_US + 3_600_000_000 - self._source,
            tx=str(self._source),
            origin=f"testing.raw.public.parcel/{self.partition}/{self._source}",
            topic=self.topic,
            partition=self.partition,
            offset=self._advance(),
            raw_key=PARCEL.encode_key({"id": number}),
            raw_value=None if value is None else b"",
        )

    def _advance(self) -> int:
        self._next += 1
        return self._next - 1
