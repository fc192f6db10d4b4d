"""What a sink worker says of itself: its Health, and log lines that do not repeat themselves.

A store that is away for an hour is one warning at first, then one every half minute. Row values are never said.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Gauge

if TYPE_CHECKING:
    from collections.abc import Collection

    from tailrace.errors import TailraceError
    from tailrace.health import Health
    from tailrace.sink.delivery import Delivered
    from tailrace.sink.lane import Lane, Pool

AGAIN_SECONDS = 30.0
EVERY = 0.1  # seconds
SAMPLES = 100  # latencies of a batch that are counted; all of a small one

log = structlog.get_logger()


class Report:
    """The reports of one worker; used by its main thread alone."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self.worker = health.worker
        self._warned, self._turned = 0.0, 0.0
        self._held = Gauge(
            "tailrace_held_bytes", "Messages buffered or in flight", ["worker"], registry=health.registry
        )

    def turn(self, lanes: Collection[Lane], pool: Pool) -> None:
        """Say that the loop goes round, and whether all is well; ten times a second are enough."""
        health, now = self._health, time.monotonic()
        if now - self._turned < EVERY:
            return
        self._turned = now
        health.beat()
        self._held.labels(self.worker).set(pool.held_bytes)
        health.ready = bool(lanes) and all(lane.begun for lane in lanes)
        troubles = [lane.trouble for lane in lanes if lane.trouble]
        slow = max((now - lane.since for lane in lanes if lane.job is not None), default=0.0)
        if slow >= AGAIN_SECONDS:
            self._slow(slow, now)
        elif troubles:
            health.doing = f"waiting to try {len(troubles)} of {len(lanes)} partitions again: {troubles[0]}"
        else:
            health.doing = "running" if lanes else "waiting for partitions"

    def _slow(self, seconds: float, now: float) -> None:
        """Say that a store takes its time over a batch: nobody can tell that from one that hangs."""
        self._health.doing = f"a batch is being written since {seconds:.0f} s"
        if now - self._warned >= AGAIN_SECONDS:
            self._warned = now
            log.warning("a batch takes long to be written", worker=self.worker, seconds=round(seconds))

    def delivered(self, topic: str, batch: Delivered) -> None:
        """Count one durable batch."""
        health, worker = self._health, self._health.worker
        health.records.labels(worker, topic).inc(batch.messages)
        if batch.stale:
            health.stale.labels(worker, topic).inc(batch.stale)
        if batch.parked:
            health.parked.labels(worker, topic).inc(batch.parked)
            log.error("records parked in the dead-letter topic", worker=worker, topic=topic, records=batch.parked)
        now = time.time()
        latency = health.latency.labels(worker, topic)
        for committed in batch.committed_us[:: max(1, len(batch.committed_us) // SAMPLES)]:
            latency.observe(max(0.0, now - committed / 1e6))
        if batch.committed_us:
            health.lag.labels(worker, topic).set(max(0.0, now - batch.committed_us[-1] / 1e6))

    def retry(self, lane: Lane, error: TailraceError, delay: float) -> None:
        """Say that a batch is tried again, not too often."""
        self._health.retries.labels(self._health.worker).inc()
        now = time.monotonic()
        if lane.attempts == 1 or now - self._warned >= AGAIN_SECONDS:
            self._warned = now
            log.warning(
                "batch tried again",
                worker=self._health.worker,
                topic=lane.place[0],
                partition=lane.place[1],
                attempt=lane.attempts,
                seconds=round(delay, 2),
                reason=str(error),
            )

    def assigned(self, came: int, have: int) -> None:
        """Say that partitions came."""
        log.info("partitions assigned", worker=self._health.worker, came=came, have=have)

    def revoked(self, went: int, have: int) -> None:
        """Say that partitions went."""
        log.info("partitions revoked", worker=self._health.worker, went=went, have=have)
