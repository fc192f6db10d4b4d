"""Held tables: which partitions wait for a contract, why, and since when they may go on.

A partition that is held is paused by the bridge; nothing of it is parked or committed from that record on. The table is
looked after at once and every ``LOOK_EVERY`` seconds (tailrace.stream.mending); where that gives it another contract,
all its partitions are tried again. It lives on the event loop, for one assignment at a time.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import structlog

from tailrace.stream.background import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailrace.health import Health
    from tailrace.stream.drift import Held

LOOK_EVERY = 10.0

log = structlog.get_logger()


class Holding:
    """The held partitions of one worker. ``mend`` says what keeps a table held, nothing once it may go on."""

    def __init__(self, health: Health, mend: Callable[[str, Held], str], tables: Mapping[str, str]) -> None:
        self._health, self._mend, self._tables = health, mend, tables
        self._thread = Background("contracts")
        self._held: dict[str, dict[int, Held]] = {}
        self._said: set[tuple[str, str]] = set()
        self._due: set[str] = set()
        self._looking: asyncio.Future[None] | None = None
        self._next = 0.0

    @property
    def places(self) -> set[tuple[str, int]]:
        """The partitions that are held."""
        return {(topic, partition) for topic, found in self._held.items() for partition in found}

    def hold(self, topic: str, partition: int, held: Held) -> None:
        """Hold a partition at a record, and look at once whether its table may go on."""
        self._held.setdefault(topic, {})[partition] = held
        self._due.add(topic)
        self.turn()

    def clear(self) -> None:
        """Forget everything: the assignment is over."""
        for topic in list(self._held):
            self._release(topic)
        self._due.clear()

    def turn(self) -> None:
        """Begin to look where that is due; what a look raised is raised here."""
        now = asyncio.get_running_loop().time()
        if self._looking is not None:
            if not self._looking.done():
                return
            self._looking.result()
            self._looking = None
        if self._held and now >= self._next:
            self._due |= self._held.keys()
            self._next = now + LOOK_EVERY
        if self._due:
            due, self._due = self._due & self._held.keys(), set()
            self._looking = asyncio.ensure_future(self._look(due))

    async def _look(self, topics: set[str]) -> None:
        for topic in topics:
            found = self._held.get(topic)
            while found and found is self._held.get(topic):
                partition, held = next(iter(found.items()))
                why = await self._thread.run(partial(self._mend, topic, held))
                if found.get(partition) is not held or found is not self._held.get(topic):
                    continue
                if why:
                    self._publish(topic, held, why)
                    break
                self._release(topic)

    def _publish(self, topic: str, held: Held, why: str) -> None:
        """Say that a table is held: to whoever asks, and once in the log."""
        table, health = self._tables.get(topic, topic), self._health
        partitions = sorted(self._held[topic])
        said = {"table": table, "problem": held.problem, "hint": held.hint, "why": why, "partitions": partitions}
        health.held = {**health.held, topic: said}
        health.holding.labels(health.worker, topic).set(len(partitions))
        if (topic, held.problem) not in self._said:
            self._said.add((topic, held.problem))
            log.error("a table is held", table=table, problem=held.problem, hint=held.hint, why=why)

    def _release(self, topic: str) -> None:
        self._held.pop(topic, None)
        if topic in self._health.held:
            self._health.held = {name: said for name, said in self._health.held.items() if name != topic}
            self._health.holding.labels(self._health.worker, topic).set(0)
            log.info("a table goes on", table=self._tables.get(topic, topic))
            self._said = {said for said in self._said if said[0] != topic}
