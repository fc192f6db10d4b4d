"""The lag while faults strike, sampled, and how long the pipeline took to be live again after each of them.

A sample is the largest lag of any table in any worker, in seconds since the source commit; while the workload is busy
also the age of the newest change that Kafka has, for a dead connector leaves workers nothing to be behind of. A lake
is meant to keep an object open for some seconds, which do not count. While Kafka is away there is no sample: that gap
is part of what is measured. Live is a lag below LIVE seconds.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import structlog

from tailrace import topics
from tailrace.control.heads import Heads
from tailrace.errors import TailraceError
from tailrace.kafka import KafkaAdmin
from tailrace.targets import LakeTable, RawLakeTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.drill.counters import Counters
    from tailrace.kafka import Offsets
    from tailrace.project import Project

LIVE = 2.0  # seconds behind the source commit
EVERY = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sample:
    """The lag at a moment (seconds since the drill began); ``behind`` records are still to come."""

    at: float
    lag: float
    behind: int


@dataclass
class Watch:
    """Samples in threads until ``stop``. ``busy`` says that changes are being made all the time."""

    project: Project
    counters: Counters
    began: float
    busy: bool = False
    samples: list[Sample] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        for act in (self._lags, self._counts):
            self._threads.append(threading.Thread(target=act, name="watch", daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """End; a sample that hangs on a server that is away is not waited for."""
        self._ending.set()
        for thread in self._threads:
            thread.join(EVERY * 10)

    def live_since(self, since: float, *, until: float = float("inf")) -> float | None:
        """Return how many seconds after a moment the pipeline was live again, None where it is not (yet)."""
        return recovered(self.samples, since, until)

    def _counts(self) -> None:
        while not self._ending.wait(EVERY):
            self.counters.sample()

    def _lags(self) -> None:
        with Gauge(self.project) as gauge:  # one for all the time: its clients find a server again by themselves
            while not self._ending.wait(EVERY):
                at = time.monotonic() - self.began
                try:
                    lag, behind = gauge.read(busy=self.busy)
                except TailraceError as error:
                    log.info("no sample", problem=error.problem)
                else:
                    self.samples.append(Sample(round(at, 1), round(lag, 2), behind))


class Gauge:
    """Reads the lag from Kafka alone, so that a server that is away or a busy machine tells no lag that is none."""

    def __init__(self, project: Project) -> None:
        self._admin, self._open = KafkaAdmin(project.endpoints.kafka), ExitStack()
        self._raw = [topics.raw(project.name, table) for table in project.tables]
        self._groups = {name: topics.group(project.name, name) for name in project.workers}
        self._read = {name: inputs(project, name) for name in project.workers}
        self._meant = {name: meant(project, name) for name in project.workers}
        self._heads = {name: Heads(project.endpoints.kafka, f"{project.name}-drill") for name in (*self._groups, "")}
        for heads in self._heads.values():
            self._open.callback(heads.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read(self, *, busy: bool) -> tuple[float, int]:
        """Return the largest lag and how many records are to come; each lag is of before its offsets were asked for."""
        asked: dict[str, float] = {}
        done: dict[str, Offsets] = {}
        for name, group in self._groups.items():
            asked[name] = time.time()
            done[name] = {place: max(0, at) for place, at in self._admin.committed(group, self._read[name]).items()}
        now, ends = (
            time.time(),
            self._admin.ends({*self._raw, *(each for read in self._read.values() for each in read)}),
        )
        lags, behind = [self._age(now, ends)] if busy else [0.0], 0
        for name, offsets in done.items():
            left = {place: at for place, at in offsets.items() if at < ends.get(place, 0)}
            self._heads[name].update(left, ends)
            since = asked[name] - self._meant[name]
            lags += [max(0.0, since - self._heads[name].committed(*head, since)) for head in left.items()]
            behind += sum(ends[place] - at for place, at in left.items())
        return max(lags), behind

    def _age(self, now: float, ends: Offsets) -> float:
        """Return how old the newest change of any table is that Kafka has."""
        last = {place: end - 1 for place, end in ends.items() if end and place[0] in self._raw}
        self._heads[""].update(last, ends)
        return max(0.0, now - max((self._heads[""].committed(*each, 0.0) for each in last.items()), default=now))


def inputs(project: Project, worker: str) -> list[str]:
    """Return the topics that a worker reads."""
    if worker in project.sinks:
        return list(project.topics_of(worker))
    return [topics.raw(project.name, table) for table in project.tables_of(worker)]


def meant(project: Project, worker: str) -> float:
    """Return the seconds for which a worker keeps records on purpose before it writes them."""
    lakes = [target for target in project.sinks.get(worker, ()) if isinstance(target, LakeTable | RawLakeTable)]
    return project.settings.lake.flush_seconds if lakes else 0.0


def recovered(samples: Sequence[Sample], since: float, until: float) -> float | None:
    """Return the seconds from ``since`` until the pipeline was live again; None where it was not before ``until``.

    A sample must say so, and one more: two in a row. One that is not older than the lag itself says nothing of what
    was committed since, so a worker that died a second ago does not look alive.
    """
    later = [sample for sample in samples if since < sample.at <= until]
    for first, second in pairwise(later):
        if all(sample.lag < min(LIVE, sample.at - since) for sample in (first, second)):
            return round(first.at - since, 1)
    return None
