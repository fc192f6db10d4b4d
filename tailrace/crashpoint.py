"""Crash points: named places before and after every durable step, where a process under test dies by its own SIGKILL.

``TAILRACE_CRASH_AT`` names the place: ``offset-stored`` dies the first time it is reached, ``offset-stored:3`` the
third time; ``offset-stored:stop`` stops there with SIGSTOP, to be a zombie when it goes on; ``@FILE`` does what the
file says, which may be written while the process runs. Unset, as it is outside of tests, a point costs one look at a
global, once per batch or request and never per record. docs/crash-points.md is printed from the table
(``tools/crash_points.py``). Nothing here cleans up, waits or logs: that is what a crash is.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARIABLE = "TAILRACE_CRASH_AT"


class CrashPoint(Enum):
    """A place: what is done there and what is not, and what the next start finds."""

    def __init__(self, done: str, found: str) -> None:
        self.done, self.found = done, found

    @property
    def spelled(self) -> str:
        """The name as ``TAILRACE_CRASH_AT`` takes it."""
        return self.name.lower().replace("_", "-")


class Processor(CrashPoint):
    """In a processor (tailrace.stream)."""

    CLAIMS_WRITTEN = (
        "Each partition's claim is in its changelog; nothing of the images is read yet.",
        "A claim that nobody uses; it writes a newer one and reads up to that.",
    )
    IMAGES_HALF_RESTORED = (
        "A part of the changelogs is in the local store.",
        "Nothing: what is local dies with its process. It restores from the beginning of the changelogs.",
    )
    STRAY_IMAGES_REMOVED = (
        "Images that a process without a claim wrote are removed in the changelog; the partition is not taken yet.",
        "A changelog without them; it takes the partition with another claim.",
    )
    OUTPUTS_SENT = (
        "A batch's outputs are given to the producer; none is known to be acknowledged.",
        "Any part of them in Kafka and the offset before the batch: all are sent again, under the same versions.",
    )
    OUTPUTS_ACKNOWLEDGED = (
        "Kafka has all outputs of a batch; neither changelog nor offset tell of it.",
        "The offset before the batch: every output a second time, under the same version, which sinks drop.",
    )
    LETTERS_ACKNOWLEDGED = (
        "A dead letter is acknowledged; the offset of its record is not committed.",
        "The same record again: a second letter that names the same source, which counts as one.",
    )
    CHANGELOG_SENT = (
        "A claim, or the images that a batch changed, are given to the producer; none is known to be acknowledged.",
        "Any part of them in the changelog: a row whose image is not older keeps the output that it has.",
    )
    IMAGES_LOGGED = (
        "The changelog has the images of a batch; the local store and the offset have not.",
        "Images that are newer than the offset: the batch is done again; what they restore no more is passed over.",
    )
    BATCH_DONE = (
        "Outputs, letters and images of a batch are durable; its offset waits for the next commit.",
        "The offset before the batch: all of it again, to no effect.",
    )
    OFFSETS_COMMITTED = (
        "The offset of a batch is committed.",
        "Nothing to do again.",
    )
    TABLE_HELD = (
        "All before a record that its table is held at is durable; the offset is not committed and nobody was told.",
        "The offset before the batch: the same outputs again, and the table held at the same record.",
    )
    CONTRACT_REGISTERED = (
        "A contract grown by unknown_columns = evolve is registered; the table still has the old one.",
        "The newer contract in the registry, which it starts with: the held record fits.",
    )
    SETTLING = (
        "The last batch before a revoke or a stop is over; what is done is not committed.",
        "The offset of the last commit: what came after it again.",
    )


class SinkWorker(CrashPoint):
    """In a sink worker, whatever its stores, or in the writers of DynamoDB and OpenSearch (tailrace.sink)."""

    BATCH_TAKEN = (
        "A batch was taken from Kafka; nothing of it is written.",
        "The offset before the batch: it is written for the first time.",
    )
    BATCH_WRITTEN = (
        "Every store has a batch; what was refused is not parked yet.",
        "The offset before the batch: what is there is stale and dropped, what is refused is refused again and parked.",
    )
    PARKED_SENT = (
        "The letters of a batch are given to the producer; none is known to be acknowledged.",
        "Any part of them in the dead-letter topic: all are parked again; two that name one source count as one.",
    )
    PARKED_ACKNOWLEDGED = (
        "The letters of a batch are acknowledged; its offset is not stored.",
        "The same batch again, and second letters that name the same sources.",
    )
    BATCH_DURABLE = (
        "All of a batch is in the stores or parked; its offset is not stored.",
        "The offset before the batch: the same writes again, all of them stale.",
    )
    OFFSET_STORED = (
        "The offset of a batch is stored in the client, which commits each second.",
        "The offset of the last commit: the same writes again, all of them stale.",
    )
    DRAINED = (
        "What was in flight before a revoke or a stop is durable and stored; the last commit is not made.",
        "The offset of the commit before it: the same writes again, all of them stale.",
    )
    PUTS_HALF_WRITTEN = (
        "Some items of a batch are written, others have to be sent (again).",
        "A batch half of which is stale; the other half is written.",
    )
    MOVED_NOT_LEFT = (
        "A record whose key moved is at its new place, and still at the old one.",
        "The record at both places: the new one is stale, the old one gets its tombstone.",
    )
    VALUE_SPILLED = (
        "A large value lies in its object; the item that points to it is not written.",
        "The object under the name that the same value has again; the item is written.",
    )
    BULK_HALF_LANDED = (
        "One bulk request of a batch is answered; others may not even be sent.",
        "A batch some of which is stale (409); the rest is written.",
    )
    FIELDS_ADDED = (
        "A field that the contract gained is in the mapping of the index; nothing was written with it.",
        "The field in the mapping: nothing to add.",
    )


class Lake(CrashPoint):
    """In the lake's writer, or in ``tailrace lake compact``."""

    OBJECTS_PUT = (
        "The objects of a batch are put; the log does not name them.",
        "Orphans: they are taken in by the log when the partition is assigned, and the batch is there already.",
    )
    ENTRY_PUT = (
        "The log names the objects of a batch; the offset is not stored.",
        "A log that has the batch: nothing of it is written again.",
    )
    CHECKPOINT_PUT = (
        "A checkpoint of the log is put; the hint still names the one before.",
        "The older checkpoint and the entries after it, which say the same.",
    )
    ORPHANS_LOGGED = (
        "Orphans are named by the log; the batch that made them comes again.",
        "A log that has the batch: nothing of it is written again.",
    )
    ORPHAN_CUT = (
        "What is news in an orphan is put as an object of its own; the log does not name it.",
        "Two orphans with the same rows: one of them is logged, the other removed.",
    )
    ORPHAN_LOGGED = (
        "What is news in an orphan is logged; the orphan is still in the bucket.",
        "An orphan all of whose rows the log has: it is removed.",
    )
    MERGED_PUT = (
        "A merged object is put; the log does not name it.",
        "The object under the name that its inputs give it: it is taken as it is. Readers never saw it.",
    )
    MERGED_LOGGED = (
        "The log names a merged object in place of its inputs, which still lie in the bucket.",
        "A table that is right; the inputs go after the grace time.",
    )
    INPUTS_REMOVED = (
        "Inputs are removed after the grace time; the log still lists them as to be removed.",
        "Objects to be removed that are gone: they are struck off the list.",
    )


class Command(CrashPoint):
    """In ``epoch bump``, ``snapshot --sweep``, ``verify --repair``, ``dlq replay`` or ``search rebuild``."""

    EPOCH_WRITTEN = (
        "The next epoch is in the control topic; connector offsets and slot are those of the last one.",
        "An epoch whose beginning nobody ended: the command begins another one, with the next number.",
    )
    SLOT_DROPPED = (
        "Offsets and slot are gone; the connector is stopped and nobody takes a snapshot.",
        "An epoch whose beginning nobody ended: the command begins another one, with the next number.",
    )
    SNAPSHOT_AWAITED = (
        "The connector takes the snapshot of the new epoch; rows that vanished are not swept.",
        "An epoch that has begun: the command waits for its snapshot and sweeps.",
    )
    EPOCH_SWEPT = (
        "Kafka has the deletes of the sweep; the epoch is not yet called settled.",
        "An epoch without its end: the command sweeps again, finds nothing and ends it.",
    )
    SNAPSHOT_SIGNALLED = (
        "Debezium was told to read rows again; nobody watches.",
        "A snapshot that goes on by itself: the command watches it, and asks again for what it does not read.",
    )
    SWEEP_MARKED = (
        "A marker lies in the raw topic; what vanished is not deleted.",
        "A marker that nobody uses, which no store sees; the command sets another one.",
    )
    LETTERS_PUT_BACK = (
        "Stores, or Kafka, have what was in dead letters; the letters are still open.",
        "Open letters: put back once more they are stale or the same again, and settled.",
    )
    INDEX_FILLED = (
        "A new search index holds everything; the alias still shows the old one.",
        "The old index, which serves; the command removes the new one and fills it again.",
    )
    ALIAS_MOVED = (
        "The alias shows the new index; what workers wrote to the old one in the last moments is not in it.",
        "An index that may lack changes, which verify names: the command fills the next one.",
    )


POINTS: tuple[CrashPoint, ...] = (*Processor, *SinkWorker, *Lake, *Command)


class Plan:
    """Which point ends or stops this process; ``end`` is given the signal."""

    def __init__(self, text: str, end: Callable[[signal.Signals], None]) -> None:
        self._file = Path(text[1:]) if text.startswith("@") else None
        self._end, self._lock = end, threading.Lock()
        self._text, self._left, self._signal = "", 0, signal.SIGKILL
        self._point: CrashPoint = SinkWorker.BATCH_TAKEN
        self._take("" if self._file else text)

    def reach(self, point: CrashPoint) -> None:
        """Die where it is this point's turn."""
        with self._lock:
            if self._file is not None and self._file.exists():
                self._take(self._file.read_text().strip())
            if not self._text or point is not self._point:
                return
            self._left -= 1
            due = self._left == 0
        if due:
            self._end(self._signal)

    def _take(self, text: str) -> None:
        """Take what is to be done from now on; the same text again changes nothing."""
        if text == self._text:
            return
        if text:
            name, *rest = text.split(":")
            times = next((int(part) for part in rest if part.isdecimal()), 1)
            self._point, self._left = _named(name), times
            self._signal = signal.SIGSTOP if "stop" in rest else signal.SIGKILL
        self._text = text


def _named(name: str) -> CrashPoint:
    found = next((point for point in POINTS if point.spelled == name), None)
    if found is None:
        raise ValueError(f"{VARIABLE} names no crash point: {name}")
    return found


def _strike(number: signal.Signals) -> None:
    """End or stop this process as the kernel would, in the middle of what all of its threads do."""
    os.kill(os.getpid(), number)


def _planned(text: str) -> Plan | None:
    return Plan(text, _strike) if text else None


_plan = _planned(os.environ.get(VARIABLE, ""))


def reach(point: CrashPoint) -> None:
    """Die here where the environment says so."""
    if _plan is not None:
        _plan.reach(point)


@contextmanager
def armed(text: str, end: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Let ``end`` be what a point does inside: for tests that hold the whole world in memory."""
    global _plan  # noqa: PLW0603 - the one look that a point costs
    before, _plan = _plan, Plan(text, end)
    try:
        yield
    finally:
        _plan = before
