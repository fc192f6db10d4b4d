"""What a worker parked last, before it was started again: so that a breaker that opened does not forget why.

Only letters directly before the offset at which a partition goes on are known to have nothing good between them. They
are read from the end of the dead-letter topic, once per partition, and only when something is refused again.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, TopicPartition

from tailrace import deadletter
from tailrace.deadline import Deadline
from tailrace.errors import Retryable
from tailrace.kafka import reader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tailrace.deadletter import DeadLetter

READ_SECONDS, ANSWER_SECONDS = 20.0, 10.0


def outcomes_before(letters: Iterable[DeadLetter], topic: str, partition: int, offset: int) -> dict[str, list[str]]:
    """Return by sink the outcomes of the records directly before an offset, as far back as each was parked. Pure."""
    parked: dict[int, dict[str, str]] = {}
    for letter in letters:
        if letter.place[:2] == (topic, partition) and letter.stage != deadletter.HELD:
            parked.setdefault(letter.place[2], {})[letter.sink] = letter.reason
    begin = offset
    while begin - 1 in parked:
        begin -= 1
    behind = [parked[number] for number in range(begin, offset)]
    return {sink: [each.get(sink, "") for each in behind] for sink in {name for each in behind for name in each}}


def latest(bootstrap: str, topic: str, count: int) -> list[DeadLetter]:
    """Return the open letters among the last messages of each partition of a topic; Retryable where it is away."""
    found: dict[tuple[int, int], Any] = {}
    settled: set[tuple[int, int]] = set()
    try:
        with closing(reader(bootstrap, topic)) as consumer:
            for message in _tail(consumer, topic, count):
                settlement = deadletter.settlement(message.headers())
                if settlement is not None:
                    settled.update(settlement.places)
                else:
                    spot = message.partition(), message.offset()
                    found[spot] = deadletter.read(message.key(), None, message.headers())
    except KafkaException as error:
        raise Retryable("The dead letters cannot be read.", detail=error.args[0].name()) from error
    return [letter for spot, letter in found.items() if spot not in settled]


def _tail(consumer: Any, topic: str, count: int) -> Iterable[Any]:
    """Yield the last messages of every partition."""
    left, begins = {}, []
    for number in consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic].partitions:
        low, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=ANSWER_SECONDS)
        begin = max(low, end - count)
        if begin < end:
            left[number] = end
            begins.append(TopicPartition(topic, number, begin))
    consumer.assign(begins)
    deadline = Deadline.after(READ_SECONDS)
    while left:
        if deadline.passed():
            raise Retryable("The dead letters were not read in time.", detail=topic)
        for message in consumer.consume(count, 0.1):
            if message.error() is None:
                yield message
                if message.offset() + 1 >= left.get(message.partition(), 0):
                    left.pop(message.partition(), None)
