"""Deliberate bugs, each of which loses or spoils something: what the proofs are tested with.

Python imports this file at its start where its folder is on PYTHONPATH, in the supervisor and in every worker alike.
``TAILRACE_BUG`` names one bug; the module that it is in is changed when it is imported, and nothing else is. Without
the variable nothing happens. No product code knows of it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

VARIABLE = "TAILRACE_BUG"
LATE = 30.0  # seconds after which a letter that nobody waits for is sent


def offset_before_write(loop: ModuleType) -> None:
    """Commit the offset of a batch before the batch is written."""
    start = loop.Loop._start

    def hasty(self: Any, lane: Any) -> None:
        if lane.job is None and lane.begun and not lane.attempts and lane.wait(time.monotonic()) == 0.0:
            last = list(lane.buffer)[: lane.batching.rows][-1]
            place = loop.TopicPartition(last.topic(), last.partition(), last.offset() + 1)
            self._consumer.commit(offsets=[place], asynchronous=False)
        start(self, lane)

    loop.Loop._start = hasty


def unguarded_put(calls: ModuleType) -> None:
    """Write an item whatever the table has."""
    request = calls.Calls._request

    def bold(self: Any, put: Any) -> dict[str, Any]:
        made = request(self, put)
        return {"TableName": made["TableName"], "Item": made["Item"]}

    calls.Calls._request = bold


def state_without_changelog(state: ModuleType) -> None:
    """Keep images in the local store only."""

    def forgetful(self: Any, topic: str, partition: int, last: int) -> None:
        held = self._held.get((topic, partition))
        if held is not None:
            held.images.commit(last)

    state.States.keep = forgetful


def batch_dropped(bridge: ModuleType) -> None:
    """Drop what a fetch brings across a rebalance, and take whatever comes next: the prototype that lost records."""
    consumer = bridge.BatchConsumer
    wait = consumer._wait_next_records

    async def waiting(self: Any, seconds: float) -> Any:
        self.generation_before = self.app.consumer_generation_id
        return await wait(self, seconds)

    async def handing(self: Any, records: Any) -> None:
        for place, batch in records.items():
            tp = bridge.ensure_TP(place)
            if self._current(tp, self.generation_before):
                await self._process(tp, batch, self.generation_before)

    async def due(self: Any, tp: Any, batch: Sequence[Any]) -> Sequence[Any]:
        self.progress.next[tp] = batch[0].offset
        return batch

    consumer._wait_next_records, consumer._hand_over, consumer._due = waiting, handing, due


def letter_not_awaited(delivery: ModuleType) -> None:
    """Leave letters to a thread that sends them in its own time."""

    def careless(self: Any, letters: Sequence[Any]) -> None:
        for letter in letters:
            headers = letter.message_headers()
            send = partial(self._outbox.send, self._topic, key=letter.key, value=letter.value, headers=headers)
            timer = threading.Timer(LATE, send)
            timer.daemon = True
            timer.start()

    delivery.Parking.park = careless


BUGS: dict[str, tuple[str, Callable[[ModuleType], None]]] = {
    "offset-before-write": ("tailrace.sink.loop", offset_before_write),
    "unguarded-put": ("tailrace.sink.dynamodb_calls", unguarded_put),
    "state-without-changelog": ("tailrace.stream.state", state_without_changelog),
    "batch-dropped": ("tailrace.stream.bridge", batch_dropped),
    "letter-not-awaited": ("tailrace.sink.delivery", letter_not_awaited),
}


class Planter(MetaPathFinder):
    """Finds one module as everybody does, and plants the bug when it was executed."""

    def __init__(self, name: str, plant: Callable[[ModuleType], None]) -> None:
        self._name, self._plant = name, plant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        loader: Any = spec.loader if spec else None
        execute = loader.exec_module

        def planted(module: ModuleType) -> None:
            execute(module)
            self._plant(module)

        loader.exec_module = planted
        return spec


def plant(name: str) -> None:
    """Have one bug from now on; a name that is none is an error."""
    sys.meta_path.insert(0, Planter(*BUGS[name]))


if os.environ.get(VARIABLE):
    plant(os.environ[VARIABLE])
