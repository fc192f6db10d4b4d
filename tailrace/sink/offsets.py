"""The offsets of what is durable: stored in the client as batches end, committed by it each second, and here at once.

An offset that cannot be committed is written again by whoever reads next, which changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tailrace.crashpoint import SinkWorker, reach

if TYPE_CHECKING:
    from tailrace.kafka import Place

log = structlog.get_logger()


def store(consumer: Any, place: Place, offset: int) -> None:
    """Let the client commit ``offset`` of a partition with its next commit."""
    reach(SinkWorker.BATCH_DURABLE)
    try:
        consumer.store_offsets(offsets=[TopicPartition(place[0], place[1], offset)])
    except KafkaException as error:
        if error.args[0].code() != KafkaError._STATE:  # noqa: SLF001 - no longer ours: its new owner writes it again
            raise
    reach(SinkWorker.OFFSET_STORED)


def commit(consumer: Any) -> None:
    """Commit what is stored, now."""
    reach(SinkWorker.DRAINED)
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._NO_OFFSET:  # noqa: SLF001 - nothing was stored since the last commit
            log.warning("offsets not committed; the successor writes them again", reason=error.args[0].name())
