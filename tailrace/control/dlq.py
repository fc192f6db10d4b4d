"""Dead letters, read back: how many, why and since when, and single ones with their bytes.

Topics are read from their start to the end they have when the reading begins, by hand, with a deadline; nothing is
committed and nothing is changed. Bytes of rows are only returned, never logged.
"""

from __future__ import annotations

import base64
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, TopicPartition

from tailrace import deadletter, topics
from tailrace.deadline import Deadline
from tailrace.errors import Unreachable, UsageError
from tailrace.kafka import reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from confluent_kafka import Consumer, Message

    from tailrace.deadletter import DeadLetter
    from tailrace.kafka import KafkaAdmin, Offsets, Place
    from tailrace.project import Project

TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Parked:
    """One dead letter and where it lies in its dead-letter topic."""

    partition: int
    offset: int
    letter: DeadLetter

    def as_dict(self, *, values: bool) -> dict[str, Any]:
        """Return it for ``--json``; the value's bytes only where asked for."""
        letter = self.letter
        shown: dict[str, Any] = {"place": f"{self.partition}/{self.offset}", "source": letter.source}
        shown |= {"stage": letter.stage, "reason": letter.reason, "failed_at": moment(letter.failed_us)}
        shown |= {"key": readable(letter.key), "bytes": len(letter.value or b"")}
        if values:
            shown["value"] = readable(letter.value)
            shown["headers"] = {name: readable(text) for name, text in letter.headers}
        return shown


@dataclass(frozen=True, slots=True)
class Heap:
    """Dead letters of one worker that are there for one reason; ``last_us`` is when the newest failed."""

    worker: str
    stage: str
    reason: str
    count: int
    last_us: int

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {**asdict(self), "last_seen": moment(self.last_us)}


def workers(project: Project) -> list[str]:
    """Return every worker that may have dead letters."""
    return [name for name in project.processors if project.tables_of(name)] + list(project.sinks)


def heaps(project: Project, admin: KafkaAdmin, worker: str = "") -> list[Heap]:
    """Return dead letters by worker, stage and reason, the largest heap first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    last: dict[tuple[str, str, str], int] = {}
    for name in _chosen(project, worker):
        for parked in letters(admin, topics.dead_letters(project.name, name)):
            place = name, parked.letter.stage, parked.letter.reason
            counts[place] += 1
            last[place] = max(last.get(place, 0), parked.letter.failed_us)
    return [Heap(*place, count, last[place]) for place, count in counts.most_common()]


def show(
    project: Project, admin: KafkaAdmin, worker: str, *, limit: int, place: tuple[int, int] | None = None
) -> list[Parked]:
    """Return the newest ``limit`` dead letters of a worker, or the one at ``place`` (partition and offset)."""
    [name] = _chosen(project, worker)
    found = list(letters(admin, topics.dead_letters(project.name, name)))
    if place is not None:
        found = [parked for parked in found if (parked.partition, parked.offset) == place]
        if not found:
            raise UsageError(
                f"There is no dead letter at {place[0]}/{place[1]} of {name}.", hint=f"`tailrace dlq show {name}`"
            )
    return sorted(found, key=lambda parked: parked.letter.failed_us, reverse=True)[:limit]


def by_source(admin: KafkaAdmin, topic: str) -> dict[str, int]:
    """Return how many dead letters of one topic came from which source topic."""
    return dict(Counter(parked.letter.source.rsplit("/", 2)[0] for parked in letters(admin, topic)))


def letters(admin: KafkaAdmin, topic: str) -> Iterator[Parked]:
    """Yield every dead letter that is in a topic now; nothing when there is no such topic."""
    starts, ends = admin.starts([topic]), admin.ends([topic])
    left = {place: end for place, end in ends.items() if end > starts[place]}
    if not left:
        return
    with closing(reader(admin.bootstrap, topic)) as consumer:
        consumer.assign([TopicPartition(name, number, starts[name, number]) for name, number in left])
        for message in _until(consumer, left, topic):
            letter = deadletter.read(message.key(), message.value(), message.headers())
            yield Parked(message.partition(), message.offset(), letter)


def _until(consumer: Consumer, left: Offsets, topic: str) -> Iterator[Message]:
    """Yield messages up to the given ends."""
    deadline = Deadline.after(TIMEOUT)
    while left and not deadline.passed():
        message = consumer.poll(min(1.0, deadline.remaining()))
        if message is None:
            continue
        place: Place = message.topic(), message.partition()
        error = message.error()
        if error is None and place in left:
            yield message
            if message.offset() + 1 >= left[place]:
                del left[place]
        elif error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
            left.pop(place, None)
        elif error is not None and not error.retriable():
            raise Unreachable(f"The topic {topic} cannot be read.", detail=error.name())
    if left:
        raise Unreachable(f"The topic {topic} could not be read in {TIMEOUT:g} s.")


def _chosen(project: Project, worker: str) -> Sequence[str]:
    known = workers(project)
    if worker and worker not in known:
        raise UsageError(f"There is no worker {worker}.", hint=f"Known: {', '.join(known)}.")
    return [worker] if worker else known


def readable(content: bytes | None) -> str | None:
    """Return bytes as text, or as ``base64:...`` where they are no text."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(content).decode()


def moment(microseconds: int) -> str:
    """Return microseconds since 1970 as ISO text in UTC."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat(timespec="seconds")
