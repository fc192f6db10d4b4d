"""Ranges of a table's keys, what was proved of each, and which of them have to be compared again. Pure.

A table is cut by the first column of its key, where that is a whole number or a UUID: their order is the same in
Postgres, in OpenSearch and here. Any other table is one range. A range that was equal row by row is equal still when
its digest in the source and its digest in the store are both what they were then: that is all that ``suspects`` uses.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from tailrace.contract import Contract
    from tailrace.control.verify.source import Key
    from tailrace.source.catalogue import Table

ROWS, MOST = 512, 20_000  # rows of a range when it is cut; more where a table would have too many ranges
MOST_SPANS = 500  # bounds in one question; where more are wanted, everything is asked for
GROWN = 4  # times as many rows as a range was cut for: then the table is cut anew
NOWHERE = -1  # the range of things that do not say which row they are
SAMPLED = 100  # about one range of so many is compared though nothing says that it changed
_NUMBERS, _MASK = ("int2", "int4", "int8"), (1 << 128) - 1
KINDS = {("int", "number"), ("long", "number"), ("uuid", "uuid")}
Span = tuple[int | str | None, int | str | None]


class Proof(NamedTuple):
    """What was true of one range of one store when it was equal row by row: both digests, how many, and where."""

    source: str
    store: str
    equal: int
    position: str


@dataclass(frozen=True, slots=True)
class Ranges:
    """Range ``n`` begins at bound ``n - 1`` and ends before bound ``n``; the first and the last are open."""

    column: str = ""
    kind: str = ""  # number or uuid
    bounds: tuple[int | str, ...] = ()

    def of(self, key: Key | None) -> int:
        """Return the range of a row, given by its key columns as text."""
        if not self.bounds:
            return 0
        if key is None:
            return NOWHERE
        try:
            return bisect_right(self.bounds, int(key[0]) if self.kind == "number" else str(UUID(key[0])))
        except ValueError:
            return NOWHERE

    def every(self) -> set[int]:
        """Return the numbers of all ranges."""
        return set(range(NOWHERE, len(self.bounds) + 1))

    def spans(self, numbers: Collection[int]) -> Iterator[Span]:
        """Yield the bounds of some ranges, neighbours as one; None where there is no bound on that side."""
        wanted = sorted(set(numbers) - {NOWHERE})
        while wanted:
            first = last = wanted.pop(0)
            while wanted and wanted[0] == last + 1:
                last = wanted.pop(0)
            low = self.bounds[first - 1] if first else None
            yield low, self.bounds[last] if last < len(self.bounds) else None


@dataclass(frozen=True, slots=True)
class Part:
    """Some ranges of a table: what a store is asked for."""

    ranges: Ranges
    numbers: frozenset[int]

    def has(self, key: Key | None) -> bool:
        """Say whether a row is in it."""
        return self.ranges.of(key) in self.numbers

    @property
    def spans(self) -> list[Span] | None:
        """The bounds of what is asked for; None where everything is."""
        if not self.ranges.bounds or NOWHERE in self.numbers:
            return None
        found = list(self.ranges.spans(self.numbers))
        return found if len(found) <= MOST_SPANS else None


class Tally:
    """Digests by range of whatever passes by: how many, and the sum of their fingerprints."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[int, int]] = {}

    def add(self, number: int, fingerprint: bytes) -> None:
        """Note one thing; the order does not matter."""
        count, total = self._sums.get(number, (0, 0))
        self._sums[number] = count + 1, (total + int.from_bytes(fingerprint)) & _MASK

    def digests(self) -> dict[int, str]:
        """Return a digest for each range that holds something."""
        return {number: f"{count}:{total:032x}" for number, (count, total) in self._sums.items()}


def cut_by(table: Table, contract: Contract) -> tuple[str, str]:
    """Return the column that a table is cut by and its kind; nothing where it is one range."""
    name = contract.key[0]
    column = table.by_name.get(name)
    kind = contract.by_name[name].kind
    sort = "" if column is None else "number" if column.type in _NUMBERS else column.type
    return (name, sort) if (kind, sort) in KINDS else ("", "")


def overgrown(digests: Mapping[int, str]) -> bool:
    """Say whether a range has so many more rows than when it was cut that the table should be cut anew."""
    counts = [int(digest.partition(":")[0]) for digest in digests.values()]
    return max(counts, default=0) > GROWN * max(ROWS, sum(counts) // MOST)


def suspects(
    ranges: Ranges, proofs: Mapping[int, Proof], source: Mapping[int, str], store: Mapping[int, str] | None
) -> set[int]:
    """Return the ranges that are not what they were when they were proved; ``store`` None is not looked at.

    A range without a digest holds nothing.
    """
    return {
        number
        for number in ranges.every()
        if (proof := proofs.get(number)) is None
        or proof.source != source.get(number, "")
        or (store is not None and proof.store != store.get(number, ""))
    }


def sample(unchanged: Collection[int], seed: int) -> set[int]:
    """Return the ranges to compare although they are what they were: each with a chance of one in a hundred."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    return {number for number in sorted(unchanged) if draw.random() < 1 / SAMPLED}
