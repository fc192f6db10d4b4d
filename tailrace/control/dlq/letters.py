"""Dead letters as they lie in their topics: which are open, how many, why and since when.

Topics are read from their start to the end they have when the reading begins, by hand, with a deadline; nothing is
committed and nothing is changed. A record that failed several times in the same way (a worker that was set back, a
crash between parking and commit) is one letter with several places. Bytes of rows are only returned, never logged.
"""

from __future__ import annotations

import base64
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, TopicPartition

from tailrace import deadletter, topics
from tailrace.control.dlq.selection import EVERYTHING
from tailrace.deadline import Deadline
from tailrace.errors import Unreachable, UsageError
from tailrace.kafka import reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from confluent_kafka import Consumer, Message

    from tailrace.control.dlq.selection import Selection
    from tailrace.deadletter import DeadLetter, Settlement, Spot
    from tailrace.kafka import KafkaAdmin, Offsets, Place
    from tailrace.project import Project

TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Parked:
    """One dead letter and where it lies in its dead-letter topic.

    ``places`` are all that it has there, itself included; ``settled`` says how it came to an end, empty before.
    """

    partition: int
    offset: int
    letter: DeadLetter
    places: tuple[Spot, ...] = ()
    settled: str = ""

    @property
    def spot(self) -> Spot:
        """Partition and offset, as people name the letter."""
        return self.partition, self.offset

    @property
    def shelf(self) -> tuple[str, str, bytes | None]:
        """Sink, topic and key: among letters of one shelf the order matters."""
        return self.letter.sink, self.letter.place[0], self.letter.key

    def as_dict(self, *, values: bool) -> dict[str, Any]:
        """Return it for ``--json``; the value's bytes only where asked for."""
        letter = self.letter
        shown: dict[str, Any] = {"place": f"{self.partition}/{self.offset}", "source": letter.source}
        shown |= {"sink": letter.sink, "stage": letter.stage, "reason": letter.reason}
        shown |= {"failed_at": moment(letter.failed_us), "first_failed_at": moment(letter.first_failed_us)}
        shown |= {"failures": letter.failures, "key": readable(letter.key), "bytes": len(letter.value or b"")}
        rare = {"held_by": letter.held_by, "edited_from": letter.edited_from, "settled": self.settled}
        shown |= {name: text for name, text in rare.items() if text}
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
    sink: str = ""
    first_us: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {**asdict(self), "last_seen": moment(self.last_us), "first_seen": moment(self.first_us)}


def heaps(
    project: Project, admin: KafkaAdmin, worker: str = "", selection: Selection = EVERYTHING, *, settled: bool = False
) -> list[Heap]:
    """Return dead letters by worker, sink, stage and reason, the largest heap first."""
    found: dict[tuple[str, str, str, str], list[DeadLetter]] = {}
    for name in chosen(project, worker):
        for parked in letters(admin, topics.dead_letters(project.name, name), settled=settled, values=False):
            letter = parked.letter
            if selection.takes(parked):
                found.setdefault((name, letter.sink, letter.stage, letter.reason), []).append(letter)
    made = [
        Heap(
            worker=name,
            stage=stage,
            reason=reason,
            count=len(alike),
            last_us=max(letter.failed_us for letter in alike),
            sink=sink,
            first_us=min(letter.first_failed_us for letter in alike),
        )
        for (name, sink, stage, reason), alike in found.items()
    ]
    return sorted(made, key=lambda heap: heap.count, reverse=True)


def show(
    project: Project,
    admin: KafkaAdmin,
    worker: str,
    *,
    limit: int,
    place: Spot | None = None,
    selection: Selection = EVERYTHING,
    settled: bool = False,
) -> list[Parked]:
    """Return the newest ``limit`` dead letters of a worker, or the one at ``place``, settled or not."""
    [name] = chosen(project, worker)
    found = list(letters(admin, topics.dead_letters(project.name, name), settled=settled or place is not None))
    if place is not None:
        return [at(found, place, name)]
    found = [parked for parked in found if selection.takes(parked)]
    return sorted(found, key=lambda parked: parked.letter.failed_us, reverse=True)[:limit]


def at(found: Iterable[Parked], place: Spot, worker: str) -> Parked:
    """Return the letter that has a place, or raise UsageError."""
    for parked in found:
        if place in parked.places:
            return parked
    raise UsageError(
        f"There is no dead letter at {place[0]}/{place[1]} of {worker}.", hint=f"`tailrace dlq show {worker}`"
    )


def by_source(admin: KafkaAdmin, topic: str) -> dict[str, int]:
    """Return how many open dead letters of one topic came from which source topic."""
    return dict(Counter(parked.letter.place[0] for parked in letters(admin, topic, values=False)))


def letters(admin: KafkaAdmin, topic: str, *, settled: bool = False, values: bool = True) -> Iterator[Parked]:
    """Yield the open dead letters that are in a topic now, and where asked the settled; nothing without a topic."""
    pile = Pile()
    starts = admin.starts([topic])
    for message in messages(admin, starts):
        found = deadletter.settlement(message.headers())
        value = message.value() if values else None
        spot = message.partition(), message.offset()
        pile.take(spot, found or deadletter.read(message.key(), value, message.headers()))
    yield from pile.letters(settled=settled)


class Pile:
    """What a dead-letter topic holds, taken in message by message; pure."""

    def __init__(self) -> None:
        self._letters: dict[Spot, DeadLetter] = {}
        self._settled: dict[Spot, str] = {}

    def take(self, spot: Spot, message: DeadLetter | Settlement) -> None:
        """Take in one message."""
        if isinstance(message, deadletter.Settlement):
            self._settled |= dict.fromkeys(message.places, message.how)
        else:
            self._letters[spot] = message

    def letters(self, *, settled: bool = False) -> Iterator[Parked]:
        """Yield what is open, what failed several times once, and where asked what is settled."""
        same: dict[tuple[str, str, str], list[Spot]] = {}
        for spot, letter in self._letters.items():
            how = self._settled.get(spot)
            if how is None:
                same.setdefault((letter.sink, letter.source, letter.edited_from), []).append(spot)
            elif settled:
                yield Parked(*spot, letter, (spot,), how)
        for spots in same.values():
            yield self._together(spots)

    def _together(self, spots: Sequence[Spot]) -> Parked:
        newest = max(spots, key=lambda spot: (self._letters[spot].failed_us, spot))
        all_of_it = [self._letters[spot] for spot in spots]
        first = min(letter.first_failed_us for letter in all_of_it)
        failures = sum(letter.failures for letter in all_of_it)
        letter = replace(self._letters[newest], first_failed_us=first, failures=failures)
        return Parked(*newest, letter, tuple(sorted(spots)))


def messages(admin: KafkaAdmin, begin: Offsets, timeout: float = TIMEOUT) -> Iterator[Message]:
    """Yield every message that is in some partitions now, from these offsets on."""
    ends = admin.ends({topic for topic, _ in begin})
    left = {place: ends[place] for place, start in begin.items() if ends[place] > start}
    if not left:
        return
    with closing(reader(admin.bootstrap, "dlq")) as consumer:
        consumer.assign([TopicPartition(topic, number, begin[topic, number]) for topic, number in left])
        yield from _until(consumer, left, timeout)


def _until(consumer: Consumer, left: Offsets, timeout: float) -> Iterator[Message]:
    """Yield messages up to the given ends."""
    deadline, topic = Deadline.after(timeout), ", ".join(sorted({topic for topic, _ in left}))
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
        raise Unreachable(f"The topic {topic} could not be read in {timeout:g} s.")


def chosen(project: Project, worker: str) -> Sequence[str]:
    """Return the worker, or all of them where none is named; UsageError for one that does not exist."""
    known = list(project.workers)
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
