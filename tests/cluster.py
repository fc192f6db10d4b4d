"""Topics that are lists, for tests of the processor's batches without a broker: any step may be the last one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailrace import contract
from tailrace.kafka import Outbox
from tailrace.source.unchanged import Placeholder, fresh
from tailrace.stream.conform import Conformer, TablePlan
from tailrace.stream.effect import Effect
from tailrace.stream.state import States
from tests.raw import READING_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LETTERS = fresh("k3JbT0f9xW2mQ7aZ")
STAND_IN = "\0k3JbT0f9xW2mQ7aZ"
RAW, OUT, PARKED, CHANGELOG = "raw", "out", "parked", "changelog"
CONTRACT = contract.build("reading", READING_SCHEMA, where="reading")


class Crash(BaseException):
    """The process is gone in the middle of what it did."""


@dataclass
class Record:
    """A raw record."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = 1_767_322_800_123


@dataclass
class Sent:
    """A message in a topic of one partition."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes | None]


class Cluster:
    """Topics of one partition, the committed offset, and a countdown to the next crash."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Sent]] = {OUT: [], PARKED: [], CHANGELOG: []}
        self.ends = dict.fromkeys(self.topics, 0)
        self.committed, self.until_crash = 0, -1

    def step(self) -> None:
        """Crash when the countdown is over."""
        self.until_crash -= 1
        if self.until_crash == 0:
            raise Crash

    def append(self, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes | None]) -> None:
        self.topics[topic].append(Sent(self.ends[topic], key, value, dict(headers)))
        self.ends[topic] += 1

    def compact(self) -> None:
        """Keep the last message of each key in the changelog, as a broker may at any time; removals go too."""
        last = {found.key: found for found in self.topics[CHANGELOG]}
        kept = [found for found in last.values() if found.value is not None]
        self.topics[CHANGELOG] = sorted(kept, key=lambda found: found.offset)


class ListOutbox(Outbox):
    """Messages arrive one by one when they are flushed, and any of them may be the last."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._queue = cluster, list[tuple[Any, ...]]()

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int = -1,
    ) -> None:
        assert partition <= 0
        self._queue.append((topic, key, value, dict(headers)))

    def flush(self, timeout: float = 60) -> None:
        assert timeout > 0
        queue, self._queue = self._queue, []
        for entry in queue:
            self._cluster.step()
            self._cluster.append(*entry)
        self._cluster.step()


class DictStore:
    """A store in memory."""

    def __init__(self, cluster: Cluster) -> None:
        self.used, self.kept, self._cluster = False, dict[bytes, bytes](), cluster

    def get(self, key: bytes) -> bytes | None:
        return self.kept.get(key)

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        self._cluster.step()
        for key, value in changes.items():
            if value is None:
                self.kept.pop(key, None)
            else:
                self.kept[key], self.used = value, True


class ListLibrary:
    """Changelogs that are lists."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self.closed = cluster, False

    def store(self, place: tuple[str, int]) -> DictStore:
        assert place == (RAW, 0)
        return DictStore(self._cluster)

    def drop(self, store: Any) -> None:
        store.kept.clear()

    def close(self) -> None:
        self.closed = True

    def read(
        self, begins: Mapping[tuple[str, int], int]
    ) -> Iterator[tuple[tuple[str, int], list[tuple[int, bytes | None, bytes | None]], bool]]:
        assert list(begins) == [(RAW, 0)]
        held = [found for found in self._cluster.topics[CHANGELOG] if found.offset >= begins[RAW, 0]]
        for start in range(0, len(held), 3):
            part = [(found.offset, found.key, found.value) for found in held[start : start + 3]]
            yield (RAW, 0), part, start + 3 >= len(held)


class Worker:
    """One process: it has nothing that outlives it."""

    def __init__(self, cluster: Cluster, *, keeps: bool = True, epoch: int = 1) -> None:
        plan = TablePlan(RAW, OUT, CONTRACT, 7, placeholder=Placeholder(LETTERS), changelog=CHANGELOG if keeps else "")
        conformer, outbox = Conformer([plan], epoch=epoch, worker="conform"), ListOutbox(cluster)
        self.cluster = cluster
        self.states = States(conformer.changelogs, ListLibrary(cluster), outbox)
        self.states.own([(RAW, 0)])
        self.effect = Effect(conformer, outbox, letters_to=PARKED, states=self.states)

    def work(self, records: Sequence[Record], size: int) -> None:
        """Process what is not committed yet, in batches."""
        while due := records[self.cluster.committed :][:size]:
            self.effect.give(RAW, 0, due)
            self.cluster.step()
            self.cluster.committed = due[-1].offset + 1
