"""What ``verify`` asks of a store, the same for all.

A store renders expected records into its own form and yields what it really holds in that form: ``fields`` maps names
to plain values, equal exactly where the stored values are equal. ``identity`` is the store's own key as text. Markers
of deleted rows are never yielded: they are not there. Each store reads through its own client and writes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tailrace.contract import Contract
    from tailrace.control.verify.ranges import Part, Ranges
    from tailrace.targets import Sink, Target

Fields = dict[str, Any]
DIGEST = 16


@dataclass(frozen=True)
class Pair:
    """One captured table and one declared target of its record, in one sink."""

    table: str
    sink: str
    contract: Contract
    target: Target | Sink

    @cached_property
    def optional(self) -> tuple[str, ...]:
        """The fields that are null where a stored thing lacks them: it is older than the field. No others may lack."""
        return tuple(name for name, given in self.contract.defaults.items() if given is None)


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing found in a store. ``key`` holds the record's key columns as text, None where they cannot be read."""

    identity: str
    fields: Fields
    key: tuple[str, ...] | None
    pair: Pair | None  # None: it belongs to no declared record
    version: int | None = None  # of the change that made it, where the store keeps that


class Store(Protocol):
    """One place that is read as a whole: a DynamoDB table, an index, a table of the lake."""

    @property
    def name(self) -> str:
        """The place's own name."""

    @property
    def pairs(self) -> Sequence[Pair]:
        """What is declared for it."""

    def expected(self, pair: Pair, record: Mapping[str, Any]) -> tuple[str, Fields]:
        """Return identity and fields of a record as they have to be here, or raise Unfit."""

    def scan(self, part: Part | None = None) -> Iterator[Seen]:
        """Yield everything that is there, or at least what is in some ranges of the table's keys."""

    def digests(self, pair: Pair, ranges: Ranges) -> dict[int, str] | None:
        """Return a digest of each range that holds something, which the store makes itself; None where it cannot.

        A digest is another one after anything in the range was written, whoever did that.
        """

    def fetch(self, pair: Pair, identities: Sequence[str]) -> dict[str, Seen]:
        """Return what is there now under some identities; absent ones are left out."""

    def may_be_gone(self, fields: Fields) -> bool:
        """Say whether the store was told to remove such a thing by itself by now."""

    def faults(self) -> list[str]:
        """Return what is wrong with the place as a whole, one sentence each."""

    def close(self) -> None:
        """Release what was opened."""


def digest(fields: Mapping[str, Any]) -> bytes:
    """Return the fingerprint of fields; the order of names does not matter."""
    return hashlib.blake2b(repr(sorted(fields.items())).encode(), digest_size=DIGEST).digest()
