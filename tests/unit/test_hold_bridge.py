"""The bridge while a partition is held: the rest flows, the commit stays at the record, nothing is lost after it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tailrace.stream.bridge import BatchConsumer, BatchThread
from tailrace.stream.processor import ConformApp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FIRST, SECOND = TP("raw", 0), TP("raw", 1)
LOG = 12  # records in each partition


class Broker:
    """Two partitions, committed offsets, and where the consumer's fetches go on."""

    def __init__(self, cancelled: int = 0) -> None:
        self.cancelled = cancelled  # commits that end with the client's thread
        self.committed: dict[TP, int] = {FIRST: 0, SECOND: 0}
        self.position = dict(self.committed)


class ListThread(BatchThread):
    """The thread of the bridge with that broker behind it."""

    broker: Broker

    def assignment(self) -> set[TP]:
        return set(self.broker.committed)

    async def start_of(self, tp: TP) -> int:
        return self.broker.committed[tp]

    async def rewind(self, tp: TP, offset: int) -> None:
        self.broker.position[tp] = offset

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        if self.broker.cancelled:
            self.broker.cancelled -= 1
            raise asyncio.CancelledError
        assert all(offset >= self.broker.committed[tp] for tp, offset in offsets.items())
        self.broker.committed |= offsets
        return True


class Holder:
    """A handler that holds one record until it is released, and notes what it processed."""

    def __init__(self, at: int) -> None:
        self.at, self.waits, self.partitions = at, True, 0
        self.done: dict[TP, list[int]] = {FIRST: [], SECOND: []}
        self.held: set[tuple[str, int]] = set()

    async def batch(self, topic: str, partition: int, records: Sequence[Any]) -> int:
        for record in records:
            if (topic, partition) == FIRST and record.offset == self.at and self.waits:
                self.held = {FIRST}
                return self.at
            self.done[TP(topic, partition)].append(record.offset)
        return int(records[-1].offset) + 1

    def turn(self, partitions: int) -> None:
        self.partitions = partitions

    def revoked(self) -> None:
        self.held = set()


class ListConsumer(BatchConsumer):
    """The bridge on a broker of lists; one fetch takes some records of every partition that is not paused."""

    broker: Broker
    script: list[str | int]

    def _new_consumer_thread(self) -> ListThread:
        made = ListThread(self, loop=self.loop, beacon=self.beacon)
        made.broker = self.broker
        return made

    async def _wait_next_records(self, _timeout: float) -> Any:
        """Return the next fetch; a word in the script is an event before it."""
        step = self.script.pop(0) if self.script else "end"
        holder: Any = self._handler
        self.resume_flow()
        if step == "release":
            holder.waits, holder.held = False, set()
        elif step == "rebalance":
            await self._settle()
            holder.revoked()
            self._forget()
            self._set_active_tps(set(self.broker.committed))
            self.broker.position = dict(self.broker.committed)
        elif step == "end":
            self._stopped.set()
        found = self._fetched(step if isinstance(step, int) else LOG if step == "late" else 0)
        if step == "late":  # a fetch that began before a rebalance brings this before Faust lets records flow again
            self.stop_flow()
        return found, None

    def _fetched(self, size: int) -> dict[TP, list[Any]]:
        found = {}
        for tp in self._get_active_partitions():
            start = self.broker.position[tp]
            self.broker.position[tp] = min(LOG, start + size)
            found[tp] = [SimpleNamespace(offset=offset) for offset in range(start, self.broker.position[tp])]
        return {tp: records for tp, records in found.items() if records}


def drained(folder: Path, holder: Holder, script: Sequence[str | int], cancelled: int = 0) -> Broker:
    """Run the bridge's own loop over a script and commit at its end."""

    async def run() -> Broker:
        app = ConformApp("bridge", handler=holder, broker=[URL("kafka://nowhere")], datadir=str(folder))  # type: ignore[arg-type]  # what the bridge asks of it
        broker = Broker(cancelled)
        made = type("Bound", (ListConsumer,), {"broker": broker, "script": list(script)})
        consumer = made(app.transport, callback=lambda _: None, on_partitions_revoked=None, on_partitions_assigned=None)
        consumer._set_active_tps(set(broker.committed))
        await asyncio.wait_for(consumer._drain_messages(SimpleNamespace(_stopped=asyncio.Event())), 20)
        await consumer._settle()
        consumer._thread.thread_loop.close()  # it never ran
        return broker

    return asyncio.run(run())


def test_a_held_partition_stays_at_its_record_while_the_other_flows(tmp_path: Path) -> None:
    holder = Holder(at=5)
    broker = drained(tmp_path, holder, [3, 4, 4, 4])
    assert broker.committed == {FIRST: 5, SECOND: LOG}
    assert holder.done[FIRST] == [0, 1, 2, 3, 4]
    assert holder.partitions == 2  # it still has both, and is ready


def test_a_partition_held_by_the_last_record_goes_on_without_another_one(tmp_path: Path) -> None:
    holder = Holder(at=LOG - 1)
    broker = drained(tmp_path, holder, [LOG, 4, "release", 4, 4])
    assert broker.committed == {FIRST: LOG, SECOND: LOG}
    assert holder.done[FIRST] == list(range(LOG))


def test_a_commit_that_ends_with_the_clients_thread_is_none_and_ends_nothing_else(tmp_path: Path) -> None:
    once = drained(tmp_path, Holder(at=LOG), [LOG], cancelled=1)
    assert once.committed == {FIRST: 0, SECOND: 0}
    again = drained(tmp_path, Holder(at=LOG), [LOG, "rebalance", LOG], cancelled=1)
    assert again.committed == {FIRST: LOG, SECOND: LOG}


def test_records_that_come_before_the_flow_goes_on_are_fetched_again_when_no_other_follows(tmp_path: Path) -> None:
    holder = Holder(at=LOG)
    broker = drained(tmp_path, holder, [3, "rebalance", "late", 0, LOG])
    assert broker.committed == {FIRST: LOG, SECOND: LOG}
    assert holder.done == {FIRST: list(range(LOG)), SECOND: list(range(LOG))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bridge")


@given(
    at=st.integers(0, LOG - 1),
    before=st.lists(st.one_of(st.integers(0, 5), st.sampled_from(["rebalance", "late"])), max_size=8),
    after=st.lists(st.one_of(st.integers(0, 5), st.sampled_from(["rebalance", "late"])), max_size=8),
)
def test_whatever_happens_nothing_behind_a_held_record_has_an_effect_and_nothing_is_lost_after_it(
    folder: Path, at: int, before: list[str | int], after: list[str | int]
) -> None:
    holder = Holder(at)
    broker = drained(folder, holder, before)
    assert broker.committed[FIRST] <= at
    assert max(holder.done[FIRST], default=-1) < at
    holder = Holder(at)
    broker = drained(folder, holder, [*before, "release", *after, LOG, LOG, LOG])
    assert broker.committed == {FIRST: LOG, SECOND: LOG}
    for done in holder.done.values():
        assert sorted(set(done)) == list(range(LOG))
