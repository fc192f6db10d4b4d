"""What ``verify`` found, as values that people and machines are shown.

Keys and names of fields are part of it; values of rows are only there when they were asked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["missing", "extra", "different", "rejected", "unsettled"]
KINDS: tuple[Kind, ...] = ("missing", "extra", "different", "rejected", "unsettled")


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is not as it should be.

    ``key`` is the store's own key as text; ``row`` the row's key columns, None where the store does not say which.
    missing: the row is in Postgres only · extra: it is in the store only · different: ``fields`` differ · rejected: the
    row cannot be a record (``reason``), the worker has parked it · unsettled: it changed each time it was looked at
    """

    kind: Kind
    key: str
    fields: tuple[str, ...] = ()
    reason: str = ""
    expected: Mapping[str, Any] | None = None
    actual: Mapping[str, Any] | None = None
    row: tuple[str, ...] | None = None


@dataclass
class Check:
    """One captured table against one sink target; ``equal`` rows were the same by key and by value."""

    table: str
    sink: str
    store: str
    equal: int = 0
    differences: list[Difference] = field(default_factory=list)

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
        found |= {"compared": self.compared, "equal": self.equal}
        found |= {kind: self.count(kind) for kind in KINDS}
        return {**found, "examples": shown}

    def examples(self, kind: Kind, limit: int) -> Sequence[Difference]:
        """Return the first differences of one kind, by key."""
        found = sorted((entry for entry in self.differences if entry.kind == kind), key=lambda entry: entry.key)
        return found[:limit]


@dataclass
class Report:
    """All checks. ``faults`` are about a store as a whole; ``unverified`` names sinks that nobody can read back."""

    checks: list[Check]
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)

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
        }
