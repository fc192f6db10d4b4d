"""What ``verify`` found, as values that people and machines are shown.

Keys and names of fields are part of it; values of rows are only there when they were asked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["missing", "extra", "resurrected", "stale", "different", "rejected", "unsettled"]
KINDS: tuple[Kind, ...] = ("missing", "extra", "resurrected", "stale", "different", "rejected", "unsettled")


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is not as it should be.

    ``key`` is the store's own key as text; ``row`` the row's key columns, None where the store does not say which.
    missing: the row is in Postgres only · extra: it is in the store only · resurrected: so it is, though its newest
    record is a delete · different: ``fields`` differ · stale: they do, and are what an older version of the row had ·
    rejected: the row cannot be a record (``reason``), the worker has parked it · unsettled: it changed each time it was
    looked at, and Kafka did not say what it was
    """

    kind: Kind
    key: str
    fields: tuple[str, ...] = ()
    reason: str = ""
    expected: Mapping[str, Any] | None = None
    actual: Mapping[str, Any] | None = None
    row: tuple[str, ...] | None = None

    def named(self, kind: Kind) -> Difference:
        """Return the same under another kind."""
        return replace(self, kind=kind)


@dataclass
class Check:
    """One captured table against one sink target; ``equal`` rows were the same by key and by value.

    ``moving`` of those never stood still: they are what their raw topic says of them at the marked position or later.
    ``unchanged`` of those were not read row by row: they were equal once, and neither side has changed since.
    ``position`` is what everything compared was as new as; keys that were looked at again are newer.
    """

    table: str
    sink: str
    store: str
    equal: int = 0
    differences: list[Difference] = field(default_factory=list)
    moving: int = 0
    unchanged: int = 0
    position: str = ""

    def count(self, kind: Kind) -> int:
        """Return how many differences of one kind there are."""
        return sum(difference.kind == kind for difference in self.differences)

    @property
    def compared(self) -> int:
        """How many keys were looked at, in the source or in the store."""
        return self.equal + len(self.differences)

    def as_dict(self, examples: int) -> dict[str, Any]:
        """Return the check for ``--json``, with at most ``examples`` differences of each kind."""
        shown = [asdict(difference) for kind in KINDS for difference in self.examples(kind, examples)]
        found: dict[str, Any] = {"table": self.table, "sink": self.sink, "store": self.store}
        found |= {"compared": self.compared, "equal": self.equal, "moving": self.moving}
        found |= {"unchanged": self.unchanged, "position": self.position}
        found |= {kind: self.count(kind) for kind in KINDS}
        return {**found, "examples": shown}

    def examples(self, kind: Kind, limit: int) -> Sequence[Difference]:
        """Return the first differences of one kind, by key."""
        found = sorted((entry for entry in self.differences if entry.kind == kind), key=lambda entry: entry.key)
        return found[:limit]


@dataclass
class Report:
    """All checks. ``faults`` are about a store as a whole; ``unverified`` names sinks that nobody can read back.

    ``seed`` drew the unchanged ranges that were compared all the same.
    ``notes`` say what was compared where it is not every value.
    """

    checks: list[Check]
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    seed: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every row of every table is in every store, and nothing else is."""
        return not self.faults and not any(check.differences for check in self.checks)

    def as_dict(self, examples: int = 5) -> dict[str, Any]:
        """Return the report for ``--json``."""
        return {
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "checks": [check.as_dict(examples) for check in self.checks],
            "faults": self.faults,
            "unverified": self.unverified,
            "seed": self.seed,
            "notes": self.notes,
        }
