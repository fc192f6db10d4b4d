"""Dead letters: what a record becomes that can never be processed.

The message in ``<pipeline>.dlq.<worker>`` has the original key and value bytes and the original headers, and headers
that say where it came from and why it is here. It is acknowledged before the offset of the original moves
(``Outbox.flush``). Reasons never hold row values.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "tailrace.error."
STAGE, REASON, WORKER, SOURCE, FAILED = (PREFIX + name for name in ("stage", "reason", "worker", "source", "failed_us"))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One parked record. ``source`` is ``<topic>/<partition>/<offset>``; ``failed_us`` microseconds since 1970 UTC."""

    stage: str
    reason: str
    worker: str
    source: str
    failed_us: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    def message_headers(self) -> list[tuple[str, bytes | None]]:
        """Return the headers to send: the original ones, then ours."""
        return [
            *self.headers,
            (STAGE, self.stage.encode()),
            (REASON, self.reason.encode()),
            (WORKER, self.worker.encode()),
            (SOURCE, self.source.encode()),
            (FAILED, b"%d" % self.failed_us),
        ]


def letter(
    *,
    worker: str,
    stage: str,
    reason: str,
    place: tuple[str, int, int],
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]] | None,
) -> DeadLetter:
    """Return the dead letter of a record that failed now; ``place`` is its topic, partition and offset."""
    original = tuple((name, text) for name, text in headers or () if not name.startswith(PREFIX))
    source = "/".join(str(part) for part in place)
    return DeadLetter(stage, reason, worker, source, time.time_ns() // 1000, key, value, original)


def read(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]] | None) -> DeadLetter:
    """Return the dead letter in a message of a dead-letter topic; fields it lacks are empty."""
    found = {name: (text or b"").decode(errors="replace") for name, text in headers or ()}
    return DeadLetter(
        stage=found.get(STAGE, ""),
        reason=found.get(REASON, ""),
        worker=found.get(WORKER, ""),
        source=found.get(SOURCE, ""),
        failed_us=int(found.get(FAILED) or 0),
        key=key,
        value=value,
        headers=tuple((name, text) for name, text in headers or () if not name.startswith(PREFIX)),
    )
