"""One batch made durable: decoded, written by every sink that wants it, what is left over parked.

``Delivery.deliver`` returns only when each message of the batch is in every store or in the dead-letter topic,
acknowledged. It raises Retryable or Unreachable when the same batch may succeed later, Evolved before it has written
anything when that needs a newer contract; anything else ends the worker.
Delivering twice is harmless. It knows nothing of offsets being committed and is called from many threads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailrace import deadletter
from tailrace.errors import Fatal, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.change import Change, Rejection
    from tailrace.deadletter import DeadLetter
    from tailrace.kafka import Outbox
    from tailrace.sink.decode import Decoder, Message
    from tailrace.targets import Sink

FLUSH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of one batch: ``committed_us`` are the source commit times of what was written."""

    messages: int
    parked: int
    stale: int
    committed_us: tuple[int, ...]


class Parking:
    """The dead-letter topic of one worker; an Outbox is for one thread at a time, so each batch has it alone."""

    def __init__(self, outbox: Outbox, topic: str) -> None:
        self._outbox, self._topic = outbox, topic
        self._lock = threading.Lock()

    def park(self, letters: Sequence[DeadLetter]) -> None:
        """Return when all are acknowledged."""
        if not letters:
            return
        with self._lock:
            for letter in letters:
                self._outbox.send(self._topic, key=letter.key, value=letter.value, headers=letter.message_headers())
            self._outbox.flush(FLUSH_SECONDS)


@dataclass(frozen=True)
class Delivery:
    """How one worker delivers; ``sinks`` are by topic, ``timeout`` is in seconds of one write."""

    worker: str
    decoder: Decoder
    sinks: Mapping[str, Sequence[Sink]]
    park: Callable[[Sequence[DeadLetter]], None]
    timeout: float

    def deliver(self, messages: Sequence[Message]) -> Delivered:
        """Make one batch of one partition durable."""
        changes, letters = self._decoded(messages)
        stale = 0
        if changes:
            for sink in self.sinks[messages[0].topic()]:
                rejections = sink.write(changes, timeout=self.timeout)
                letters += [self._refused(changes, rejection) for rejection in rejections]
                stale += int(getattr(rejections, "stale", 0))
        self.park(letters)
        return Delivered(len(messages), len(letters), stale, tuple(change.committed_us for change in changes))

    def _decoded(self, messages: Sequence[Message]) -> tuple[list[Change], list[DeadLetter]]:
        changes, letters = [], []
        for message in messages:
            try:
                changes.append(self.decoder.change(message))
            except Rejected as error:
                letters.append(self._unreadable(message, error))
        return changes, letters

    def _unreadable(self, message: Message, error: Rejected) -> DeadLetter:
        return deadletter.letter(
            worker=self.worker,
            stage=error.stage,
            reason=str(error),
            place=(message.topic(), message.partition(), message.offset()),
            key=message.key(),
            value=message.value(),
            headers=message.headers(),
        )

    def _refused(self, changes: Sequence[Change], rejection: Rejection) -> DeadLetter:
        if not 0 <= rejection.position < len(changes):
            raise Fatal(
                "A sink rejected a change that was not in its batch.",
                detail=f"position {rejection.position} of {len(changes)}",
                hint="Rejection.position is the index in the batch that write was given.",
            )
        change = changes[rejection.position]
        return deadletter.letter(
            worker=self.worker,
            stage="write",
            reason=rejection.reason,
            place=(change.topic, change.partition, change.offset),
            key=change.raw_key,
            value=change.raw_value,
            headers=change.headers,
        )
