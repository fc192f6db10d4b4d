"""What a drill found, as values: what struck when, the lag, what was committed and counted, and the proof."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.control.verify import Report
    from tailrace.drill.watch import Sample


@dataclass(frozen=True, slots=True)
class Struck:
    """One fault, in seconds since the drill began; ``recovered`` is None where the next one came first.

    ``met`` is how many connections, calls or pieces of data met a bad way; None for faults of other kinds. ``waited``
    says that the next one was to come when the pipeline was live again, and not before, for a minute.
    """

    name: str
    began: float
    ended: float
    recovered: float | None
    met: int | None = None
    waited: bool = False


@dataclass(frozen=True, slots=True)
class Quiet:
    """A moment at which everything stood still: when, after how many seconds, and the money in every store."""

    at: float
    seconds: float
    balances: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether no money had come or gone in any store."""
        return len(set(self.balances.values())) == 1


@dataclass
class Found:
    """One drill. ``keys`` says when primary keys changed, ``members`` what workers were in their groups."""

    seed: int
    seconds: float
    keys: str
    members: str = ""
    struck: Sequence[Struck] = ()
    samples: Sequence[Sample] = ()
    quiet: Sequence[Quiet] = ()
    committed: Mapping[str, Any] = field(default_factory=dict)
    counted: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # by worker, over all its lives
    duplicates: Mapping[str, int] = field(default_factory=dict)
    quiet_seconds: float = 0.0  # from the last change until every store had everything
    parked: Mapping[str, int] = field(default_factory=dict)
    balances: Mapping[str, str] = field(default_factory=dict)  # nothing where the project is not the bank
    verified: Report | None = None
    repaired: Report | None = None
    trouble: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether every store was equal to the source without a repair, and no money came or went at any time."""
        same = len(set(self.balances.values())) <= 1 and all(moment.ok for moment in self.quiet)
        return self.verified is not None and self.verified.ok and same and not self.parked and not self.trouble

    def recovery(self) -> dict[str, float | int | None]:
        """Return how long it took to be live again: the median and the longest, and how many faults never saw it."""
        known = sorted(struck.recovered for struck in self.struck if struck.recovered is not None)
        return {
            "p50": known[len(known) // 2] if known else None,
            "max": known[-1] if known else None,
            "overtaken": len(self.struck) - len(known),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {
            "ok": self.ok,
            "seed": self.seed,
            "seconds": self.seconds,
            "keys": self.keys,
            "members": self.members,
            "faults": [asdict(struck) for struck in self.struck],
            "recovery_seconds": self.recovery(),
            "lag": [asdict(sample) for sample in self.samples],
            "quiet": [{**asdict(moment), "ok": moment.ok} for moment in self.quiet],
            "committed": dict(self.committed),
            "workers": {worker: dict(counts) for worker, counts in self.counted.items()},
            "duplicates": dict(self.duplicates),
            "quiet_seconds": self.quiet_seconds,
            "parked": dict(self.parked),
            "balances": dict(self.balances),
            "verify": None if self.verified is None else self.verified.as_dict(),
            "repaired": None if self.repaired is None else self.repaired.as_dict(),
            "trouble": list(self.trouble),
        }
