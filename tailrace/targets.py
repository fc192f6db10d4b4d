"""What goes where: the declarations a user writes in sinks/*.py.

They are plain frozen values. The writers (tailrace.sink), the resources of ``plan`` and ``apply`` (tailrace.control)
and ``verify`` read them; none of them is registered anywhere: a worker finds them as module-level names.

Key templates look like ``"CUSTOMER#{customer_id}"``. Text values are rendered with ``%`` and ``#`` percent-encoded,
so that two different keys never render to the same string.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from string import Formatter
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.change import Change, Rejection

# Names of the attributes that Tailrace adds to what it writes.
VERSION_ATTRIBUTE = "_v"  # DynamoDB, number
RECORD_ATTRIBUTE = "_type"  # DynamoDB, the record's name
DELETED_ATTRIBUTE = "_deleted"  # DynamoDB, true on a tombstone item
TTL_ATTRIBUTE = "_ttl"  # DynamoDB, seconds since 1970, on tombstones and where ``ttl`` is declared
DELETED_FIELD = "tailrace_deleted"  # OpenSearch, true on a delete marker, which the alias filters out
POINTER = ("_s3", "bytes", "sha256")  # DynamoDB, the map that stands for a value which lies in an object of its own
LAKE_COLUMNS = ("_op", "_version", "_lsn", "_committed_at", "_partition", "_offset")


@runtime_checkable
class Sink(Protocol):
    """The contract of a store's writer, user's own included.

    ``write`` gets one batch of one partition, in offset order, and returns when every change is durable except the
    rejected ones, each named by its index. Several partitions may be written at once, from several threads.
    Writing a batch twice, or an old one after a new one, leaves the newest. It raises Retryable to get the same
    batch again later, and anything else to stop the worker. ``timeout`` is in seconds. ``records`` names the
    conformed records it wants. Progress is the worker's business alone.
    """

    @property
    def records(self) -> Sequence[str]:
        """Names of the conformed records that this sink takes."""

    def write(self, batch: Sequence[Change], *, timeout: float) -> Sequence[Rejection]:
        """Make the batch durable."""

    def close(self) -> None:
        """Release what was opened."""


@dataclass(frozen=True)
class Index:
    """A global secondary index: an item is in it only while the field named by ``when`` is true (or always)."""

    name: str
    pk: str
    sk: str
    when: str | None = None


@dataclass(frozen=True)
class Mirror:
    """The same item once more under another key; it is in none of the table's indexes."""

    pk: str
    sk: str


@dataclass(frozen=True)
class DynamoDBTable:
    """One record as items of one DynamoDB table; several records may share a table (single-table design).

    ``pk`` and ``sk`` are key templates over the record's fields, ``mirrors`` more keys under which every item is
    written; ``ttl`` names a timestamp field after which DynamoDB may remove the item; ``sets`` names arrays that are
    written as sets. ``write`` is how: "transact", a hundred puts in a call at twice the write units, or "put", each
    alone at half the cost and a fraction of the speed. ``oversize`` says what becomes of an item of more than 400 KB:
    a dead letter, or its largest values lie in the lake's bucket and the item points to them.
    """

    table: str
    record: str
    pk: str
    sk: str
    indexes: tuple[Index, ...] = ()
    ttl: str | None = None
    write: Literal["transact", "put"] = "transact"
    mirrors: tuple[Mirror, ...] = ()
    sets: tuple[str, ...] = ()
    oversize: Literal["reject", "s3"] = "reject"

    def __post_init__(self) -> None:
        """Refuse words that mean nothing."""
        for name, known in (("write", ("transact", "put")), ("oversize", ("reject", "s3"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} of a DynamoDBTable is one of {', '.join(known)}")

    @property
    def key_fields(self) -> tuple[str, ...]:
        """The record's fields that the item's key is made of."""
        return template_fields(self.pk) + template_fields(self.sk)

    @property
    def shapes(self) -> tuple[DynamoDBTable, ...]:
        """One table for each key that a record is written under: its own, with its indexes, then each mirror's."""
        own = replace(self, mirrors=())
        return (own, *(replace(own, pk=mirror.pk, sk=mirror.sk, indexes=()) for mirror in self.mirrors))


@dataclass(frozen=True)
class LakeTable:
    """One record as Parquet objects, ``<zone>/<table>/dt=YYYY-MM-DD/p<partition>-<first offset>.parquet``."""

    table: str
    record: str
    zone: str = "conformed"

    @property
    def folder(self) -> str:
        """Where its objects are in the lake's bucket."""
        return f"{self.zone}/{self.table}"


@dataclass(frozen=True)
class RawLakeTable:
    """Every record of a captured table's raw topic, byte for byte, as Parquet objects under ``<zone>/<name>/``.

    ``table`` is ``schema.table``. It is history beyond Kafka's retention: nothing is decoded, so nothing is refused.
    """

    name: str
    table: str
    zone: str = "raw"

    @property
    def folder(self) -> str:
        """Where its objects are in the lake's bucket."""
        return f"{self.zone}/{self.name}"


@dataclass(frozen=True)
class Text:
    """A string field to search by words, cut by ``analyzer``; each of ``also`` cuts it for a subfield of its name."""

    field: str
    analyzer: str = "standard"
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class GeoPoint:
    """A place on the map: the field ``name``, a point of Postgres (longitude first), or one made of two fields."""

    name: str
    lat: str = ""
    lon: str = ""


@dataclass(frozen=True)
class Object:
    """A json field whose ``properties`` are searched, by their types in OpenSearch; the others are only kept."""

    field: str
    properties: Mapping[str, str] = dataclass_field(hash=False)


@dataclass(frozen=True)
class Nested(Object):
    """A json field that holds an array of objects, each of which is searched by itself."""


@dataclass(frozen=True)
class SearchIndex:
    """One record as documents behind the alias ``alias``.

    ``fields`` limits what a document holds (every field of the record by default; the key is always there);
    ``text`` names the string fields to search by words, each with an exact ``.keyword`` beside it; ``analysis``
    declares analyzers of one's own. ``replicas`` None follows the cluster: one where there is a second node. While
    the worker is far behind, the index refreshes each ``load_refresh_seconds``; None leaves it alone.
    """

    alias: str
    record: str
    fields: tuple[str, ...] = ()
    text: tuple[str | Text, ...] = ()
    points: tuple[GeoPoint, ...] = ()
    objects: tuple[Object, ...] = ()
    analysis: Mapping[str, Any] = dataclass_field(default_factory=dict, hash=False)
    shards: int = 1
    replicas: int | None = None
    refresh_seconds: float = 1.0
    load_refresh_seconds: float | None = 30.0


RecordTarget = DynamoDBTable | LakeTable | SearchIndex  # what takes a conformed record
Target = RecordTarget | RawLakeTable


def template_fields(template: str) -> tuple[str, ...]:
    """Return the field names in a key template, in order."""
    return tuple(name for _, name, _, _ in Formatter().parse(template) if name)
