"""The DynamoDB writer: guarded puts, a hundred in a transaction or each alone, as the table declares.

Each put holds only while the stored item is older (``attribute_not_exists(_v) OR _v < :v``), so a batch written twice,
or late, changes nothing. One stale item cancels its whole transaction, and the reasons name every such item: they are
dropped, the rest is sent again. What is throttled or in conflict is tried again, alone and with growing pauses, until
the write's deadline, at a pace that follows what the table takes; nothing else waits for it inside the batch.
The table itself is made by ``tailrace apply``.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import wait
from functools import partial
from typing import TYPE_CHECKING

from tailrace.change import Rejection
from tailrace.crashpoint import SinkWorker, reach
from tailrace.deadline import Deadline
from tailrace.errors import Fatal, Rejected, Retryable
from tailrace.sink.crew import Crew
from tailrace.sink.dynamodb_answers import LAST, Verdict
from tailrace.sink.dynamodb_calls import Calls
from tailrace.sink.dynamodb_items import Put, Renderer
from tailrace.sink.dynamodb_overflow import Overflow
from tailrace.sink.dynamodb_pace import Pace
from tailrace.sink.measures import Measure
from tailrace.sink.writer import Batching, Written

if TYPE_CHECKING:
    from tailrace.change import Change
    from tailrace.contract import Contract
    from tailrace.endpoints import Endpoints
    from tailrace.sink.dynamodb_calls import Judged
    from tailrace.sink.dynamodb_items import Place
    from tailrace.targets import DynamoDBTable

CALL_PUTS, CALL_BYTES = 100, 4_000_000  # of one TransactWriteItems
CALLS_AT_ONCE = {"transact": 4, "put": 16}  # to one table
PATIENCE = 4  # calls in a row without an answer, before the worker's own retry takes over
SHORTEST, LONGEST = 0.05, 5.0  # seconds between two attempts of a put
UNITS = "Write units that accepted calls consumed; refused ones consume some too, which DynamoDB does not tell"


class DynamoDBWriter:
    """Writes one record to one table; ``write`` may be called from several threads.

    A call that has no answer after ``answer_seconds`` is sent again: DynamoDB takes milliseconds.
    """

    def __init__(
        self,
        target: DynamoDBTable,
        contract: Contract,
        endpoints: Endpoints,
        *,
        bucket: str = "lake",
        answer_seconds: float = 10.0,
    ) -> None:
        self.records: Sequence[str] = (target.record,)
        self.batching = Batching()
        self._table, self._label = target.table, (("table", target.table),)
        self._call_puts = CALL_PUTS if target.write == "transact" else 1
        self._renderer = Renderer(target, contract)
        self._calls = Calls(target.table, endpoints.dynamodb, answer_seconds)
        self._overflow = Overflow(bucket, endpoints.s3) if target.oversize == "s3" else None
        self._pace = Pace(target.table)
        self._width = CALLS_AT_ONCE[target.write]
        self._crew = Crew(self._width)

    def connect(self) -> None:
        """Look at the table: Retryable while DynamoDB is away, Fatal when the table is not as it must be."""
        keys = [(key["AttributeName"], key["KeyType"]) for key in self._calls.describe()["KeySchema"]]
        if keys != [("pk", "HASH"), ("sk", "RANGE")]:
            raise Fatal(
                f"The DynamoDB table {self._table} has another key than Tailrace writes.",
                detail=f"It has {keys}; needed are pk as HASH and sk as RANGE.",
                hint="Name a table of its own in sinks/, and `tailrace apply` makes it.",
            )

    def assigned(self, topic: str, partition: int, offset: int) -> None:
        """Need nothing: the guard is in the items."""

    def write(self, batch: Sequence[Change], *, timeout: float) -> Written:
        """Make the batch durable: first the objects that items point to, then the items."""
        deadline = Deadline.after(timeout)
        puts, rejections = self._rendered(batch)
        self._pace.note(puts)
        stale = 0
        sent: set[tuple[Place, int]] = set()
        while wanted := due(puts, rejections, sent):
            if sent and wanted[0].leaves:
                reach(SinkWorker.MOVED_NOT_LEFT)
            self._spill(wanted, deadline)
            for put, verdict in self._sent(self._cut(wanted), deadline):
                sent.add((put.place, put.version))
                stale += verdict is Verdict.STALE
                if verdict is Verdict.INVALID:
                    rejections[put.position] = "DynamoDB refuses the item as invalid."
        return Written(tuple(Rejection(position, rejections[position]) for position in sorted(rejections)), stale)

    def measures(self) -> list[Measure]:
        """Return what the writes cost and where they go."""
        return [
            Measure("tailrace_dynamodb_consumed_units", UNITS, self._label, self._calls.units),
            *self._pace.measures(self._label),
        ]

    def close(self) -> None:
        """Close the connections."""
        self._crew.close()
        self._calls.close()
        if self._overflow is not None:
            self._overflow.close()

    def _rendered(self, batch: Sequence[Change]) -> tuple[list[Put], dict[int, str]]:
        puts: list[Put] = []
        rejections = {}
        now = time.time()
        for position, change in enumerate(batch):
            try:
                puts += self._renderer.puts(change, position, now)
            except Rejected as error:
                rejections[position] = str(error)
        return puts, rejections

    def _spill(self, puts: Sequence[Put], deadline: Deadline) -> None:
        """Write the objects that items point to; Retryable while S3 is away."""
        if self._overflow is not None:
            for spill in (spill for put in puts for spill in put.spills):
                if deadline.passed():
                    raise Retryable("The objects of large items take too long.", detail=f"table {self._table}")
                self._overflow.write(spill)
                reach(SinkWorker.VALUE_SPILLED)

    def _cut(self, puts: list[Put]) -> list[list[Put]]:
        """Cut puts into what one thread sends: a transaction each, or a share of the single puts."""
        if self._call_puts > 1:
            return list(chunks(puts))
        return [share for start in range(self._width) if (share := puts[start :: self._width])]

    def _sent(self, shares: Sequence[Sequence[Put]], deadline: Deadline) -> Judged:
        """Send several shares at once, no two of which name the same item; give every put's last verdict."""
        if len(shares) == 1:
            return self._send(shares[0], deadline)
        jobs = [self._crew.submit(partial(self._send, share, deadline)) for share in shares]
        wait(jobs)  # each is bounded by the client's timeouts and the deadline; none is left running behind an error
        return [pair for job in jobs for pair in job.result()]

    def _send(self, share: Sequence[Put], deadline: Deadline) -> Judged:
        """Send a share until each put has its last verdict: what may go at once first, then what has to wait."""
        found: Judged = []
        ready, later = list(share), list[Put]()
        rests = lost = 0
        while ready or later:
            if not ready:
                rests += 1
                self._rest(rests, deadline)
                ready, later = later, []
            count = self._pace.wait(min(len(ready), self._call_puts), deadline)
            judged = self._calls.put(ready[:count])
            self._pace.learn([verdict for _, verdict in judged])
            lost = lost + 1 if any(verdict is Verdict.AWAY for _, verdict in judged) else 0
            if lost >= PATIENCE:
                raise Retryable("DynamoDB does not answer.", detail=f"table {self._table}", hint="Is it up?")
            found += [(put, verdict) for put, verdict in judged if verdict in LAST]
            later += [put for put, verdict in judged if verdict not in LAST and verdict is not Verdict.INNOCENT]
            ready = [put for put, verdict in judged if verdict is Verdict.INNOCENT] + ready[count:]
            if ready or later:
                reach(SinkWorker.PUTS_HALF_WRITTEN)
        return found

    def _rest(self, rests: int, deadline: Deadline) -> None:
        """Wait before the next attempt of what is throttled, in conflict or not answered."""
        longest = min(SHORTEST * 2**rests, LONGEST)
        threading.Event().wait(min(random.uniform(longest / 4, longest), deadline.remaining()))  # noqa: S311 - jitter
        if deadline.passed():
            raise Retryable(f"The DynamoDB table {self._table} is busy.", detail="throttled or in conflict")


def newest(puts: Iterable[Put]) -> list[Put]:
    """Return the newest put of each item: one call may not name an item twice."""
    found: dict[Place, Put] = {}
    for put in puts:
        held = found.get(put.place)
        if held is None or held.version < put.version:
            found[put.place] = put
    return list(found.values())


def due(puts: Iterable[Put], refused: Container[int], sent: Container[tuple[Place, int]]) -> list[Put]:
    """Return what to send next: the newest put of each item that was not sent, of changes that were not refused.

    So of an item whose newest change cannot be, the one before it stands. A record that moves is written where it goes
    before it leaves the place where it was: it is never nowhere, and stays where it was if it cannot go.
    """
    held = newest(put for put in puts if put.position not in refused)
    unsent = [put for put in held if (put.place, put.version) not in sent]
    return [put for put in unsent if not put.leaves] or unsent


def chunks(puts: Iterable[Put]) -> Iterator[list[Put]]:
    """Cut puts into what one transaction may carry."""
    chunk: list[Put] = []
    size = 0
    for put in puts:
        if chunk and (len(chunk) == CALL_PUTS or size + put.size > CALL_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(put)
        size += put.size
    if chunk:
        yield chunk
