"""When a worker opens its sinks again: a batch asked for it, and nothing is in flight any more.

Meanwhile no batch is started, the batch that asked is back in its lane, and the partitions stay where they are. While
the registry or a store does not answer it is tried again; any other error ends the worker. ``turn`` is called by the
loop's thread, the work is done by one of the crew.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from tailrace.errors import Retryable, Unreachable
from tailrace.sink.lane import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from concurrent.futures import Future

    from tailrace.sink.crew import Crew
    from tailrace.sink.decode import Evolved
    from tailrace.sink.lane import Lane

    Evolve = Callable[[Evolved], Collection[str]]

log = structlog.get_logger()


class Reopening:
    """``evolve`` opens the sinks again and returns the topics that they take.

    ``begins`` says whether sinks want to know where partitions begin; those of these topics are told again.
    """

    def __init__(self, evolve: Evolve, *, begins: bool) -> None:
        self._evolve, self._begins = evolve, begins
        self._cause: Evolved | None = None
        self._job: Future[Collection[str]] | None = None
        self._attempts, self._retry_at = 0, 0.0

    @property
    def wanted(self) -> bool:
        """Whether batches have to wait."""
        return self._cause is not None

    def want(self, cause: Evolved) -> None:
        """Ask for it; whoever asks while it goes on asks again afterwards, if it still has to."""
        self._cause = self._cause or cause

    def turn(self, lanes: Collection[Lane], crew: Crew, commit: Callable[[], None]) -> None:
        """Go on with it, once nothing is in flight and what is durable is committed."""
        if self._cause is None or any(lane.job is not None for lane in lanes):
            return
        if self._job is None and time.monotonic() >= self._retry_at:
            commit()
            self._job = crew.submit(partial(self._evolve, self._cause))
        if self._job is not None and self._job.done():
            job, self._job = self._job, None
            self._end(job, lanes)

    def _end(self, job: Future[Collection[str]], lanes: Collection[Lane]) -> None:
        try:
            topics = job.result()
        except (Retryable, Unreachable) as error:
            self._attempts += 1
            delay = pause(self._attempts, getattr(error, "after", 1.0))
            self._retry_at = time.monotonic() + delay
            log.warning("sinks not open again", attempt=self._attempts, seconds=round(delay, 2), reason=str(error))
            return
        self._cause, self._attempts, self._retry_at = None, 0, 0.0
        for lane in lanes if self._begins else ():
            if lane.place[0] in topics:
                lane.anew()
