"""The bridge to Faust: a Transport whose Consumer hands whole batches of one partition to a coroutine.

Faust keeps group membership, rebalances and services; its per-event path (channels, streams, acks) is not used, because
every documented idiom of it can commit past an event without effect. Here an offset is committed only after the batch
coroutine returned, and only when the batch continued its partition without a hole (tailrace.stream.contiguity).
It subclasses private parts of three libraries, so their versions are asserted. It never patches a module.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from tailrace.crashpoint import Processor, reach
from tailrace.errors import Fatal
from tailrace.stream.contiguity import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PINS = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0", "mode-streaming": "0.7.1"}
COMMIT_SECONDS = 10.0
DRAIN_SECONDS = 25.0  # how long a revoke or a stop waits for the running batch
FETCH_SECONDS = 0.5
# aiokafka has one fetch under way at a time, for the partitions of which it holds no records. A busy one that it holds
# some of at that moment waits until the fetch of the idle ones is over: 1.5 s with what Faust has [measured].
FETCH_WAIT_MS = 50

log = structlog.get_logger()


class BatchHandler(Protocol):
    """What an app gives to the bridge."""

    async def batch(self, topic: str, partition: int, records: Sequence[Any]) -> int:
        """Give records their effect, durably, and return the offset of the first that has none.

        That is the one behind the last, that of a record at which the partition is held, or the first one's where a
        stop came before. Anything raised stops the process.
        """

    @property
    def held(self) -> set[tuple[str, int]]:
        """The partitions whose next record has to wait: nothing of them is fetched until they are no longer in here."""

    def turn(self, partitions: int) -> None:
        """Hear that the loop went round, with how many partitions assigned and flowing."""

    def assigned(self, places: Iterable[tuple[str, int]]) -> None:
        """Hear of a new assignment, before its first batch."""

    def revoked(self) -> None:
        """Hear that the assignment is over, and its last batch with it."""


def check_pins() -> None:
    """Raise Fatal unless the libraries are exactly those that the bridge was written against."""
    found = {name: version(name) for name in PINS}
    other = [f"{name} {found[name]} instead of {pin}" for name, pin in PINS.items() if found[name] != pin]
    if other:
        raise Fatal(
            "The stream libraries are not the versions that Tailrace was tested with.",
            detail=", ".join(other),
            hint="Install the locked requirements: pip install -r requirements/lock.txt",
        )


class BatchThread(driver.AIOKafkaConsumerThread):
    """Faust's aiokafka thread; a commit that the broker may take later is not a crash."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begins: dict[Any, int] = {}  # the oldest offsets, when they were asked for

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Make the consumer read what is committed, and let no fetch of idle partitions last."""
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust has 1500 in its code
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - Faust offers it with its own transactions only
        return consumer

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer, assigned = self._ensure_consumer(), self.assignment()
        wanted = {
            driver.ensure_aiokafka_TP(tp): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if tp in assigned
        }
        try:
            await asyncio.wait_for(consumer.commit(wanted), COMMIT_SECONDS)
        except (CommitFailedError, IllegalStateError) as error:
            log.warning("offsets not committed: the partitions have moved on", error=type(error).__name__)
            return False
        except TimeoutError:
            log.warning("offsets not committed yet: the broker does not answer")
            return False
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("offsets not committed yet", error=type(error).__name__)
            return False
        return True

    async def start_of(self, tp: TP) -> int:
        """Return the committed offset of a partition, or the oldest one there where nothing is committed."""
        return int(await self.call_thread(self._start_of, driver.ensure_aiokafka_TP(tp)))

    async def _start_of(self, place: Any) -> int:
        consumer = self._ensure_consumer()
        committed = await consumer.committed(place)
        if committed is not None:
            return int(committed)
        if place not in self._begins:  # all at once: each question waits for the fetch that is under way
            self._begins |= await consumer.beginning_offsets([place, *consumer.assignment()])
        return self._begins[place]

    async def rewind(self, tp: TP, offset: int) -> None:
        """Set the fetch position of a partition, in the thread that owns it."""
        await self.call_thread(self._rewind, driver.ensure_aiokafka_TP(tp), offset)

    async def _rewind(self, place: Any, offset: int) -> None:
        consumer = self._ensure_consumer()
        if place in consumer.assignment():  # else the next assignment says where it begins
            consumer.seek(place, offset)

    async def oldest(self, tp: TP) -> int:
        """Return the oldest offset that a partition still has."""
        return int(await self.call_thread(self._oldest, driver.ensure_aiokafka_TP(tp)))

    async def _oldest(self, place: Any) -> int:
        return int((await self._ensure_consumer().beginning_offsets([place]))[place])


class BatchConsumer(driver.Consumer):
    """Faust's consumer with the inner loop replaced; ``app.handler`` gets the batches."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress: Progress[TP] = Progress()
        self._paused: set[TP] = set()  # those that are held
        self._idle = asyncio.Event()
        self._idle.set()

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _handler(self) -> BatchHandler:
        handler: BatchHandler = self.app.handler
        return handler

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and hand over until stopped: Faust's Fetcher service runs this."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):  # noqa: SLF001 - Faust's own loop asks it the same way
                records, _active = await self._wait_next_records(FETCH_SECONDS)
                self._handler.turn(len(self._active_partitions) + len(self._paused) if self.flow_active else 0)
                await self._hand_over(records or {})
                self._hold()
                await self._return()
                if self.flow_active and loop.time() - last > self.commit_interval:
                    await self.commit_done()
                    last = loop.time()
        except (asyncio.CancelledError, *self.consumer_stopped_errors):
            if not self.app.should_stop:
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the process stops with it and commits nothing more
            await self.app.crash(error)

    async def _hand_over(self, records: Mapping[Any, Sequence[Any]]) -> None:
        """Process one fetch. The generation is read after the fetch: what an older one fetched is dropped."""
        generation = self.app.consumer_generation_id
        for place, batch in records.items():
            tp = ensure_TP(place)
            if self._current(tp, generation):
                await self._process(tp, batch, generation)
            else:
                self.progress.forget(tp)

    async def _return(self) -> None:
        """Fetch again what was fetched and dropped; no later record may come that would show the hole.

        A fetch is under way while partitions are assigned anew. It may bring records after Faust has sought what is
        committed, and before it lets them flow: those are dropped, and nobody seeks again.
        """
        generation = self.app.consumer_generation_id
        for tp in list(self.progress.astray):
            if tp in self.progress.next or tp not in self.assignment():  # a later record did show it, or it has gone
                self.progress.astray.discard(tp)
            elif self._current(tp, generation):
                offset = await self._thread.start_of(tp)
                if self._current(tp, generation):
                    self.progress.next[tp] = offset
                    await self._thread.rewind(tp, offset)

    def _current(self, tp: TP, generation: int) -> bool:
        same = generation == self.app.consumer_generation_id
        return bool(self.flow_active and same and tp in self._get_active_partitions())

    async def _process(self, tp: TP, batch: Sequence[Any], generation: int) -> None:
        self._idle.clear()
        try:
            due = await self._due(tp, batch)
            if not due:
                return
            if not self._current(tp, generation):
                self.progress.forget(tp)
                return
            done = await self._finished(tp, due)
            if generation != self.app.consumer_generation_id:
                self.progress.forget(tp)
                return
            if done > due[0].offset:
                self.progress.finish(tp, done - 1)
                reach(Processor.BATCH_DONE)
            if done <= due[-1].offset:
                await self._stay(tp, done)
        finally:
            self._idle.set()

    async def _stay(self, tp: TP, offset: int) -> None:
        """Go on at a record in the middle of what was fetched, now or when its partition is no longer held."""
        if self.flow_active and not self.app.should_stop and tp in self.assignment():
            self.progress.next[tp] = offset
            await self._thread.rewind(tp, offset)
        else:
            self.progress.forget(tp)

    def _hold(self) -> None:
        """Stop fetching what is held, and fetch again what no longer is."""
        if self.flow_active:
            held = {TP(*place) for place in self._handler.held} & self.assignment()
            self.pause_partitions(held - self._paused)
            self.resume_partitions(self._paused - held)
            self._paused = held

    async def _finished(self, tp: TP, due: Sequence[Any]) -> int:
        """Run the batch to its end even when the fetcher is being stopped."""
        task = asyncio.ensure_future(self._handler.batch(tp.topic, tp.partition, due))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            done, _pending = await asyncio.wait([task], timeout=DRAIN_SECONDS)
            return task.result() if done else int(due[0].offset)

    async def _due(self, tp: TP, batch: Sequence[Any]) -> Sequence[Any]:
        """Return the part of a batch that continues its partition; nothing after asking for the rest again."""
        progress, first = self.progress, batch[0].offset
        if tp not in progress.next:
            progress.next[tp] = await self._thread.start_of(tp)
        verdict = progress.judge(tp, first)
        if verdict == "again":
            log.info("a batch does not continue its partition: fetching again", topic=tp.topic, partition=tp.partition)
            await self._thread.rewind(tp, progress.next[tp])
            return []
        if verdict == "gap":
            await self._excuse(tp, first)
        return progress.cut(tp, batch) if tp in progress.next else []

    async def _excuse(self, tp: TP, first: int) -> None:
        """Accept a gap that is the log's own; raise Fatal where retention removed what was not processed yet."""
        wanted, oldest = self.progress.next[tp], await self._thread.oldest(tp)
        if oldest > wanted:
            raise Fatal(
                "Records were removed from a topic before they were processed.",
                detail=f"{tp.topic}/{tp.partition}: {wanted} was next, the oldest one left is {oldest}.",
                hint="Retention was too short for the outage: take a new snapshot, then replay from the beginning.",
            )
        log.info("the log has no records here", topic=tp.topic, partition=tp.partition, since=wanted, until=first)

    async def commit_done(self) -> None:
        """Commit what is processed; what the broker does not take now is kept for the next time."""
        done = self.progress.take_done()
        if not done:
            return
        assigned = self.assignment()
        owned = {tp: offset for tp, offset in done.items() if tp in assigned}
        if owned and not await _taken(self._thread, owned):
            self.progress.give_back(owned)
        elif owned:
            reach(Processor.OFFSETS_COMMITTED)

    async def _settle(self) -> None:
        """Wait for the running batch and commit it, within a bound."""
        try:
            await asyncio.wait_for(self._idle.wait(), DRAIN_SECONDS)
        except TimeoutError:
            log.warning("the running batch is left uncommitted: it will be processed again")
        reach(Processor.SETTLING)
        await self.commit_done()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit before the partitions go, then let Faust go on."""
        self.stop_flow()
        self._handler.turn(0)
        await self._settle()
        self._handler.revoked()
        self._forget()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Begin the new assignment with nothing known."""
        self._forget()
        self._handler.assigned((tp.topic, tp.partition) for tp in assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    def _forget(self) -> None:
        self.progress.clear()
        self._paused_partitions.clear()
        self._paused.clear()

    async def wait_empty(self) -> None:
        """Finish and commit, when Faust stops or rebalances."""
        await self._settle()

    async def on_stop(self) -> None:
        """Finish and commit before the group is left."""
        await self._settle()
        await super().on_stop()

    async def verify_all_partitions_active(self) -> None:
        """Skip Faust's livelock detector: it watches streams, which are not used; /live watches this loop."""


async def _taken(thread: BatchThread, owned: Mapping[TP, int]) -> bool:
    """Commit, and say whether it was done.

    After a crash the client's thread may end before: that cancels what it was asked, which is not our own end, and
    later questions are never answered.
    """
    if thread.should_stop:
        return False
    try:
        return bool(await asyncio.wait_for(thread.commit(owned), COMMIT_SECONDS + 5))
    except TimeoutError:
        log.warning("offsets not committed: the client does not answer")
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        log.warning("offsets not committed: the client has ended")
    return False


class BatchTransport(driver.Transport):
    """The transport to give to a Faust app."""

    Consumer = BatchConsumer
