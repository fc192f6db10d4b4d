"""The lake's raw zone as ``verify`` proves it: by offset and by key, because there is no row to compare a row with.

Of each raw topic that a sink takes: every offset from the first that Kafka or the zone has up to the one that the sink
has committed is there, once; and each row of the source has an envelope under its key, the newest of which is no
delete. Values are not compared: they are the topic's own bytes. Keys whose newest envelope is a row that the source no
longer has are counted and are no difference: of a TRUNCATE, a sweep or a repair the raw topic never had the deletes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tailrace import epoch, topics
from tailrace.control.lake import LakeFolder, LakeReader
from tailrace.control.verify.report import Check, Difference
from tailrace.control.verify.source import key_text
from tailrace.errors import Refused, Rejected
from tailrace.kafka import KafkaAdmin
from tailrace.source.envelope import EnvelopeReader
from tailrace.targets import RawLakeTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import duckdb

    from tailrace.control.verify.source import Key, Source, Version
    from tailrace.project import Project

    Wait = Callable[[], object]

SHOWN = 5  # holes that are named
ROWS = 50_000
ROW = "('c', 'u', 'r')"  # events after which a row is there
RUNS = """
WITH marks AS (SELECT _partition, _offset, _version, count(*) AS times FROM objects GROUP BY ALL)
SELECT _partition, _version >> 48 AS epoch, min(_offset), max(_offset), sum(times)::BIGINT
FROM (SELECT *, _offset - row_number() OVER (PARTITION BY _partition ORDER BY _version) AS island FROM marks)
GROUP BY _partition, epoch, island
"""
ALIVE = f"""
SELECT key FROM (
    SELECT key, _op, row_number() OVER (PARTITION BY key ORDER BY _version DESC) AS age
    FROM objects WHERE key IS NOT NULL
) WHERE age = 1 AND _op IN {ROW}
"""


class Unreadable(Exception):
    """The zone is not there, or not whole; the text says so."""


class Run(NamedTuple):
    """Consecutive offsets of one epoch; ``rows`` is more than there are offsets where some are stored twice."""

    partition: int
    epoch: int
    first: int
    last: int
    rows: int


@dataclass
class Proof:
    """What was found of one raw table: ``check`` by key, ``faults`` by offset, and what was compared, in words."""

    check: Check
    faults: list[str] = field(default_factory=list)
    note: str = ""


def gaps(runs: Iterable[Run], start: int, end: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the offsets of one partition that are missing and those that two epochs have, ends included.

    ``runs`` are those of the topic's present life; ``start`` is Kafka's oldest offset, below ``end`` all has to be.
    """
    missing, twice = [], []
    known = sorted(runs, key=lambda run: (run.first, run.epoch))
    position = min([start, *(run.first for run in known)])
    for run in known:
        if run.first > position:
            missing.append((position, run.first - 1))
        elif run.first < position:
            twice.append((run.first, min(run.last, position - 1)))
        position = max(position, run.last + 1)
    if position < end:
        missing.append((position, end - 1))
    return missing, twice


def zones(project: Project, source: Source, only: Sequence[str] = ()) -> list[RawZone]:
    """Return the raw tables that a project declares."""
    return [
        RawZone(project, source, sink, target)
        for sink, targets in project.sinks.items()
        for target in targets
        if isinstance(target, RawLakeTable) and (not only or sink in only)
    ]


class RawZone:
    """One raw table."""

    def __init__(self, project: Project, source: Source, sink: str, target: RawLakeTable) -> None:
        self._project, self._source, self._sink, self._target = project, source, sink, target
        self._admin, self._topic = KafkaAdmin(project.endpoints.kafka), topics.raw(project.name, target.table)
        self._group = topics.group(project.name, sink)
        folder = LakeFolder(
            project.endpoints.s3, project.settings.lake.bucket, target.zone, target.name, ("key",), raw=True
        )
        self._reader, self._place = LakeReader(folder), folder.path
        outbox = target.table in project.outboxes
        self._contract = None if outbox else project.contracts.get(project.record_of(target.table))
        keyed = project.connector.keys.get(target.table) or tuple(source.table(target.table).key)
        self._key = self._contract.key if self._contract else keyed

    def prove(self, *, wait: Wait, rounds: int, say: Callable[[str], None]) -> Proof:
        """Prove both; ``wait`` returns when everything committed before it has arrived."""
        with self._source.snapshot(self._target.table) as snapshot:
            rows = {tuple(key_text(row[name]) for name in self._key) for row in snapshot.rows()}
        wait()
        proof = Proof(Check(self._target.table, self._sink, f"RawLake {self._target.folder}"))
        records = extra = 0
        try:
            records = self._offsets(proof)
            alive = self._alive() if records or rows else set()
            proof.check.equal = len(rows & alive)
            extra = self._settle(rows ^ alive, proof.check, wait, rounds)
        except Unreadable as error:
            proof.faults.append(str(error))
        proof.note = self._told(records, extra)
        say(f"read {records} records of the raw zone {self._target.folder}")
        return proof

    def _offsets(self, proof: Proof) -> int:
        """Find what is missing or there twice; return how many records are there."""
        committed = self._admin.committed(self._group, [self._topic])  # before the zone is read: it is a promise
        starts = self._admin.starts([self._topic])
        recorded = epoch.read(self._admin, self._project.name)
        born = recorded.born(self._topic) if recorded else 1
        runs: dict[int, list[Run]] = defaultdict(list)
        found = [Run(*row) for row in self._ask(RUNS)] if any(end > 0 for end in committed.values()) else []
        for run in found:
            runs[run.partition].append(run)
        lines = [
            line
            for (_, number), end in sorted(committed.items())
            for line in self._faults(
                number, [run for run in runs[number] if run.epoch >= born], starts[self._topic, number], end
            )
        ]
        proof.faults += [f"{self._place}: {line}" for line in lines[:SHOWN]]
        if len(lines) > SHOWN:
            proof.faults.append(f"{self._place}: {len(lines) - SHOWN} more like that")
        repeated = sum(run.rows - (run.last - run.first + 1) for run in found)
        if repeated:
            proof.faults.append(f"{self._place}: {repeated} records are in two objects that the log names")
        return sum(run.rows for run in found)

    def _faults(self, number: int, runs: Sequence[Run], start: int, end: int) -> Iterator[str]:
        missing, twice = gaps(runs, start, max(0, end))
        for first, last in missing:
            gone = ", and Kafka no longer has them" if last < start else ""
            yield f"offsets {first} to {last} of partition {number} are missing{gone}"
        for first, last in twice:
            yield f"offsets {first} to {last} of partition {number} are there under two epochs"

    def _alive(self) -> set[Key]:
        """Return the keys, as the source writes them, whose newest envelope is that of a row."""
        ((newest,),) = self._ask(f"SELECT max(_version) FROM objects WHERE _op IN {ROW}")
        if newest is None:
            return set()
        ((sample,),) = self._ask(f"SELECT value FROM objects WHERE _version = {newest} AND _op IN {ROW} LIMIT 1")
        kinds = {each.name: each.kind for each in self._contract.fields} if self._contract else {}
        reader = EnvelopeReader(kinds, self._key)
        shape = reader.shape_of(sample)
        found: set[Key] = set()
        for (key,) in self._ask(ALIVE):
            try:
                row = reader.read_key(key, shape)
            except Rejected:
                continue  # a key of another shape: the table was keyed otherwise when it was written
            found.add(tuple(key_text(row[name]) for name in self._key))
        return found

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the answer to a query over the objects."""

        def take(connection: duckdb.DuckDBPyConnection, _: object) -> list[tuple[Any, ...]]:
            return list(connection.execute(sql).fetchall())

        try:
            return self._reader.ask(take)
        except Refused as error:
            raise Unreadable(error.problem) from error

    def _settle(self, doubts: set[Key], check: Check, wait: Wait, rounds: int) -> int:
        """Look again at keys that one side has, until they stand still; return how many the source does not have."""
        extra, left = 0, sorted(doubts)
        for _ in range(rounds):
            if not left:
                break
            before = self._versions(left)
            wait()
            alive, after = self._alive(), self._versions(left)
            still = [key for key in left if _stamp(before.get(key)) == _stamp(after.get(key))]
            left = sorted(set(left) - set(still))
            extra += sum(key in alive and key not in after for key in still)
            check.equal += sum(key in alive and key in after for key in still)
            lost = [key for key in still if key in after and key not in alive]
            check.differences += [
                Difference("missing", "|".join(key), row=key if self._contract else None) for key in lost
            ]
        check.differences += [Difference("unsettled", "|".join(key), row=key) for key in left]
        return extra

    def _versions(self, keys: Sequence[Key]) -> dict[Key, Version]:
        return self._source.versions(self._target.table, self._key, keys)

    def _told(self, records: int, extra: int) -> str:
        more = f"; {extra:,} keys are rows there that the source no longer has" if extra else ""
        return (
            f"raw zone {self._target.folder} ({self._sink}): compared by offset and key, not by value;"
            f" {records:,} records{more}"
        )


def _stamp(found: Version | None) -> str | None:
    return None if found is None else found.xmin
