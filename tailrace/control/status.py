"""Where the pipeline is: source, workers, and for each table and worker how fast, how far behind, how much is parked.

``Monitor`` keeps its connections, so that a sample costs a few dozen small requests and can be taken every second.
Rates come from the offsets committed between two samples. Lag is now minus the source commit time of the first record
that a group has not passed, 0 when there is none. Postgres or Connect being away is a state that is shown, no error;
without Kafka there is nothing to say, and that is Unreachable.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import psycopg2

from tailrace import topics
from tailrace.control import dlq, local
from tailrace.control.epochs import Watch
from tailrace.control.heads import Heads
from tailrace.errors import ProjectError, Unreachable
from tailrace.kafka import KafkaAdmin
from tailrace.source import catalogue
from tailrace.source.connect import Connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg2.extensions import connection as Connection  # noqa: N812 - the driver's class is lower case

    from tailrace.kafka import Offsets, Place
    from tailrace.project import Project

_SLOT = """
SELECT active, coalesce(wal_status, '') AS wal_status,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint AS retained,
       (SELECT nullif(setting::bigint, -1) * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS room
FROM pg_replication_slots WHERE slot_name = %s
"""


@dataclass(frozen=True, slots=True)
class SourceState:
    """The replication slot and the connector. ``trouble`` says why something is not known, or what failed.

    ``limit_bytes`` is max_slot_wal_keep_size, None where it is not set. ``growth`` is in bytes a second, None in the
    first sample. ``seconds_left`` is how long the slot lives if it goes on growing like that; None when it does not.
    ``ended`` says what speaks against the recorded epoch (tailrace.control.epochs).
    """

    slot: str
    active: bool = False
    wal_status: str = ""
    retained_bytes: int = 0
    limit_bytes: int | None = None
    growth: float | None = None
    seconds_left: float | None = None
    epoch: int = 0
    ended: tuple[str, ...] = ()
    connector: str = ""
    running: bool = False
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker. ``state``: ready, starting, elsewhere (its group has members, not on this machine), not running.

    ``held`` are the tables that wait for their contract in it, by raw topic, and ``notes`` what it says of the others;
    of a worker elsewhere both are not known here: its metrics tell.
    """

    name: str
    kind: str
    state: str
    detail: str
    pid: int | None
    parked: int
    held: Mapping[str, local.Held] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flow:
    """One table on its way through one worker. ``rate`` is in records a second, None in the first sample."""

    worker: str
    kind: str
    table: str
    topic: str
    rate: float | None
    behind: int
    lag_seconds: float
    parked: int


@dataclass(frozen=True)
class Status:
    """One sample; ``at`` is in seconds since 1970."""

    at: float
    source: SourceState
    workers: Sequence[WorkerState]
    flows: Sequence[Flow]
    committed: Mapping[str, Offsets] = field(default_factory=dict, repr=False)

    @property
    def held(self) -> list[local.Held]:
        """The tables that wait for their contract, of every worker on this machine."""
        return [held for worker in self.workers for held in worker.held.values()]

    def as_dict(self) -> dict[str, Any]:
        """Return the sample for ``--json``."""
        workers, flows = [asdict(entry) for entry in self.workers], [asdict(entry) for entry in self.flows]
        return {"at": self.at, "source": asdict(self.source), "workers": workers, "flows": flows}


def snapshot(project: Project, before: Status | None = None) -> Status:
    """Take one sample; with the one before, rates are known. ``Monitor`` is cheaper for many."""
    with Monitor(project, before) as monitor:
        return monitor.sample()


class Monitor:
    """Takes samples of one project; a context manager, for one thread."""

    def __init__(self, project: Project, before: Status | None = None) -> None:
        self._project, self._before = project, before
        self._open = ExitStack()
        self._admin = KafkaAdmin(project.endpoints.kafka)
        self._connect = Connect(project.endpoints.connect)
        self._open.callback(self._connect.close)
        self._database: Connection | None = None
        self._epoch = Watch(project)
        self._letters: dict[str, tuple[tuple[Offsets, Offsets], dict[str, int]]] = {}
        self._workers = {name: "processor" for name in project.processors if project.tables_of(name)}
        self._workers |= dict.fromkeys(project.sinks, "sink")
        self._heads = {name: Heads(project.endpoints.kafka, project.name) for name in self._workers}
        for heads in self._heads.values():
            self._open.callback(heads.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def sample(self) -> Status:
        """Look once at everything."""
        read = {name: self._inputs(name) for name in self._workers}
        everything = sorted({topic for names in read.values() for topic in names})
        groups = {name: topics.group(self._project.name, name) for name in self._workers}
        committed = {name: self._admin.committed(groups[name], read[name]) for name in self._workers}
        at, ends, starts = time.time(), self._admin.ends(everything), self._admin.starts(everything)
        letters = {name: self._parked(name) for name in self._workers}
        current = {name: _current(committed[name], starts) for name in self._workers}
        for name, held in current.items():  # several sinks read one topic, each at its own offset
            self._heads[name].update(held, ends)
        flows = [
            self._flow(name, table, topic, ends=ends, current=current[name], parked=letters[name], at=at)
            for name in self._workers
            for topic, table in read[name].items()
        ]
        workers = [self._worker(name, groups[name], sum(letters[name].values())) for name in self._workers]
        self._before = Status(at, self._source(at), workers, flows, current)
        return self._before

    def _inputs(self, name: str) -> dict[str, str]:
        """Return the topics that a worker reads, each with its table."""
        project = self._project
        if self._workers[name] == "processor":
            return {topics.raw(project.name, table): table for table in project.tables_of(name)}
        return project.topics_of(name)

    def _flow(
        self,
        name: str,
        table: str,
        topic: str,
        *,
        ends: Offsets,
        current: Offsets,
        parked: Mapping[str, int],
        at: float,
    ) -> Flow:
        places = [place for place in current if place[0] == topic]
        behind = {place: ends[place] - current[place] for place in places if ends[place] > current[place]}
        lag = max((at - self._heads[name].committed(place, current[place], at) for place in behind), default=0.0)
        rate = rate_of(self._before, name, {place: current[place] for place in places}, at)
        kind, letters = self._workers[name], parked.get(topic, 0)
        return Flow(name, kind, table, topic, rate, sum(behind.values()), max(0.0, lag), letters)

    def _worker(self, name: str, group: str, parked: int) -> WorkerState:
        kind, found = self._workers[name], local.find(self._project, name)
        if found is not None:
            state = "ready" if found.ready else "starting"
            return WorkerState(name, kind, state, found.doing, found.pid, parked, found.held, found.notes)
        members = self._admin.members(group)
        if members:
            return WorkerState(name, kind, "elsewhere", f"{members} members", None, parked)
        return WorkerState(name, kind, "not running", f"tailrace run {kind} {name}", None, parked)

    def _parked(self, name: str) -> dict[str, int]:
        """Return dead letters by the topic they came from; they are read again only when there are others."""
        topic = topics.dead_letters(self._project.name, name)
        bounds = self._admin.starts([topic]), self._admin.ends([topic])
        held = self._letters.get(topic)
        if held is None or held[0] != bounds:
            held = bounds, dlq.by_source(self._admin, topic)
            self._letters[topic] = held
        return held[1]

    def _source(self, at: float) -> SourceState:
        project = self._project
        state: dict[str, Any] = {}
        said = []
        try:
            [*found] = catalogue.rows(self._session(), _SLOT, (project.connector.slot,))
            if found:
                state = {"active": found[0].active, "retained_bytes": found[0].retained}
                state |= {"wal_status": found[0].wal_status, "limit_bytes": found[0].room}
                state["growth"] = growth = growth_of(self._before, found[0].retained, at)
                state["seconds_left"] = time_left(found[0].retained, found[0].room, growth)
            else:
                said.append("the slot does not exist")
        except (Unreachable, psycopg2.Error) as error:
            self._database = None
            said.append("Postgres does not answer" if isinstance(error, psycopg2.Error) else str(error))
        verdict = self._epoch.verdict()
        state |= {"epoch": verdict.epoch, "ended": tuple(reason.said for reason in verdict.reasons)}
        shown, running, trouble = self._connector()
        said += [trouble] if trouble else []
        return SourceState(project.connector.slot, **state, connector=shown, running=running, trouble=" · ".join(said))

    def _connector(self) -> tuple[str, bool, str]:
        try:
            status = self._connect.status(self._project.connector.name)
        except (Unreachable, ProjectError) as error:
            return "unknown", False, str(error)
        if status is None:
            return "missing", False, "the connector does not exist: `tailrace apply`"
        return status.shown, status.running, status.trace

    def _session(self) -> Connection:
        """Return the connection to Postgres, a new one after trouble."""
        if self._database is None:
            url = self._project.endpoints.database(self._project.connector.database)
            self._database = self._open.enter_context(catalogue.session(url))
        return self._database


def _current(committed: Offsets, starts: Mapping[Place, int]) -> Offsets:
    """Return the offset that a group reads next in each partition."""
    return {place: max(offset, starts.get(place, 0)) for place, offset in committed.items()}


def growth_of(before: Status | None, retained: int, at: float) -> float | None:
    """Return by how many bytes a second the WAL that the slot holds grew since the sample before."""
    if before is None or at <= before.at or not before.source.wal_status:
        return None
    return (retained - before.source.retained_bytes) / (at - before.at)


def time_left(retained: int, limit: int | None, growth: float | None) -> float | None:
    """Return the seconds until Postgres gives up the slot; None where it has no limit or does not grow."""
    if limit is None or growth is None or growth <= 0:
        return None
    return max(0.0, (limit - retained) / growth)


def rate_of(before: Status | None, worker: str, current: Mapping[Place, int], at: float) -> float | None:
    """Return records a second since the sample before; a replay, which goes back, counts from where it began."""
    if before is None or at <= before.at:
        return None
    held = before.committed.get(worker, {})
    done = sum(max(0, offset - held.get(place, offset)) for place, offset in current.items())
    return done / (at - before.at)
