"""The loop of a sink worker: poll, write in threads, store offsets of what is durable.

Ordered per partition, parallel across partitions, at least once, bounded memory. Messages go into lanes; a lane's
batch is delivered by a thread of the crew while this thread keeps polling, so that the group never thinks it dead.
An offset is stored only after its batch is durable; the client commits stored offsets each second, and at once when
partitions are revoked and at the end. Partitions that were lost belong to somebody else: nothing of them is committed.
Each topic has threads of its own, so a store that hangs holds up its own topics only. What all lanes hold together is
bounded (``tailrace.sink.lane.Pool``). Every wait of the end has a deadline: 25 seconds for all of them.

Retryable and Unreachable mean the same batch again, later. Evolved means that too, after everything in flight is over
and the sinks are open under a newer contract (``tailrace.sink.reopening``). Anything else ends the worker with the
offsets untouched.
"""

from __future__ import annotations

import concurrent.futures
import time
import traceback
from concurrent.futures import FIRST_COMPLETED
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tailrace.deadline import Deadline
from tailrace.errors import Fatal, Retryable, TailraceError, Unreachable
from tailrace.sink import offsets
from tailrace.sink.crew import Crew, Crews, within
from tailrace.sink.decode import Evolved
from tailrace.sink.lane import Lane
from tailrace.sink.reopening import Reopening

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tailrace.kafka import Place
    from tailrace.sink.delivery import Delivered
    from tailrace.sink.lane import Pool
    from tailrace.sink.reopening import Evolve
    from tailrace.sink.report import Report
    from tailrace.sink.writer import Batching

    Deliver = Callable[[Sequence[Any]], Delivered]
    Begin = Callable[[Place], None]

DRAIN_SECONDS = 15.0  # for what is in flight, when partitions are revoked and at the end
LEAVE_SECONDS = 5.0  # to say goodbye to Kafka
FETCH = 1000
IDLE, BUSY = 0.25, 0.01  # seconds to wait for news when nothing, or something, is in flight

log = structlog.get_logger()


class Loop:
    """One worker's loop over one consumer; ``run`` returns when ``stop`` is set and raises what ended it otherwise.

    ``batching`` are by topic. ``begin`` is called once per assigned partition, before its first batch, in a thread.
    ``evolve`` opens sinks again, in a thread, and returns the topics whose partitions have to begin anew.
    """

    def __init__(
        self,
        consumer: Any,
        *,
        batching: Mapping[str, Batching],
        deliver: Deliver,
        begin: Begin | None,
        evolve: Evolve,
        report: Report,
        stop: threading.Event,
        pool: Pool,
        waits: tuple[float, float] = (DRAIN_SECONDS, LEAVE_SECONDS),
    ) -> None:
        self._consumer, self._batching = consumer, batching
        self._deliver, self._begin = deliver, begin
        self._report, self._stop = report, stop
        self.pool = pool
        self._drain_seconds, self._leave_seconds = waits
        self._reopening = Reopening(evolve, begins=begin is not None)
        self._crews, self._opening = Crews(batching), Crew(1)
        self._failure: Exception | None = None
        self.lanes: dict[Place, Lane] = {}

    def run(self) -> None:
        """Work until told to stop."""
        self._consumer.subscribe(
            list(self._batching),
            on_assign=partial(self._guarded, self._assign),
            on_revoke=partial(self._guarded, self._revoke),
            on_lost=partial(self._guarded, self._lose),
        )
        try:
            while not self._stop.is_set():
                self._turn()
            self._drain(list(self.lanes.values()))
            self._commit()
        finally:
            self._close()
        self._raise_failure()

    def _turn(self) -> None:
        """Go round once: news in, finished batches off, due batches out."""
        self._sort(self._poll())
        self._raise_failure()
        self._work(list(self.lanes.values()))
        self._reopening.turn(self.lanes.values(), self._opening, self._commit)
        self._report.turn(self.lanes.values(), self.pool)

    def _work(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            self._reap(lane)
            if not self._reopening.wanted:
                self._start(lane)
            self._balance(lane)

    # News in

    def _poll(self) -> list[Any]:
        """Return new messages; waits only while nothing could be started, and never long."""
        jobs = [lane.job for lane in self.lanes.values() if lane.job is not None]
        patience = BUSY if self._reopening.wanted else _patience(self.lanes.values())
        try:
            first = self._consumer.consume(1, 0.0 if jobs else patience)  # a larger number would wait to be filled
            rest = self._consumer.consume(self.pool.fetch(FETCH), 0.0)
        except KafkaException as error:
            raise _stopped(error.args[0]) from error
        if jobs and not first and not rest:
            concurrent.futures.wait(jobs, timeout=min(patience, BUSY), return_when=FIRST_COMPLETED)
        return [*first, *rest]

    def _sort(self, messages: Iterable[Any]) -> None:
        now = time.monotonic()
        for message in messages:
            error = message.error()
            if error is not None:
                _judge(error)
                continue
            lane = self.lanes.get((message.topic(), message.partition()))
            if lane is not None:  # a message of a partition revoked inside this very call is dropped
                lane.add(message, now)

    def _start(self, lane: Lane) -> None:
        now = time.monotonic()
        if lane.wait(now) != 0.0:
            return
        lane.since = now
        if not lane.begun and self._begin is not None:
            lane.job = self._crews.submit(lane.place[0], partial(self._begin, lane.place))
        else:
            lane.job = self._crews.submit(lane.place[0], partial(self._deliver, lane.take()))

    def _reap(self, lane: Lane) -> None:
        """Store the offset of a batch that is durable, or plan the next attempt of one that is not."""
        if lane.job is None or not lane.job.done():
            return
        try:
            delivered = lane.job.result()
        except (Retryable, Unreachable) as error:
            delay = lane.failed(error.problem, getattr(error, "after", 1.0), time.monotonic())
            self._report.retry(lane, error, delay)
            return
        except Evolved as cause:
            lane.put_back()
            self._reopening.want(cause)
            return
        except TailraceError:
            raise
        except Exception as error:
            raise _unknown(error) from error
        end = lane.delivered()
        if end is not None:
            offsets.store(self._consumer, lane.place, end)
        if delivered is not None:
            self._report.delivered(lane.place[0], delivered)

    def _balance(self, lane: Lane) -> None:
        """Pause what has no room, resume what has; once per transition."""
        if not lane.paused and lane.full:
            self._consumer.pause([TopicPartition(*lane.place)])
            lane.paused = True
        elif lane.paused and lane.low:
            self._consumer.resume([TopicPartition(*lane.place)])
            lane.paused = False

    # Partitions come and go. The client may swallow what a callback raises, so it is kept and raised by the loop.

    def _guarded(self, act: Callable[[Any, Sequence[Any]], None], consumer: Any, partitions: Sequence[Any]) -> None:
        try:
            act(consumer, partitions)
        except Exception as error:  # noqa: BLE001 - raised by the loop as it is
            self._failure = self._failure or error

    def _assign(self, consumer: Any, partitions: Sequence[Any]) -> None:
        for each in partitions:
            place = (each.topic, each.partition)
            self.lanes[place] = Lane(place, self._batching[each.topic], self.pool, begun=self._begin is None)
        consumer.incremental_assign(partitions)
        consumer.resume(partitions)  # the client remembers that a partition was paused when it was here before
        self._report.assigned(len(partitions), len(self.lanes))

    def _revoke(self, consumer: Any, partitions: Sequence[Any]) -> None:
        """Finish what is in flight, commit it, let go of the rest."""
        going = [lane for each in partitions if (lane := self.lanes.get((each.topic, each.partition)))]
        try:
            self._drain(going)
            offsets.commit(consumer)  # by this very thread: inside a callback the client listens to no other
        finally:
            self._drop(partitions)
            consumer.incremental_unassign(partitions)

    def _lose(self, consumer: Any, partitions: Sequence[Any]) -> None:
        self._drop(partitions)
        consumer.incremental_unassign(partitions)

    def _drop(self, partitions: Sequence[Any]) -> None:
        for each in partitions:
            lane = self.lanes.pop((each.topic, each.partition), None)
            if lane is not None:
                lane.release()
        self._report.revoked(len(partitions), len(self.lanes))

    def _drain(self, lanes: Sequence[Lane]) -> None:
        """Wait, bounded, for what is in flight, and store what became durable. Other lanes go on meanwhile."""
        deadline = Deadline.after(self._drain_seconds)
        others = [lane for lane in self.lanes.values() if lane not in lanes and not self._stop.is_set()]
        while (jobs := [lane.job for lane in lanes if lane.job is not None]) and not deadline.passed():
            busy = [*jobs, *(lane.job for lane in others if lane.job is not None)]
            concurrent.futures.wait(busy, timeout=min(BUSY, deadline.remaining()), return_when=FIRST_COMPLETED)
            for lane in lanes:
                self._reap(lane)
            self._work(others)
            self._report.turn(self.lanes.values(), self.pool)

    def _commit(self) -> None:
        if not within(self._leave_seconds, partial(offsets.commit, self._consumer)):
            log.warning("Kafka does not take offsets; what they stand for is written again", worker=self._report.worker)

    def _close(self) -> None:
        for lane in self.lanes.values():
            lane.release()
        self.lanes.clear()  # what still hangs after the drain is not waited for a second time
        self._crews.close()
        self._opening.close()
        if not within(self._leave_seconds, self._consumer.close):
            log.warning(
                "Kafka does not answer the goodbye; the group waits for the session", worker=self._report.worker
            )

    def _raise_failure(self) -> None:
        failure = self._failure
        if failure is not None:
            raise (failure if isinstance(failure, TailraceError) else _unknown(failure)) from failure


def _patience(lanes: Iterable[Lane]) -> float:
    """Return the seconds until a lane has something to start; never many."""
    now = time.monotonic()
    return min([IDLE, *(wait for lane in lanes if (wait := lane.wait(now)) is not None)])


def _judge(error: KafkaError) -> None:
    """Go on after what Kafka mends itself; Fatal otherwise."""
    passing = (KafkaError._PARTITION_EOF, KafkaError._MAX_POLL_EXCEEDED, KafkaError._TRANSPORT)  # noqa: SLF001 - librdkafka's own codes are spelled so
    if error.fatal() or not (error.retriable() or error.code() in passing):
        raise _stopped(error)


def _stopped(error: KafkaError) -> Fatal:
    return Fatal(
        "Kafka refuses to let this worker read.",
        detail=error.name(),
        hint="Another process with the same TAILRACE_INSTANCE, a deleted topic and missing ACLs are the usual causes.",
    )


def _unknown(error: BaseException) -> Fatal:
    """Return what the worker ends with; the text of an unknown error may quote a row, so class and place must do."""
    log.error("worker stops", error=type(error).__name__, trace=traceback.format_tb(error.__traceback__))
    return Fatal(
        "A batch failed in a way that is not known to be harmless.",
        detail=type(error).__name__,
        hint="The log has the trace. Offsets are where they were: fix the cause and start the worker again.",
    )
