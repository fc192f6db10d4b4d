"""The handler: gives each batch of one partition its effect, and says how far it came.

The bridge calls it on the event loop; it works in one background thread. A broker that goes away means the same batch
again, a table whose contract no longer fits is held there (tailrace.stream.holding), anything unknown is raised.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from tailrace.crashpoint import Processor, reach
from tailrace.errors import Retryable, Unreachable
from tailrace.stream.background import Background
from tailrace.stream.effect import Effect, Given
from tailrace.stream.holding import Holding
from tailrace.stream.state import Moved, States

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tailrace.health import Health
    from tailrace.kafka import Outbox
    from tailrace.stream.conform import Conformed, Conformer
    from tailrace.stream.drift import Held

CLOSE_SECONDS = 5.0
SAMPLES = 10  # latencies observed per slice, evenly spaced

log = structlog.get_logger()


def nobody_mends(_topic: str, _held: Held) -> str:
    """Say that a held table stays held: what happens where no registry is asked."""
    return "nobody asks the registry"


class ConformHandler:
    """Gives a batch its effect. Called by the bridge on the event loop, works in one background thread."""

    def __init__(
        self,
        conformer: Conformer,
        outbox: Outbox,
        *,
        health: Health,
        letters_to: str,
        stop: asyncio.Event,
        confirm: Callable[[], None] = lambda: None,
        states: States | None = None,
        mend: Callable[[str, Held], str] = nobody_mends,
    ) -> None:
        self._conformer = conformer
        tables = {topic: table.plan.table for topic, table in conformer.tables().items()}
        self._holding = Holding(health, mend, tables)
        self._health, self._stop, self._states = health, stop, states
        self._effect = Effect(conformer, outbox, letters_to=letters_to, states=states, beat=health.beat)
        self._background = Background("conform")
        self._mine = object()  # this assignment
        self._confirm, self._confirmed = confirm, False  # that the epoch still is what it was when this worker started

    def turn(self, partitions: int) -> None:
        """Report that the loop lives, and whether it has work."""
        self._health.beat()
        self._confirmed = self._confirmed and partitions > 0
        restored = self._states is None or self._states.ready
        self._health.ready = partitions > 0 and restored
        doing = f"{partitions} partitions" if partitions else "waiting for partitions"
        self._health.doing = doing if restored else "restoring images"
        self._holding.turn()

    @property
    def held(self) -> set[tuple[str, int]]:
        """The partitions whose next record has to wait."""
        return self._holding.places

    def assigned(self, places: Iterable[tuple[str, int]]) -> None:
        """Restore the images of partitions that were just assigned, before their first batch."""
        self._holding.clear()
        if self._states is None:
            return
        wanted, self._mine = self._states.own(places), object()
        if wanted:
            self._restoring = asyncio.ensure_future(self._restore(self._mine))

    def revoked(self) -> None:
        """Hear that the partitions were given up, and their last batch is over."""
        self._holding.clear()
        if self._states is not None:
            self._states.own(())
            self._releasing = asyncio.ensure_future(self._background.run(self._states.release))

    async def close(self) -> None:
        """Remove the images on disk; where the thread still waits for Kafka, the next start does."""
        if self._states is not None:
            self._states.own(())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._background.run(self._states.close), CLOSE_SECONDS)

    async def _restore(self, mine: object) -> None:
        """Restore all partitions, a moment at a time in the thread of the batches, while the assignment lasts."""
        states = self._states
        while states is not None and mine is self._mine and not states.ready:
            try:
                await self._background.run(states.restore)
            except Moved:
                return
            except Retryable as trouble:
                log.warning("images not restored yet", problem=str(trouble))
                if await self._stopped(trouble.after):
                    return

    async def batch(self, topic: str, partition: int, records: Sequence[Any]) -> int:
        """Conform and send a batch until Kafka has it; return the offset of the first record without effect.

        That is the first one's when a stop came before, and that of a record at which the table is held.
        """
        failures = 0
        while True:
            try:
                given = await self._background.run(lambda: self._give(topic, partition, records))
            except Moved:
                return int(records[0].offset)
            except Retryable as trouble:
                failures += 1
                self._health.retries.labels(self._health.worker).inc()
                log.warning("batch not taken by Kafka, trying again", topic=topic, problem=str(trouble), times=failures)
                if await self._stopped(min(10.0, trouble.after * 2 ** min(failures - 1, 4))):
                    return int(records[0].offset)
            else:
                return self._given(topic, partition, given, int(records[-1].offset) + 1)

    def _given(self, topic: str, partition: int, given: Given, end: int) -> int:
        """Report what a batch became; return the offset up to which that is."""
        for result in given.results:
            self._observe(topic, result)
        self._note(topic)
        if given.held is None:
            return end
        reach(Processor.TABLE_HELD)
        self._holding.hold(topic, partition, given.held)
        return given.held.offset

    def _note(self, topic: str) -> None:
        """Say once what is new to know of a table's schemas."""
        table = self._conformer.tables().get(topic)
        known = self._health.notes.get(topic, ())
        if table is None or table.watch.notes == known:
            return
        self._health.notes = {**self._health.notes, topic: table.watch.notes}
        for note in table.watch.notes:
            if note not in known:
                log.info("a table's columns differ from its contract", table=table.plan.table, note=note)

    def _give(self, topic: str, partition: int, records: Sequence[Any]) -> Given:
        self._confirm_epoch()
        return self._effect.give(topic, partition, records)

    def _confirm_epoch(self) -> None:
        """Ask once per assignment, after it was made, whether the epoch is still the one that versions begin with."""
        if not self._confirmed:
            try:
                self._confirm()
            except Unreachable as silent:
                raise Retryable(silent.problem, detail=silent.detail) from silent
            self._confirmed = True

    async def _stopped(self, seconds: float) -> bool:
        """Wait, and say whether a stop was asked for meanwhile."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _observe(self, topic: str, result: Conformed) -> None:
        health, now = self._health, time.time()
        health.records.labels(health.worker, topic).inc(len(result.committed_us))
        if result.letters:
            health.parked.labels(health.worker, topic).inc(len(result.letters))
            log.warning("records parked", topic=topic, count=len(result.letters), first=result.letters[0].reason)
        if result.committed_us:
            health.lag.labels(health.worker, topic).set(max(0.0, now - result.committed_us[-1] / 1e6))
            latency = health.latency.labels(health.worker, topic)
            for committed in result.committed_us[:: max(1, len(result.committed_us) // SAMPLES)]:
                latency.observe(max(0.0, now - committed / 1e6))
