"""``verify``, put together: read the tables, read every store, settle what is in doubt.

The caller says how to wait until everything committed has arrived (the barrier, or nothing). Memory holds a fingerprint
for each expected thing, nothing else. It writes nowhere but in the folder for what is kept, where one is given.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tailrace import evolution
from tailrace.control.barrier import Crossed
from tailrace.control.services import PATIENCE, Services
from tailrace.control.verify.dynamodb import DynamoDB
from tailrace.control.verify.history import History
from tailrace.control.verify.kept import Kept
from tailrace.control.verify.lake import Lake
from tailrace.control.verify.meter import Meter
from tailrace.control.verify.own import Own, readable
from tailrace.control.verify.raw import zones
from tailrace.control.verify.replica import Replica
from tailrace.control.verify.report import Report
from tailrace.control.verify.search import Search
from tailrace.control.verify.settle import settle
from tailrace.control.verify.source import Source
from tailrace.control.verify.store import Pair, Store
from tailrace.control.verify.survey import Survey
from tailrace.project import records
from tailrace.registry import Registry
from tailrace.targets import DynamoDBTable, LakeTable, RawLakeTable, SearchIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.project import Project
    from tailrace.targets import Sink, Target

ROUNDS = 5
SEEDS = 1 << 32


@dataclass(frozen=True)
class Manner:
    """How a verify goes about it.

    ``folder`` is where proofs and progress are kept; None keeps nothing. ``resume`` goes on with the run that was
    interrupted there, ``changed`` compares only what is not as it was proved there, and a sample drawn by ``seed``.
    ``replica`` is the URL of a standby to read rows from, which may lag ``timeout`` seconds.
    """

    folder: Path | None = None
    resume: bool = False
    changed: bool = False
    seed: int | None = None
    replica: str = ""
    timeout: float = 120.0
    meter: Meter = field(default_factory=Meter)


def verify(
    project: Project,
    *,
    wait: Callable[[], object],
    rounds: int = ROUNDS,
    values: bool = False,
    only: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
    manner: Manner = Manner(),
) -> Report:
    """Compare every captured table with every declared target; ``only`` limits it to some sinks."""
    began = time.monotonic()
    source = _source(project, manner)

    def arrived() -> object:
        crossed = wait()
        source.catch_up()
        return crossed

    crossed = arrived()
    project = in_force(project, only)
    seed = (random.randrange(SEEDS) if manner.seed is None else manner.seed) if manner.changed else None  # noqa: S311 - no secret
    kept = None if manner.folder is None else Kept(manner.folder)
    with ExitStack() as opened:
        stores = [opened.enter_context(closing(store)) for store in open_stores(project, only)]
        survey = Survey(
            project, source, stores, meter=manner.meter, say=say, position=_position(crossed), kept=kept, seed=seed
        )
        strangers = survey.run(resume=manner.resume)
        history = History(opened.enter_context(Services(project)))
        work = [job.settling(source, project.functions.get(job.pair.table), history) for job in survey.jobs]
        settle(work, wait=arrived, rounds=rounds, values=values, say=say, history=history)
        faults = [fault for store in stores for fault in store.faults()]
    raw = [zone.prove(wait=arrived, rounds=rounds, say=say) for zone in zones(project, source, only)]
    pairs = list(zip(survey.jobs, work, strict=True))
    for job, _ in (pair for pair in pairs if pair[0].surprised(pair[1])):
        survey.forget(job)
        faults.append(f"{job.label}: a range whose digests said that nothing changed is not equal")
    if kept is not None:
        kept.end()
    checks = [job.check(settled) for job, settled in pairs]
    return Report(
        [*checks, *strangers, *(each.check for each in raw)],
        time.monotonic() - began,
        [*faults, *(fault for each in raw for fault in each.faults)],
        unverified(project, only),
        seed,
        [each.note for each in raw],
    )


def _source(project: Project, manner: Manner) -> Source:
    """Return what rows are read from: the database, or a standby of it."""
    url = project.endpoints.database(project.connector.database)
    if not manner.replica:
        return Source(url, manner.meter)
    replica = Replica(manner.replica, url, manner.timeout)
    replica.check()
    return Source(url, manner.meter, replica)


def _position(crossed: object) -> str:
    """Return a marked position as Postgres writes it; nothing where none was marked."""
    return f"{crossed.lsn >> 32:X}/{crossed.lsn & 0xFFFFFFFF:X}" if isinstance(crossed, Crossed) else ""


def in_force(project: Project, only: Sequence[str] = ()) -> Project:
    """Return the project under the contracts that the workers follow: the newest registered evolution of each file."""
    with closing(Registry(project.endpoints.registry, patience=PATIENCE)) as registry:
        return evolution.evolved(project, registry, records=[pair.contract.name for pair in _pairs(project, only)])


def open_stores(project: Project, only: Sequence[str] = ()) -> list[Store]:
    """Return the stores of a project's targets; records that share a DynamoDB table share its store."""
    stores: list[Store] = []
    shared: dict[str, list[Pair]] = {}
    for pair in _pairs(project, only):
        if isinstance(pair.target, DynamoDBTable):
            shared.setdefault(pair.target.table, []).append(pair)
        elif isinstance(pair.target, LakeTable):
            stores.append(Lake(pair, project.settings.lake.bucket, project.endpoints.s3))
        elif isinstance(pair.target, SearchIndex):
            stores.append(Search(pair, project.endpoints.opensearch))
        else:
            stores.append(Own(pair))
    bucket = project.settings.lake.bucket
    tables: list[Store] = [DynamoDB(table, pairs, project.endpoints, bucket) for table, pairs in shared.items()]
    return tables + stores


def _pairs(project: Project, only: Sequence[str]) -> list[Pair]:
    return [
        Pair(project.table_of(record), sink, project.contract(record), shape)
        for sink, targets in project.sinks.items()
        for target in targets
        if _provable(target) and (not only or sink in only)
        for record in records(target)
        for shape in (target.shapes if isinstance(target, DynamoDBTable) else (target,))
    ]


def _provable(target: Target | Sink) -> bool:
    return isinstance(target, DynamoDBTable | LakeTable | RawLakeTable | SearchIndex) or readable(target)


def unverified(project: Project, only: Sequence[str] = ()) -> list[str]:
    """Return the sinks whose stores are the user's own and cannot be read back."""
    wanted = {sink: targets for sink, targets in project.sinks.items() if not only or sink in only}
    return [sink for sink, targets in wanted.items() if not all(map(_provable, targets))]
