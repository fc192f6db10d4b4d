"""The pace of one table as its threads share it: leave to send, what became of it, which keys are hot."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

import structlog

from tailrace.errors import Retryable
from tailrace.sink.dynamodb_answers import LAST, Verdict
from tailrace.sink.dynamodb_hot import HotKeys
from tailrace.sink.dynamodb_rate import Rate
from tailrace.sink.measures import Measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tailrace.deadline import Deadline
    from tailrace.sink.dynamodb_items import Put

    Labels = tuple[tuple[str, str], ...]

log = structlog.get_logger()


class Pace:
    """The rate and the load of a table, for any number of threads."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._rate, self._hot, self._lock = Rate(), HotKeys(), threading.Lock()
        self._throttled = 0

    def wait(self, wanted: int, deadline: Deadline) -> int:
        """Wait for leave to send; return how many puts may go in this call."""
        with self._lock:
            count, delay = self._rate.grant(wanted, time.monotonic())
        if delay > deadline.remaining():
            raise Retryable("DynamoDB throttles the writes of this batch.", detail="the write's deadline passed")
        if delay:
            threading.Event().wait(delay)
        return count

    def learn(self, verdicts: Sequence[Verdict]) -> None:
        """Take note of what became of a call."""
        with self._lock:
            now = time.monotonic()
            if Verdict.THROTTLED in verdicts:
                free = math.isinf(self._rate.limit)
                self._rate.throttled(now)
                if free:
                    log.warning("table throttles", table=self._table, puts_per_second=round(self._rate.limit))
                self._throttled += sum(verdict is Verdict.THROTTLED for verdict in verdicts)
            self._rate.went(sum(verdict in LAST for verdict in verdicts), now)

    def note(self, puts: Iterable[Put]) -> None:
        """Count the partition keys of a batch."""
        with self._lock:
            self._hot.add(put.place[0] for put in puts)

    def measures(self, label: Labels) -> list[Measure]:
        """Return throttled puts, the pace where there is a limit, and the hot keys' shares by fingerprint."""
        with self._lock:
            throttled, limit, hottest = self._throttled, self._rate.limit, self._hot.hottest()
        found = [Measure("tailrace_dynamodb_throttled", "Puts that DynamoDB throttled", label, throttled)]
        if not math.isinf(limit):
            found.append(
                Measure("tailrace_dynamodb_pace", "Puts a second that are sent at most", label, limit, count=False)
            )
        for key, share in hottest:
            labels = (*label, ("key", key))
            found.append(Measure("tailrace_dynamodb_hot_key_share", "Share of the writes", labels, share, count=False))
        return found
