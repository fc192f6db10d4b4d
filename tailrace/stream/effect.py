"""The effect of a batch, step by step, in the one order that loses nothing and restores no value from the future.

Outputs and dead letters are acknowledged before the images that the batch changed go to their changelog, and that
before they are in the local store; then the offset may be committed. So whenever a record is processed again while its
key's image is not older than it, its output was acknowledged before. It works in one thread and waits for Kafka; what
stops it (Retryable, a kill) may be followed by the same batch again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tailrace.crashpoint import Processor, reach
from tailrace.stream.drift import Held
from tailrace.stream.passes import deleted_before

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.kafka import Outbox
    from tailrace.stream.conform import Conformed, Conformer
    from tailrace.stream.images import Images
    from tailrace.stream.state import States

DELIVERY_MS = 20_000  # how long a message may wait for its acknowledgement before the batch is tried again
SLICE_ROWS = 500  # rows conformed before they are sent: what a slice holds stays in the processor's cache


class Given(NamedTuple):
    """What a batch became. ``held`` says where and why it ended before its last record; None where it did not."""

    results: list[Conformed]
    held: Held | None = None


class Effect:
    """Conforms batches and sends what they became. ``beat`` is called as it goes on."""

    def __init__(
        self,
        conformer: Conformer,
        outbox: Outbox,
        *,
        letters_to: str,
        states: States | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._conformer, self._outbox, self._letters_to = conformer, outbox, letters_to
        self._states, self._beat = states, beat

    def give(self, topic: str, partition: int, records: Sequence[Any]) -> Given:
        """Return what a batch became once all of it is durable, or all before the record that its table is held at."""
        images = None if self._states is None else self._states.of(topic, partition)
        results: list[Conformed] = []
        held = None
        while True:
            try:
                self._slices(topic, partition, records, images, results)
                break
            except Held as found:  # what images learned behind it has to be forgotten: once more, up to there
                held = found
                records = [record for record in records if record.offset < held.offset]
        if records:
            reach(Processor.OUTPUTS_SENT)
            self._outbox.flush(DELIVERY_MS / 1000 + 5)
            reach(Processor.OUTPUTS_ACKNOWLEDGED)
            if any(result.letters for result in results):
                reach(Processor.LETTERS_ACKNOWLEDGED)
            if self._states is not None and images is not None:
                self._states.keep(topic, partition, self._conformer.version(topic, partition, records[-1].offset))
        return Given(results, held)

    def _slices(
        self, topic: str, partition: int, records: Sequence[Any], images: Images | None, results: list[Conformed]
    ) -> None:
        """Conform and send slice by slice; what ``results`` already has was sent."""
        if images is not None:
            images.begin()
        deleted = deleted_before(records)
        for number, start in enumerate(range(0, len(records), SLICE_ROWS)):
            self._beat()
            result = self._conformer.batch(topic, partition, records[start : start + SLICE_ROWS], deleted, images)
            if number >= len(results):
                self._send(result)
                results.append(result)

    def _send(self, result: Conformed) -> None:
        """Queue what a slice became, and let go of it: the producer has its own copy."""
        send = self._outbox.send
        for output in result.outputs:
            send(output.topic, key=output.key, value=output.value, headers=output.headers, partition=output.partition)
        for parked in result.letters:
            send(self._letters_to, key=parked.key, value=parked.value, headers=parked.message_headers())
        result.outputs.clear()
