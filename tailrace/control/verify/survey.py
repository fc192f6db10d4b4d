"""One pass over tables and stores: what is expected is read from the source, then every store is read, once.

With digests (``kept``) it reads only ranges that are not what they were when they were proved, and a sample of the
others. A store that makes no digests itself is read as a whole; where it turns out then that it changed in a range
where the source did not, that range is read again. What a store was found to hold is kept at once, for ``--resume``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailrace.control.verify import expected
from tailrace.control.verify.expected import Unfit
from tailrace.control.verify.job import Job
from tailrace.control.verify.kept import TableProofs, fingerprint, named
from tailrace.control.verify.ranges import Part, Ranges, cut_by, overgrown, sample, suspects
from tailrace.control.verify.report import Check, Difference
from tailrace.control.verify.source import key_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tailrace.conforming import ConformFunction, Row
    from tailrace.contract import Contract
    from tailrace.control.verify.kept import Kept
    from tailrace.control.verify.meter import Meter
    from tailrace.control.verify.source import Snapshot, Source
    from tailrace.control.verify.store import Store
    from tailrace.project import Project


class Survey:
    """One pass; ``seed`` None reads everything, a number only what changed and a sample drawn by it."""

    def __init__(
        self,
        project: Project,
        source: Source,
        stores: Sequence[Store],
        *,
        meter: Meter,
        say: Callable[[str], None],
        position: str = "",
        kept: Kept | None = None,
        seed: int | None = None,
    ) -> None:
        self._project, self._source, self._stores = project, source, stores
        self._meter, self._say, self._kept, self._seed = meter, say, kept, seed
        self.jobs = [Job(store, pair, position, digesting=kept is not None) for store in stores for pair in store.pairs]
        _tell_apart(self.jobs)
        self._prints = {job.label: fingerprint(project, job.pair) for job in self.jobs} if kept else {}
        self._named = named(self._prints)
        self._read: dict[str, Any] = {}

    def run(self, *, resume: bool) -> list[Check]:
        """Read everything that no interrupted run has read; return a check for what belongs to no declared record."""
        if self._kept is not None:
            self._read = self._kept.resume(self._named) if resume else {}
            self._kept.read(self._named, self._read)
        for store in self._stores:
            for job, state in zip(self._of(store), self._read.get(self._key(store), {}).get("pairs", ()), strict=False):
                job.restore(state)
        todo = [store for store in self._stores if self._key(store) not in self._read]
        if len(todo) < len(self._stores):
            self._say(f"{len(self._stores) - len(todo)} of {len(self._stores)} stores were read before")
        for table in self._project.connector.tables:
            self._table(table, [job for store in todo for job in self._of(store) if job.pair.table == table])
        for store in todo:
            self._store(store)
        return [check for store in self._stores if (check := self._strangers(store)) is not None]

    def _of(self, store: Store) -> list[Job]:
        return [job for job in self.jobs if job.store is store]

    def _key(self, store: Store) -> str:
        """Return under which name a store is kept."""
        return self._of(store)[0].label

    def _table(self, table: str, jobs: Sequence[Job]) -> None:
        """Read a table once, for all its targets."""
        if not jobs:
            return
        with self._source.snapshot(table) as snapshot:
            if self._kept is not None:
                self._look(self._kept, snapshot, table, jobs)
            if any(job.suspects is None or job.suspects for job in jobs):
                count = self._expect(snapshot, table, jobs)
                self._say(f"read {count} rows of {table}")
            else:
                self._say(f"no range of {table} has changed")

    def _look(self, kept: Kept, snapshot: Snapshot, table: str, jobs: Sequence[Job]) -> None:
        """Cut the table into ranges, take their digests, and choose what is compared."""
        there, layout = kept.tables.get(table), self._source.layout(table)
        digests = snapshot.digests(there.ranges) if there is not None and there.layout == layout else None
        if there is None or digests is None or (self._seed is None and overgrown(digests)):
            column, kind = cut_by(self._source.table(table), jobs[0].pair.contract)
            there = TableProofs(layout, snapshot.cut(column, kind) if column else Ranges())
            kept.tables[table], digests = there, snapshot.digests(there.ranges)
        for job in jobs:
            job.ranges, job.source = there.ranges, digests
            if self._seed is not None:
                job.proofs = there.stores.get(self._under(job), {})
                job.before = job.store.digests(job.pair, job.ranges)
                changed = suspects(job.ranges, job.proofs, digests, job.before)
                job.sampled = sample(job.ranges.every() - changed, self._seed)
                job.suspects = job.wanted = changed | job.sampled
                self._say(f"{table} in {_name(job.store)}: {len(changed)} of {len(job.ranges.every())} ranges changed")

    def _under(self, job: Job) -> str:
        """Return under which name the proofs of a job are kept: another fingerprint is another name."""
        return f"{job.label} {self._prints[job.label]}"

    def _expect(self, snapshot: Snapshot, table: str, jobs: Sequence[Job]) -> int:
        """Read the rows that some jobs want and tell each what to expect."""
        contract, function = jobs[0].pair.contract, self._project.functions.get(table)
        ranges = jobs[0].ranges
        if all(job.wanted is not None for job in jobs):
            numbers = set().union(*(job.wanted or set() for job in jobs))
            return read(snapshot.rows(ranges, numbers), contract, function, jobs)
        return read(snapshot.rows(), contract, function, jobs)

    def _store(self, store: Store) -> None:
        """Read one store, and once more what has changed in it only."""
        jobs = self._of(store)
        if self._kept is not None and self._seed is None:
            for job in jobs:
                job.before = store.digests(job.pair, job.ranges)
        strangers = self._scan(store, jobs, first=True)
        late = {job.label: found for job in jobs if (found := job.late())}
        if late:
            for job in jobs:
                job.again(late.get(job.label, set()))
            for table in dict.fromkeys(job.pair.table for job in jobs if job.label in late):
                with self._source.snapshot(table) as snapshot:
                    self._expect(snapshot, table, [job for job in jobs if job.pair.table == table])
            self._scan(store, jobs, first=False)
        self._keep(store, jobs, strangers)

    def _scan(self, store: Store, jobs: Sequence[Job], *, first: bool) -> list[str]:
        """Read one store; return what belongs to no declared record."""
        if all(job.before is not None and job.wanted == set() for job in jobs):
            return []
        own = {id(job.pair): job for job in jobs}
        strangers: list[str] = []
        count = 0
        for seen in self._meter.over(_name(store), store.scan(part(jobs)), sum(job.ledger.left for job in jobs)):
            count += 1
            if seen.pair is None:
                strangers.append(seen.identity)
                continue
            job = own[id(seen.pair)]
            number = job.ranges.of(seen.key)
            if first:
                job.tally(seen, number)
            if job.wants(number):
                takers = (other for other in jobs if other.pair.table == job.pair.table)
                job.see(seen, next((each for each in takers if each.ledger.wants(seen.identity)), job), number)
        self._say(f"read {count} things in {_name(store)}")
        return strangers

    def _keep(self, store: Store, jobs: Sequence[Job], strangers: list[str]) -> None:
        """Close the jobs of a store, and keep what was found."""
        for job in jobs:
            job.close()
        self._read[self._key(store)] = {"pairs": [job.state() for job in jobs], "strangers": strangers}
        if self._kept is not None:
            for job in jobs:
                stores = self._kept.tables[job.pair.table].stores
                for old in [name for name in stores if name.rpartition(" ")[0] == job.label]:
                    del stores[old]
                stores[self._under(job)] = job.proved()
            self._kept.save()
            self._kept.read(self._named, self._read)

    def forget(self, job: Job) -> None:
        """Forget every proof of a job."""
        if self._kept is not None:
            self._kept.tables[job.pair.table].stores.pop(self._under(job), None)
            self._kept.save()

    def _strangers(self, store: Store) -> Check | None:
        reason = "it belongs to no declared record"
        found = [Difference("extra", name, reason=reason) for name in self._read[self._key(store)]["strangers"]]
        return Check("(none)", store.pairs[0].sink, _name(store), 0, found) if found else None


def _tell_apart(jobs: Sequence[Job]) -> None:
    """Give a number to the jobs that have one label: shapes of a record in one table, sinks of one class."""
    labels: dict[str, int] = {}
    for job in jobs:
        labels[job.label] = labels.get(job.label, 0) + 1
        job.label += f"/{labels[job.label]}"


def part(jobs: Sequence[Job]) -> Part | None:
    """Return the ranges that a store has to be read for: everything, unless one job alone says what it wants.

    A store that makes no digests is read as a whole, to make them here.
    """
    if len(jobs) != 1 or jobs[0].wanted is None or jobs[0].before is None:
        return None
    return Part(jobs[0].ranges, frozenset(jobs[0].wanted))


def read(rows: Iterable[Row], contract: Contract, function: ConformFunction | None, takers: Sequence[Job]) -> int:
    """Conform rows and tell every taker what to expect; return how many there were."""
    count = 0
    for row in rows:
        count += 1
        key = tuple([key_text(row[name]) for name in contract.key])
        number = takers[0].ranges.of(key)
        wanting = [job for job in takers if job.wants(number)]
        try:
            record = expected.record(row, contract, function)
        except Unfit:
            for job in wanting:
                job.reject(key)
            continue
        if record is not None:
            for job in wanting:
                job.expect(record, key, number)
    return count


def _name(store: Store) -> str:
    return f"{type(store).__name__} {store.name}"
