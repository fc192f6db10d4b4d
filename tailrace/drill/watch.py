"""The lag while faults strike, sampled, and how long the pipeline took to be live again after each of them.

A sample is the largest lag of any table in any worker, in seconds since the source commit. While Kafka or Connect is
away there is none: that gap is part of what is measured. Live is a lag below LIVE seconds.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import structlog

from tailrace.control.status import Monitor
from tailrace.errors import TailraceError

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """Samples in a thread until ``stop``."""

    project: Project
    began: float
    samples: list[Sample] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; a sample that hangs on a server that is away is not waited for."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(EVERY * 10)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                with Monitor(self.project) as monitor:
                    while not self._ending.wait(EVERY):
                        flows = monitor.sample().flows
                        lag = max((flow.lag_seconds for flow in flows), default=0.0)
                        behind = sum(flow.behind for flow in flows)
                        self.samples.append(Sample(round(time.monotonic() - self.began, 1), round(lag, 2), behind))
            except TailraceError as error:
                log.info("no sample", problem=error.problem)
                self._ending.wait(EVERY)


def recovered(samples: Sequence[Sample], since: float, until: float) -> float | None:
    """Return the seconds from ``since`` until the pipeline was live again; None where it was not before ``until``.

    A sample must say so; the first one after the fault may still be from before its effect, so two in a row count.
    """
    later = [sample for sample in samples if since < sample.at <= until]
    for first, second in pairwise(later):
        if first.lag < LIVE and second.lag < LIVE:
            return round(first.at - since, 1)
    return None
