"""One change of one record, as it travels from the conform processor to every sink, and its headers.

The headers are text, so that any Kafka tool can read them. ``Change`` is frozen: a sink never edits it.
Nothing here reads Kafka; ``tailrace.sink.worker`` makes Changes from messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailrace.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Headers = Sequence[tuple[str, bytes | None]]

VERSION = "tailrace.version"  # epoch << 48 | raw offset
OP = "tailrace.op"  # c u d r, as Debezium names them
LSN = "tailrace.lsn"  # of the change; empty for incremental-snapshot rows
COMMITTED = "tailrace.committed_us"  # source commit time, microseconds since 1970 UTC
TX = "tailrace.tx"  # source transaction id; empty when the source gave none
ORIGIN = "tailrace.origin"  # <raw topic>/<partition>/<offset>
MARKER = "tailrace.marker"  # of a raw record that is no row's: it only has a place in its partition
BEFORE = "tailrace.before"  # the record before it, framed Avro, where REPLICA IDENTITY FULL gives it


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one record.

    ``key`` holds the primary-key columns, ``value`` the whole record after the change or None for a delete,
    ``before`` the whole record before it where the source publishes that. ``topic``, ``partition`` and ``offset``
    say where this worker read it; ``raw_key``, ``raw_value`` and ``headers`` are the bytes it read, for dead letters.
    """

    record: str
    key: Mapping[str, Any]
    value: Mapping[str, Any] | None
    before: Mapping[str, Any] | None
    version: int
    op: str
    lsn: int | None
    committed_us: int
    tx: str
    origin: str
    topic: str
    partition: int
    offset: int
    raw_key: bytes | None
    raw_value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """One change that a sink can never write, and why; ``position`` is its index in the batch given to ``write``."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """The part of a Change that travels in headers."""

    version: int
    op: str
    lsn: int | None
    committed_us: int
    tx: str
    origin: str

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the Kafka headers of this provenance."""
        return [
            (VERSION, b"%d" % self.version),
            (OP, self.op.encode()),
            (LSN, b"" if self.lsn is None else b"%d" % self.lsn),
            (COMMITTED, b"%d" % self.committed_us),
            (TX, self.tx.encode()),
            (ORIGIN, self.origin.encode()),
        ]


def provenance(headers: Headers | None) -> Provenance:
    """Read the provenance of a conformed message, or raise Rejected(stage=decode)."""
    found = dict(headers or ())
    try:
        lsn = found[LSN]
        return Provenance(
            int(found[VERSION] or b""),
            (found[OP] or b"").decode(),
            int(lsn) if lsn else None,
            int(found[COMMITTED] or b""),
            (found[TX] or b"").decode(),
            (found[ORIGIN] or b"").decode(),
        )
    except (KeyError, ValueError) as error:
        raise Rejected(
            "The message lacks the headers of a conformed record.",
            stage="decode",
            detail=f"{type(error).__name__}: {error.args[0] if isinstance(error, KeyError) else 'not a number'}",
        ) from error
