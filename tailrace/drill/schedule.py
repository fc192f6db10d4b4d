"""Which fault strikes when: drawn from a seed, so that a run can be had again. Pure.

Faults follow each other, one at a time, with a pause in which the pipeline may recover or not: some pauses are shorter
than a recovery takes. Nothing strikes in the last seconds, so that the end is about convergence and not about a start.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tailrace.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST, LAST = 5.0, 15.0  # seconds without faults at the beginning and at the end
KILL_WORKER, PAUSE_WORKER, SCALE = "kill-worker", "pause-worker", "scale"
KILL_SERVER, PAUSE_SERVER, RESTART_CONNECTOR = "kill-server", "pause-server", "restart-connector"
KINDS = (KILL_WORKER, PAUSE_WORKER, SCALE, KILL_SERVER, PAUSE_SERVER, RESTART_CONNECTOR)
# Seconds that a fault lasts: how long a process is stopped, a server is down, or a second instance works.
LASTING = {
    KILL_WORKER: (0.0, 0.0), PAUSE_WORKER: (2.0, 20.0), SCALE: (8.0, 20.0), KILL_SERVER: (0.0, 8.0),
    PAUSE_SERVER: (2.0, 10.0), RESTART_CONNECTOR: (0.0, 0.0),
}  # fmt: skip
PAUSES = (1.0, 18.0)  # seconds between the end of one fault and the next one
# Servers in whose crash Debezium 3.7 may lose the second half of a key change (docs/debezium.md).
HALVING = ("connect", "kafka", "postgres")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: seconds after the one before it ended, what it is, whom it strikes, how many seconds it lasts."""

    pause: float
    kind: str
    target: str
    lasts: float

    @property
    def name(self) -> str:
        """Return it as people read it."""
        return f"{self.kind} {self.target}".strip()


def draw(
    seed: int, seconds: float, *, kinds: Sequence[str], workers: Sequence[str], servers: Sequence[str]
) -> list[Fault]:
    """Return the faults of a drill of so many seconds; the same arguments give the same faults."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"There is no fault {', '.join(unknown)}.", hint=f"Known: {', '.join(KINDS)}.")
    targets = {kind: _targets(kind, workers, servers) for kind in kinds}
    possible = [kind for kind in kinds if targets[kind]]
    rng = Random(f"{seed}/{seconds}")  # noqa: S311 - choices of a drill, not secrets
    found: list[Fault] = []
    spent = FIRST
    while possible:
        kind = rng.choice(possible)
        fault = Fault(
            round(rng.uniform(*PAUSES), 1), kind, rng.choice(targets[kind]), round(rng.uniform(*LASTING[kind]), 1)
        )
        spent += fault.pause + fault.lasts
        if spent > seconds - LAST:
            break
        found.append(fault)
    return found


def may_halve_keys(faults: Sequence[Fault]) -> bool:
    """Say whether one of the faults can make Debezium lose the second half of a key change."""
    return any(fault.kind == RESTART_CONNECTOR or fault.target in HALVING for fault in faults)


def _targets(kind: str, workers: Sequence[str], servers: Sequence[str]) -> Sequence[str]:
    if kind in (KILL_WORKER, PAUSE_WORKER, SCALE):
        return workers
    return servers if kind in (KILL_SERVER, PAUSE_SERVER) else ("connector",)
