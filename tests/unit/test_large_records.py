"""A record that its topic would not take is a dead letter: nothing of it stops the worker or is tried for ever."""

from __future__ import annotations

from contextlib import closing

import pytest

from tailrace import deadletter
from tailrace.control.resources.topics import DEAD_LETTERS, RAW
from tailrace.kafka import Outbox
from tailrace.sink.worker import LARGE
from tailrace.topics import MESSAGE_BYTES
from tests.cluster import CHANGELOG, OUT, PARKED, STAND_IN, Cluster, Record, Worker
from tests.raw import message, payload, reading

HALF, WHOLE = "h" * (MESSAGE_BYTES * 6 // 10), "w" * MESSAGE_BYTES
LIMIT = int(DEAD_LETTERS["max.message.bytes"])


def record(offset: int, op: str, note: str, *, before: str | None = None) -> Record:
    old = None if before is None else reading(1, note=before)
    return Record(offset, b'{"id":1}', message(payload(op, before=old, after=reading(1, note=note))))


def conformed(*records: Record) -> tuple[int, list[str], Cluster]:
    """Return how many outputs there are, and the reasons of the dead letters."""
    cluster = Cluster()
    Worker(cluster).work(list(records), 2)
    letters = [deadletter.read(sent.key, sent.value, list(sent.headers.items())) for sent in cluster.topics[PARKED]]
    return len(cluster.topics[OUT]), [letter.reason for letter in letters], cluster


def test_a_record_larger_than_its_topic_takes_is_parked_and_the_others_go_on() -> None:
    sent, reasons, _ = conformed(record(0, "c", "small"), record(1, "u", WHOLE), record(2, "u", "small again"))
    assert sent == 2
    assert ["larger than its topic takes" in reason for reason in reasons] == [True]


@pytest.mark.parametrize("fits", [True, False])
def test_the_record_before_counts_as_it_travels_in_the_same_message(*, fits: bool) -> None:
    sent, reasons, _ = conformed(record(0, "u", HALF, before="short" if fits else HALF))
    assert (sent, len(reasons)) == ((1, 0) if fits else (0, 1))


def test_an_image_that_no_changelog_takes_is_not_kept_and_its_row_is_parked_until_it_is_sent_whole() -> None:
    sent, reasons, cluster = conformed(record(0, "c", WHOLE), record(1, "u", STAND_IN), record(2, "u", "short"))
    assert sent == 1
    assert ["larger" in reasons[0], "was not sent" in reasons[1]] == [True, True]
    assert max(len(kept.value or b"") for kept in cluster.topics[CHANGELOG]) < MESSAGE_BYTES


def test_the_dead_letter_of_the_largest_record_fits_into_its_topic_and_its_producer() -> None:
    assert int(RAW["max.message.bytes"]) == MESSAGE_BYTES < LIMIT
    for config in ({}, LARGE):  # of a processor, of a sink
        with closing(Outbox("127.0.0.1:9", "test", **config)) as outbox:
            outbox.send("dlq", key=b"k", value=bytes(LIMIT))
