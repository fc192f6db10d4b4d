"""Dead letters: what a record becomes that can never be processed, and what says that one is over.

The message in ``<pipeline>.dlq.<worker>`` has the original key and value bytes and the original headers, and headers
that say where it came from and why it is here. It is acknowledged before the offset of the original moves
(``Outbox.flush``). A settlement, a message of the same topic, names the places of letters that are over: nothing is
ever removed. Reasons never hold row values.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tailrace.change import VERSION
from tailrace.targets import DynamoDBTable, LakeTable, RawLakeTable, SearchIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.change import Headers
    from tailrace.targets import Sink, Target

PREFIX = "tailrace.error."
STAGE, REASON, WORKER, SOURCE, FAILED = (PREFIX + name for name in ("stage", "reason", "worker", "source", "failed_us"))
SINK, FIRST, FAILURES = (PREFIX + name for name in ("sink", "first_failed_us", "failures"))
HELD_BY = PREFIX + "held_by"  # the source of the letter for whose sake a change had to wait
EDITED, ORIGINAL = PREFIX + "edited_from", PREFIX + "original"
SETTLED, HOW, SETTLED_AT = (f"tailrace.settled.{name}" for name in ("places", "how", "at_us"))
HELD = "held"  # the stage of a change that fails for nothing of its own

Spot = tuple[int, int]  # partition and offset in a dead-letter topic


def now_us() -> int:
    """Return the time in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One parked record. ``source`` is ``<topic>/<partition>/<offset>``; ``failed_us`` microseconds since 1970 UTC.

    ``sink`` names the store that refused it; it is empty where the record failed before any. ``failed_us`` is the last
    failure, ``first_failed_us`` the first of ``failures``. ``held_by`` is the source of an older letter of the same key
    that it waits for. ``edited_from`` is the place of the letter that this one replaces, ``original`` the SHA-256 of
    the value as it was before any edit.
    """

    stage: str
    reason: str
    worker: str
    source: str
    failed_us: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    sink: str = ""
    first_failed_us: int = 0
    failures: int = 1
    held_by: str = ""
    edited_from: str = ""
    original: str = ""

    @property
    def place(self) -> tuple[str, int, int]:
        """Topic, partition and offset of the record; both -1 where the letter does not say."""
        topic, *spot = self.source.rsplit("/", 2)
        return (topic, *(parse_spot("/".join(spot)) or (-1, -1)))

    @property
    def order(self) -> tuple[int, int]:
        """What letters of one key are sorted by: the record's version, and its offset where it has none."""
        return version_in(self.headers), self.place[2]

    def message_headers(self) -> list[tuple[str, bytes | None]]:
        """Return the headers to send: the original ones, then ours."""
        told = {
            STAGE: self.stage,
            REASON: self.reason,
            WORKER: self.worker,
            SINK: self.sink,
            SOURCE: self.source,
            FAILED: str(self.failed_us),
            FIRST: str(self.first_failed_us),
            FAILURES: str(self.failures),
        }
        rare = {HELD_BY: self.held_by, EDITED: self.edited_from, ORIGINAL: self.original}
        told |= {name: text for name, text in rare.items() if text}
        return [*self.headers, *((name, text.encode()) for name, text in told.items())]

    def again(self, *, stage: str, reason: str) -> DeadLetter:
        """Return the letter as it is parked after one more failure, now."""
        return replace(self, stage=stage, reason=reason, failed_us=now_us(), failures=self.failures + 1, held_by="")


@dataclass(frozen=True, slots=True)
class Settlement:
    """Says that the letters at some places of the topic are over: replayed, stale, dropped or edited."""

    places: tuple[Spot, ...]
    how: str
    settled_us: int = field(default_factory=now_us)

    def message_headers(self) -> list[tuple[str, bytes | None]]:
        """Return the headers of its message, which has no value."""
        places = " ".join(f"{partition}/{offset}" for partition, offset in self.places)
        return [(SETTLED, places.encode()), (HOW, self.how.encode()), (SETTLED_AT, b"%d" % self.settled_us)]


def letter(
    *,
    worker: str,
    stage: str,
    reason: str,
    place: tuple[str, int, int],
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]] | None,
    sink: str = "",
    held_by: str = "",
) -> DeadLetter:
    """Return the dead letter of a record that failed now; ``place`` is its topic, partition and offset."""
    original = tuple((name, text) for name, text in headers or () if not name.startswith(PREFIX))
    source, now = "/".join(str(part) for part in place), now_us()
    return DeadLetter(
        stage, reason, worker, source, now, key, value, original, sink=sink, first_failed_us=now, held_by=held_by
    )


def read(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]] | None) -> DeadLetter:
    """Return the dead letter in a message of a dead-letter topic; fields it lacks are empty."""
    found = {name: (text or b"").decode(errors="replace") for name, text in headers or ()}
    failed = _number(found, FAILED, 0)
    return DeadLetter(
        stage=found.get(STAGE, ""),
        reason=found.get(REASON, ""),
        worker=found.get(WORKER, ""),
        source=found.get(SOURCE, ""),
        failed_us=failed,
        key=key,
        value=value,
        headers=tuple((name, text) for name, text in headers or () if not name.startswith(PREFIX)),
        sink=found.get(SINK, ""),
        first_failed_us=_number(found, FIRST, failed),
        failures=_number(found, FAILURES, 1),
        held_by=found.get(HELD_BY, ""),
        edited_from=found.get(EDITED, ""),
        original=found.get(ORIGINAL, ""),
    )


def settlement(headers: Sequence[tuple[str, bytes | None]] | None) -> Settlement | None:
    """Return what a message of a dead-letter topic settles; None where it is a letter."""
    found = {name: (text or b"").decode(errors="replace") for name, text in headers or ()}
    if SETTLED not in found:
        return None
    places = tuple(spot for text in found[SETTLED].split() if (spot := parse_spot(text)) is not None)
    return Settlement(places, found.get(HOW, ""), _number(found, SETTLED_AT, 0))


def parse_spot(text: str) -> Spot | None:
    """Return partition and offset of ``P/O``; None where it says something else."""
    partition, _, offset = text.partition("/")
    return (int(partition), int(offset)) if partition.isdecimal() and offset.isdecimal() else None


def version_in(headers: Headers) -> int:
    """Return the version in the headers of a conformed record, -1 where they have none."""
    found = next((text for name, text in headers if name == VERSION), None) or b""
    return int(found) if found.isdigit() else -1


def title(declared: Target | Sink) -> str:
    """Return how dead letters call a sink: its store and the table or alias there, a user's own by its class."""
    if isinstance(declared, DynamoDBTable):
        return f"dynamodb/{declared.table}"
    if isinstance(declared, LakeTable):
        return f"lake/{declared.table}"
    if isinstance(declared, RawLakeTable):
        return f"lake/{declared.folder}"
    return f"search/{declared.alias}" if isinstance(declared, SearchIndex) else type(declared).__name__


def _number(found: Mapping[str, str], name: str, default: int) -> int:
    text = found.get(name, "")
    return int(text) if text.isdecimal() else default
