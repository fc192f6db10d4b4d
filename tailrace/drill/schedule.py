"""Which fault strikes when: drawn from a seed, so that a run can be had again. Pure.

Faults are dealt in rounds: in each, every worker and every server is killed once, and every other kind strikes once,
each time somewhere else, in an order of its own. After a fault the next one waits until the pipeline is live again, or
comes soon, recovered or not, or strikes while it still lasts. Nothing strikes in the last seconds, so that the end is
about convergence and not about a start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

from tailrace.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FIRST, LAST = 3.0, 6.0  # seconds without faults at the beginning and at the end
KILL_WORKER, KILL_WORKERS, PAUSE_WORKER = "kill-worker", "kill-workers", "pause-worker"
ZOMBIE, SCALE = "zombie", "scale"
KILL_SERVER, PAUSE_SERVER, RESTART_CONNECTOR = "kill-server", "pause-server", "restart-connector"
REFUSE, SILENT, SLOW, CUT, LOSE = "refuse", "silent", "slow", "cut", "lose-answers"
OF_WORKERS = (KILL_WORKER, KILL_WORKERS, PAUSE_WORKER, ZOMBIE, SCALE)
OF_NETWORK = (REFUSE, SILENT, SLOW, CUT, LOSE)
KINDS = (*OF_WORKERS, KILL_SERVER, PAUSE_SERVER, RESTART_CONNECTOR, *OF_NETWORK)
EACH = (KILL_WORKER, KILL_SERVER)  # kinds that strike every target once in a round
SERVERS = ("postgres", "kafka", "connect", "registry", "dynamodb", "s3", "opensearch")
# Ways that a proxy stands in: those of the workers, and Debezium's to Postgres.
SPOKEN = ("registry", "dynamodb", "s3", "opensearch")  # in HTTP, so that single calls can be refused
CARRIED = (*SPOKEN, "kafka", "postgres")
EVERYBODY, CONNECTOR = "all", "connector"
# Seconds that a fault lasts: how long a process is stopped, a server is down, a second instance works, a way is bad.
# A zombie sleeps longer than a group waits for a silent member (10 s), so that its place is taken.
LASTING = {
    KILL_WORKER: (0.0, 0.0), KILL_WORKERS: (0.0, 0.0), PAUSE_WORKER: (2.0, 20.0), ZOMBIE: (14.0, 20.0),
    SCALE: (8.0, 15.0),
    KILL_SERVER: (0.0, 6.0), PAUSE_SERVER: (2.0, 10.0), RESTART_CONNECTOR: (0.0, 0.0),
    REFUSE: (3.0, 10.0), SILENT: (2.0, 10.0), SLOW: (4.0, 12.0), CUT: (2.0, 8.0), LOSE: (3.0, 8.0),
}  # fmt: skip
AWAKE = 3.0  # seconds for which a zombie is awake while its successor works
LIVE_AGAIN, SOON, BESIDE = "live again", "soon", "beside"
PAUSES: Mapping[str, tuple[float, float]] = {LIVE_AGAIN: (0.5, 3.0), SOON: (1.0, 8.0), BESIDE: (0.5, 3.0)}
WEIGHTS: Mapping[str, float] = {LIVE_AGAIN: 6, SOON: 2, BESIDE: 2}
RECOVERS = 8.0  # seconds that are reckoned with for being live again
# Servers in whose crash Debezium 3.7 may lose the second half of a key change (docs/debezium.md).
HALVING = ("connect", "kafka", "postgres", CONNECTOR)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what it is, whom it strikes, how many seconds it lasts, and how hard (0 to 1) where that varies.

    ``then`` says when the next one comes, ``pause`` how many seconds after that.
    """

    kind: str
    target: str
    lasts: float = 0.0
    force: float = 1.0
    then: str = LIVE_AGAIN
    pause: float = 0.0

    @property
    def name(self) -> str:
        """Return it as people read it."""
        return f"{self.kind} {self.target}".strip()

    @property
    def halves(self) -> bool:
        """Whether it can make Debezium lose the second half of a key change."""
        return self.target in HALVING and not (self.kind in OF_NETWORK and self.target == "kafka")

    @property
    def expected(self) -> float:
        """How many seconds it takes at most, with what follows, on a machine that has time."""
        return self.lasts + self.pause + (RECOVERS if self.then == LIVE_AGAIN else 0.0)


def draw(
    seed: int,
    seconds: float,
    *,
    kinds: Sequence[str],
    workers: Sequence[str],
    servers: Sequence[str] = SERVERS,
    rounds: int = 0,
    only: Sequence[str] = (),
) -> list[Fault]:
    """Return the faults of a drill of about so many seconds, or of so many whole rounds; the same again for the same.

    Seconds are those that faults last and the pauses between them; being live again is reckoned with, not waited for.
    ``only`` names the workers and servers that are struck where not all are; faults of all at once then do not happen.
    """
    _known("fault", kinds, KINDS)
    _known("worker or server", only, (*workers, *servers))
    rng = Random(f"{seed}/{seconds}/{rounds}")  # noqa: S311 - choices of a drill, not secrets
    targets = {kind: _targets(kind, workers, servers) for kind in dict.fromkeys(kinds)}
    if only:
        targets = {kind: [name for name in found if name in only] for kind, found in targets.items()}
    dealt = _deal(rng, {kind: found for kind, found in targets.items() if found})
    found: list[Fault] = []
    spent = FIRST + LAST
    for number, portion in enumerate(dealt):
        if rounds and number == rounds:
            break
        for fault in portion:
            spent += fault.expected
            if not rounds and spent > seconds:
                return _apart(found)
            found.append(fault)
    return _apart(found)


def _known(what: str, named: Sequence[str], there: Sequence[str]) -> None:
    unknown = [name for name in named if name not in there]
    if unknown:
        raise UsageError(f"There is no {what} {', '.join(unknown)}.", hint=f"Known: {', '.join(there)}.")


def rests(count: int) -> set[int]:
    """Return behind which of so many faults the workload rests: a third and two thirds of the way."""
    return {count // 3, 2 * count // 3} if count >= 6 else {count // 2} if count >= 2 else set()


def settled_members(seed: int) -> bool:
    """Say whether workers are static members of their groups in a drill: half of the seeds."""
    return Random(f"{seed}/members").random() < 0.5  # noqa: S311 - a choice of a drill, no secret


def _deal(rng: Random, targets: Mapping[str, Sequence[str]]) -> Iterator[list[Fault]]:
    """Yield one round after the other, for ever; nothing where no fault is possible."""
    decks: dict[str, list[str]] = {kind: [] for kind in targets}
    while targets:
        cards: list[tuple[str, str]] = []
        for kind, possible in targets.items():
            if kind in EACH:
                cards += [(kind, target) for target in possible]
                continue
            if not decks[kind]:
                decks[kind] = rng.sample(list(possible), len(possible))
            cards.append((kind, decks[kind].pop()))
        rng.shuffle(cards)
        yield [_fault(rng, kind, target) for kind, target in cards]


def _fault(rng: Random, kind: str, target: str) -> Fault:
    then = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    lasts, pause = round(rng.uniform(*LASTING[kind]), 1), round(rng.uniform(*PAUSES[then]), 1)
    return Fault(kind, target, lasts, round(rng.uniform(0.3, 1.0), 2), then, pause)


def _apart(faults: list[Fault]) -> list[Fault]:
    """Return the faults with those ``soon`` that cannot be beside the next one, or would be three at once."""
    found = list(faults)
    for at, (one, other) in enumerate(pairwise(faults)):
        third = at > 0 and found[at - 1].then == BESIDE
        if one.then == BESIDE and (third or not may_overlap(one, other)):
            found[at] = replace(one, then=SOON)
    if found and found[-1].then == BESIDE:
        found[-1] = replace(found[-1], then=SOON)
    return found


def may_overlap(one: Fault, other: Fault) -> bool:
    """Say whether two faults can be at work at once: not on one target, nor where one's end needs the other's."""
    if not one.lasts or one.target == other.target or EVERYBODY in (one.target, other.target):
        return False
    both_start = KILL_SERVER == one.kind == other.kind  # servers are started one by one
    return not both_start and not (one.target in HALVING and other.target in HALVING)


def _targets(kind: str, workers: Sequence[str], servers: Sequence[str]) -> Sequence[str]:
    if kind in OF_NETWORK:
        return [name for name in (SPOKEN if kind == REFUSE else CARRIED) if name in servers]
    if kind in (KILL_SERVER, PAUSE_SERVER):
        return servers
    if kind == RESTART_CONNECTOR:
        return (CONNECTOR,) if servers else ()
    return (EVERYBODY,) if kind == KILL_WORKERS and workers else workers
