"""Records put back into a compacted topic, where the last record of a key survives and not the newest.

What is newer is looked for first, in the whole partition; where there is any, the older record is not sent. What came
between looking and sending is sent once more behind it, until the newest record of every key is its last. Who dies
between leaves that to whoever does it again. Sinks take every record by its version, so none of this changes them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tailrace.control.dlq.letters import messages
from tailrace.deadletter import version_in
from tailrace.errors import Retryable, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tailrace.kafka import KafkaAdmin, Outbox, Place
    from tailrace.stream.conform import Output

    Headers = Sequence[tuple[str, bytes | None]]
    Record = tuple[bytes | None, bytes | None, Headers]  # key, value, headers

READ_SECONDS = 600.0  # for one partition
TIMES = 10  # that newer records are sent behind older ones


class Log(Protocol):
    """The topics, as far as this needs them."""

    def end(self, place: Place) -> int:
        """Return where a partition ends."""

    def read(self, place: Place, begin: int) -> Iterable[Record]:
        """Return the records of a partition from an offset up to its present end."""

    def send(self, place: Place, record: Record) -> None:
        """Queue one record."""

    def flush(self) -> None:
        """Return when everything is acknowledged."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a partition has of one key: its newest record with its version, and the version of its last one."""

    version: int
    newest: Record
    last: int


def put(log: Log, outputs: Sequence[Output]) -> list[bool]:
    """Send records unless something newer of their key is there; say of each whether it was sent."""
    wanted: defaultdict[Place, set[bytes | None]] = defaultdict(set)
    for output in outputs:
        wanted[output.topic, output.partition].add(output.key)
    begins = {place: log.end(place) for place in wanted}
    there = {place: seen(log.read(place, 0), keys) for place, keys in wanted.items()}
    sent = []
    for output in outputs:
        place, number = (output.topic, output.partition), version_in(output.headers)
        known = there[place].get(output.key)
        sent.append(known is None or known.version < number)
        if sent[-1]:
            log.send(place, (output.key, output.value, output.headers))
    for place, begin in begins.items():
        _again(log, place, there[place])
        log.flush()
        _newest_last(log, place, begin, wanted[place])
    return sent


def seen(records: Iterable[Record], keys: set[bytes | None]) -> dict[bytes | None, Seen]:
    """Return what there is of some keys among the records of one partition, given in their order."""
    found: dict[bytes | None, Seen] = {}
    for record in records:
        key, _, headers = record
        if key in keys:
            number, before = version_in(headers), found.get(key)
            known = (number, record) if before is None or before.version <= number else (before.version, before.newest)
            found[key] = Seen(*known, number)
    return found


def _newest_last(log: Log, place: Place, begin: int, keys: set[bytes | None]) -> None:
    for _ in range(TIMES):
        if not _again(log, place, seen(log.read(place, begin), keys)):
            return
        log.flush()
    raise Unreachable("The keys change too fast to put an older record among them.", hint="Do it again.")


def _again(log: Log, place: Place, there: dict[bytes | None, Seen]) -> bool:
    """Send once more what has an older record behind it; say whether there was any."""
    passed = [each for each in there.values() if each.last < each.version]
    for each in passed:
        log.send(place, each.newest)
    return bool(passed)


class Topics:
    """The topics of a cluster."""

    def __init__(self, admin: KafkaAdmin, outbox: Outbox) -> None:
        self._admin, self._outbox = admin, outbox

    def end(self, place: Place) -> int:
        """Return where a partition ends."""
        return self._admin.ends([place[0]])[place]

    def read(self, place: Place, begin: int) -> Iterable[Record]:
        """Return the records of a partition from an offset up to its present end."""
        start = max(begin, self._admin.starts([place[0]])[place])
        for message in messages(self._admin, {place: start}, READ_SECONDS):
            yield message.key(), message.value(), message.headers() or []

    def send(self, place: Place, record: Record) -> None:
        """Queue one record."""
        key, value, headers = record
        self._outbox.send(place[0], key=key, value=value, headers=headers, partition=place[1])

    def flush(self) -> None:
        """Return when everything is acknowledged; Unreachable otherwise."""
        try:
            self._outbox.flush()
        except Retryable as error:
            hint = "Do it again: what was sent twice changes nothing."
            raise Unreachable(error.problem, detail=error.detail, hint=hint) from error
