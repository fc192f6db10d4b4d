"""``verify``, put together: read every table once, scan every store once, settle what is in doubt.

The caller says how to wait until everything committed has arrived (the barrier, or nothing). Memory holds a fingerprint
for each expected thing, nothing else. It writes nowhere.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from tailrace import evolution
from tailrace.control.services import PATIENCE
from tailrace.control.verify import expected
from tailrace.control.verify.compare import Doubt, Ledger
from tailrace.control.verify.dynamodb import DynamoDB
from tailrace.control.verify.expected import Unfit
from tailrace.control.verify.lake import Lake
from tailrace.control.verify.own import Own, readable
from tailrace.control.verify.report import Check, Difference, Report
from tailrace.control.verify.search import Search
from tailrace.control.verify.settle import Settling, settle
from tailrace.control.verify.source import Source, key_text
from tailrace.control.verify.store import Pair, Store
from tailrace.project import records
from tailrace.registry import Registry
from tailrace.targets import DynamoDBTable, LakeTable, SearchIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tailrace.conforming import ConformFunction, Row
    from tailrace.contract import Contract
    from tailrace.control.verify.source import Key
    from tailrace.project import Project
    from tailrace.targets import Sink, Target

ROUNDS = 5


def verify(
    project: Project,
    *,
    wait: Callable[[], object],
    rounds: int = ROUNDS,
    values: bool = False,
    only: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Compare every captured table with every declared target; ``only`` limits it to some sinks."""
    began = time.monotonic()
    wait()
    project = in_force(project, only)
    source = Source(project.endpoints.database(project.connector.database))
    with ExitStack() as opened:
        stores = [opened.enter_context(closing(store)) for store in open_stores(project, only)]
        jobs = [_Job(project, source, store, pair) for store in stores for pair in store.pairs]
        _expect(project, source, jobs, say)
        strangers = [check for store in stores for check in _scan(store, jobs, say)]
        work = [job.settling() for job in jobs]
        settle(work, wait=wait, rounds=rounds, values=values, say=say)
        faults = [fault for store in stores for fault in store.faults()]
    checks = [job.check(settled) for job, settled in zip(jobs, work, strict=True)]
    return Report([*checks, *strangers], time.monotonic() - began, faults, unverified(project, only))


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
    return isinstance(target, DynamoDBTable | LakeTable | SearchIndex) or readable(target)


def unverified(project: Project, only: Sequence[str] = ()) -> list[str]:
    """Return the sinks whose stores are the user's own and cannot be read back."""
    wanted = {sink: targets for sink, targets in project.sinks.items() if not only or sink in only}
    return [sink for sink, targets in wanted.items() if not all(map(_provable, targets))]


class _Job:
    """One pair on its way through a verify."""

    def __init__(self, project: Project, source: Source, store: Store, pair: Pair) -> None:
        self.store, self.pair = store, pair
        self.ledger = Ledger()
        self._source, self._function = source, project.functions.get(pair.table)
        self._rejected: list[Doubt] = []

    def expect(self, record: Mapping[str, Any], key: Key) -> None:
        """Note what a record has to be in this store."""
        try:
            identity, fields = self.store.expected(self.pair, record)
        except Unfit:
            self.reject(key)
        else:
            self.ledger.expect(identity, fields, key)

    def reject(self, key: Key) -> None:
        """Note a row that cannot be a record, or not in this store; it is looked at again with the doubts."""
        self._rejected.append(Doubt(None, key))

    def settling(self) -> Settling:
        """Return the doubts, to be settled; a rejected row stands for whatever the store has under its key."""
        rejected = {doubt.key for doubt in self._rejected}
        doubts = [doubt for doubt in self.ledger.close() if doubt.key not in rejected]
        return Settling(self._source, self.store, self.pair, self._function, [*doubts, *self._rejected])

    def check(self, settled: Settling) -> Check:
        """Return the result."""
        target = f"{type(self.store).__name__} {self.store.name}"
        equal = self.ledger.equal + settled.settled_equal
        return Check(self.pair.table, self.pair.sink, target, equal, settled.differences)


def _expect(project: Project, source: Source, jobs: Sequence[_Job], say: Callable[[str], None]) -> None:
    """Read every table once, for all its targets."""
    for table in project.connector.tables:
        takers = [job for job in jobs if job.pair.table == table]
        if takers:
            contract = takers[0].pair.contract  # one record for each table, whatever takes it
            count = read(source.rows(table), contract, project.functions.get(table), takers)
            say(f"read {count} rows of {table}")


def read(rows: Iterable[Row], contract: Contract, function: ConformFunction | None, takers: Sequence[_Job]) -> int:
    """Conform rows and tell every taker what to expect; return how many there were."""
    count = 0
    for row in rows:
        count += 1
        key = tuple([key_text(row[name]) for name in contract.key])
        try:
            record = expected.record(row, contract, function)
        except Unfit:
            for job in takers:
                job.reject(key)
            continue
        if record is not None:
            for job in takers:
                job.expect(record, key)
    return count


def _scan(store: Store, jobs: Sequence[_Job], say: Callable[[str], None]) -> list[Check]:
    """Read one store; what belongs to no declared record is a check of its own."""
    ledgers: dict[str, list[Ledger]] = {}
    for job in jobs:
        if job.store is store:
            ledgers.setdefault(job.pair.table, []).append(job.ledger)
    strangers: list[Difference] = []
    count = 0
    for seen in store.scan():
        count += 1
        if seen.pair is None:
            strangers.append(Difference("extra", seen.identity, reason="it belongs to no declared record"))
        else:
            takers = ledgers[seen.pair.table]  # several where one record has several shapes in one table
            own = next(job.ledger for job in jobs if job.pair is seen.pair)
            taker = next((ledger for ledger in takers if ledger.wants(seen.identity)), own)
            taker.see(seen.identity, seen.fields, seen.key)
    say(f"read {count} things in {type(store).__name__} {store.name}")
    name = f"{type(store).__name__} {store.name}"
    return [Check("(none)", store.pairs[0].sink, name, 0, strangers)] if strangers else []
