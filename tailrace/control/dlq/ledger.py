"""What became of dead letters, written down in their own topic: nothing is removed there, a settlement names places.

A settlement lies in the partition of its letter, so retention takes the letter first. Letters that replace others are
acknowledged before what settles those, so that at no moment a record is neither here nor there.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from tailrace import topics
from tailrace.deadletter import Settlement, now_us
from tailrace.errors import Retryable, Unreachable
from tailrace.kafka import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tailrace.control.dlq.letters import Parked
    from tailrace.deadletter import DeadLetter
    from tailrace.project import Project

LARGE = {"message.max.bytes": 20_000_000}
FLUSH_SECONDS = 30.0
REPLAYED, STALE, DROPPED, EDITED, FAILED = "replayed", "stale", "dropped", "edited", "failed again"


class Ledger:
    """Writes into the dead-letter topic of one worker."""

    def __init__(self, project: Project, worker: str) -> None:
        self._topic = topics.dead_letters(project.name, worker)
        self._outbox = Outbox(project.endpoints.kafka, f"{project.name}.dlq", **LARGE)

    def settle(self, letters: Iterable[tuple[Parked, str]]) -> None:
        """Return when it is acknowledged how each letter came to an end."""
        for parked, how in letters:
            headers, key = Settlement(parked.places, how).message_headers(), parked.letter.key
            self._outbox.send(self._topic, key=key, value=None, headers=headers, partition=parked.partition)
        self._flush()

    def replace(self, letters: Iterable[tuple[Parked, DeadLetter, str]]) -> None:
        """Put other letters in the place of some, and return when that is acknowledged."""
        given = list(letters)
        for parked, letter, _ in given:
            headers = letter.message_headers()
            self._outbox.send(
                self._topic, key=letter.key, value=letter.value, headers=headers, partition=parked.partition
            )
        self._flush()
        self.settle((parked, how) for parked, _, how in given)

    def close(self) -> None:
        """Leave the broker."""
        self._outbox.close()

    def _flush(self) -> None:
        try:
            self._outbox.flush(FLUSH_SECONDS)
        except Retryable as error:
            raise Unreachable(
                "Kafka did not take down what became of the letters.",
                detail=error.problem,
                hint="Do it again: what was put back a second time changes nothing.",
            ) from error


def edited(parked: Parked, value: bytes) -> DeadLetter:
    """Return the letter that replaces one whose value was edited."""
    letter = parked.letter
    first = letter.original or sha256(letter.value or b"").hexdigest()
    place = f"{parked.partition}/{parked.offset}"
    return replace(letter, value=value, edited_from=place, original=first, failed_us=now_us())
