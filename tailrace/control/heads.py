"""When the first record that a group has not passed yet was committed in the source, per partition.

Each is read once and remembered while the group stands there. Conformed records say it in a header, raw ones in
Debezium's source block; a tombstone says nothing, so Kafka's own time of it is taken.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition

from tailrace.change import COMMITTED
from tailrace.deadline import Deadline
from tailrace.kafka import reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.kafka import Place

READ_WITHIN = 2.0


class Heads:
    """Commit times by place and offset; one consumer, one thread."""

    def __init__(self, bootstrap: str, client: str) -> None:
        small = {"queued.min.messages": 1, "max.partition.fetch.bytes": 65_536, "fetch.wait.max.ms": 20}
        self._consumer = reader(bootstrap, f"{client}-status", **small)
        self._known: dict[tuple[Place, int], float] = {}

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def update(self, positions: Mapping[Place, int], ends: Mapping[Place, int]) -> None:
        """Read the records at those positions that have any, as far as they are not known."""
        wanted = {place: offset for place, offset in positions.items() if offset < ends.get(place, 0)}
        self._known = {key: value for key, value in self._known.items() if wanted.get(key[0]) == key[1]}
        unknown = {place: offset for place, offset in wanted.items() if (place, offset) not in self._known}
        if unknown:
            self._read(unknown)

    def committed(self, place: Place, offset: int, default: float) -> float:
        """Return the commit time in seconds since 1970; ``default`` where it could not be read."""
        return self._known.get((place, offset), default)

    def _read(self, wanted: dict[Place, int]) -> None:
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in wanted.items()])
        deadline, left = Deadline.after(READ_WITHIN), dict(wanted)
        while left and not deadline.passed():
            message = self._consumer.poll(min(0.2, deadline.remaining()))
            if message is None:
                continue
            place = message.topic(), message.partition()
            offset = left.pop(place, None)
            if offset is not None and message.error() is None:
                self._known[place, offset] = committed_at(message)
        self._consumer.unassign()


def committed_at(message: Any) -> float:
    """Return when the change in a message was committed in the source, in seconds since 1970."""
    for name, text in message.headers() or ():
        if name == COMMITTED and text and text.isdigit():
            return int(text) / 1e6
    return source_time(message.value()) or message.timestamp()[1] / 1e3


def source_time(value: bytes | None) -> float:
    """Return the commit time in a Debezium envelope, 0 where there is none."""
    try:
        envelope = json.loads(value or b"{}")
        source = envelope.get("payload", envelope)["source"]
        return float(source["ts_us"] / 1e6 if source.get("ts_us") else source["ts_ms"] / 1e3)
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0.0
