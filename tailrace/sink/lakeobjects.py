"""Objects of the lake: how they are named, how a batch is cut into them, and which old ones a lane may remove.

An object is named by what it holds, ``<zone>/<table>/dt=YYYY-MM-DD/p<partition>-<first offset>.parquet``, so that a
batch written again overwrites itself. After a crash the same offsets may be cut differently: the objects at or above
the committed offset are *leftovers*. One of them goes only when every change in it is in an object that this lane
wrote; one that must give its name to a shorter object is kept under a second name first. So a reader may see a change
twice for a moment (``_partition``, ``_offset`` and ``_version`` say which), but never misses one. A change is known by
its mark, (offset, version): offsets alone begin anew when a topic is made anew. Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

from tailrace.sink import parquet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    Mark = tuple[int, int]

    from tailrace.change import Change
    from tailrace.targets import LakeTable

SUFFIX = ".parquet"
MICROSECONDS_A_DAY = 86_400_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_NAME = re.compile(r"/dt=[^/]+/p(\d+)-(\d{12,})(?:-[0-9a-f]+)?\.parquet$")


def prefix(target: LakeTable) -> str:
    """Return what the keys of all objects of a table begin with."""
    return f"{target.zone}/{target.table}/"


def day(committed_us: int) -> str:
    """Return the UTC date of an instant, YYYY-MM-DD."""
    return date.fromordinal(_EPOCH_DAY + committed_us // MICROSECONDS_A_DAY).isoformat()


def key(target: LakeTable, dt: str, partition: int, first: int) -> str:
    """Return the key of an object."""
    return f"{prefix(target)}dt={dt}/p{partition}-{first:012d}{SUFFIX}"


def place(name: str) -> tuple[int, int] | None:
    """Return partition and first offset in the key of an object; None when the key is not one of ours."""
    found = _NAME.search(name)
    return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True, slots=True)
class LakeObject:
    """One object to be written: its key, its bytes, the changes in it."""

    key: str
    body: bytes
    changes: Sequence[Change]

    @property
    def marks(self) -> set[Mark]:
        """The marks of its changes."""
        return {(change.offset, change.version) for change in self.changes}

    @property
    def metadata(self) -> dict[str, str]:
        """The user metadata: what it holds, and a digest that tells our own earlier attempt from another's object."""
        return {
            "first-offset": str(self.changes[0].offset),
            "last-offset": str(self.changes[-1].offset),
            "rows": str(len(self.changes)),
            "digest": hashlib.blake2b(self.body, digest_size=16).hexdigest(),
        }


def cut(target: LakeTable, rows: parquet.Rows) -> list[LakeObject]:
    """Return the objects of one batch of one partition, which is in offset order: one per source commit date."""
    days = [change.committed_us // MICROSECONDS_A_DAY for change in rows.kept]
    if len(set(days)) <= 1:
        return [_object(target, rows.kept, rows.arrow)] if days else []
    by_day: dict[int, list[int]] = {}
    for index, number in enumerate(days):
        by_day.setdefault(number, []).append(index)
    return [
        _object(target, [rows.kept[index] for index in indexes], rows.arrow.take(pa.array(indexes, pa.int64())))
        for indexes in by_day.values()
    ]


def _object(target: LakeTable, changes: Sequence[Change], table: pa.Table) -> LakeObject:
    first = changes[0]
    name = key(target, day(first.committed_us), first.partition, first.offset)
    return LakeObject(name, parquet.encode(table), changes)


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object that was there before: ``etag`` is the content that was seen, ``marks`` None until it was read."""

    key: str
    first: int
    etag: str
    marks: frozenset[Mark] | None = None

    @property
    def second_name(self) -> str:
        """The key under which its content is kept when its name is needed; it depends on the content alone."""
        return f"{self.key.removesuffix(SUFFIX)}-{self.etag.strip(chr(34))[:8]}{SUFFIX}"

    def covered(self, marks: AbstractSet[Mark]) -> bool:
        """Say whether every change in it is among ``marks``."""
        return self.marks is not None and self.marks <= marks


@dataclass
class Lane:
    """One assignment of one partition: where it began, what was there, what this lane has written since."""

    partition: int
    start: int
    listed: bool = False
    through: int = -1
    leftovers: dict[str, Leftover] = field(default_factory=dict)
    written: set[Mark] = field(default_factory=set)

    def found(self, listing: Iterable[tuple[str, str]]) -> None:
        """Take the (key, etag) pairs of all objects of the table, and keep this partition's leftovers."""
        for name, etag in listing:
            known = place(name)
            if known is not None and known[0] == self.partition and known[1] >= self.start:
                self.leftovers[name] = Leftover(name, known[1], etag)
        self.listed = True

    def learn(self, leftover: Leftover, marks: frozenset[Mark]) -> Leftover:
        """Remember which changes a leftover holds."""
        known = replace(leftover, marks=marks)
        self.leftovers[leftover.key] = known
        return known

    def moved(self, leftover: Leftover, etag: str) -> None:
        """Say that a leftover's content now lives under its second name too."""
        name = leftover.second_name
        self.leftovers[name] = replace(leftover, key=name, etag=etag)

    def wrote(self, objects: Iterable[LakeObject], through: int) -> None:
        """Say that these objects are durable, and that the batch they came from ended at ``through``."""
        self.through = max(self.through, through)
        if self.leftovers:
            self.written.update(*(item.marks for item in objects))

    def due(self) -> list[Leftover]:
        """Return the leftovers that may hold nothing but what this lane has written."""
        return [leftover for leftover in self.leftovers.values() if leftover.first <= self.through]

    def over(self, leftover: Leftover) -> bool:
        """Say whether this lane has passed the end of a leftover."""
        return leftover.marks is not None and all(offset <= self.through for offset, _ in leftover.marks)

    def settle(self, leftover: Leftover) -> None:
        """Forget a leftover, and the marks that no other one needs."""
        del self.leftovers[leftover.key]
        oldest = min((other.first for other in self.leftovers.values()), default=self.through + 1)
        self.written = {mark for mark in self.written if mark[0] >= oldest}
