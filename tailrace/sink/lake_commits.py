"""Writing the commit log: read what is new, check that one's part still fits, take the next number or lose it.

Optimistic: whoever puts number N + 1 first (If-None-Match) has it, everybody else reads it and looks again. All that
the threads of a worker want at the same time goes into one entry. A part that fits no longer is told so: ``append``
returns False and its author looks at the table anew.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import structlog

from tailrace.crashpoint import Lake, reach
from tailrace.errors import Retryable, TailraceError
from tailrace.sink import lake_log
from tailrace.sink.lake_bucket import Conflict
from tailrace.sink.lake_log import Entry, Part, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

    from tailrace.deadline import Deadline
    from tailrace.sink.lake_bucket import Content, Found
    from tailrace.sink.lake_log import Span, Stored

log = structlog.get_logger()


class Bucket(Protocol):
    """What writers of the lake need of a bucket: ``tailrace.sink.lake_bucket.Bucket`` says what each call does."""

    def look(self) -> None:
        """Fatal when there is no such bucket."""

    def put_new(self, key: str, body: bytes | IO[bytes], metadata: Mapping[str, str] | None = None) -> str:
        """Write an object where nothing is."""

    def put(self, key: str, body: bytes) -> None:
        """Write an object whatever is there."""

    def get(self, key: str) -> Content:
        """Return an object."""

    def head(self, key: str) -> Content:
        """Return an object without its body."""

    def delete(self, key: str, etag: str) -> None:
        """Remove an object that is still what was seen."""

    def listing(self, prefix: str, after: str = "") -> Iterator[Found]:
        """Yield objects by the order of their keys."""

    def close(self) -> None:
        """Close the connections."""


@dataclass
class _Ticket:
    part: Part
    taken: bool | None = None  # None: nobody has looked at it yet
    error: TailraceError | None = None


class Commits:
    """The log of one table, ``folder`` ending in a slash; ``by`` names the writer in its entries."""

    def __init__(self, bucket: Bucket, folder: str, by: str) -> None:
        self._bucket, self._folder, self._by = bucket, folder, by
        self._opened = False
        self._checkpoint = 0
        self._waiting: list[_Ticket] = []
        self._queue, self._turn = threading.Lock(), threading.Lock()
        self.state = State()

    def refresh(self, deadline: Deadline) -> State:
        """Read what others have added; return the state, which later calls move on."""
        with self._held(deadline):
            self._read_on()
            return self.state

    def over(self, spans: Sequence[Span], deadline: Deadline) -> dict[str, Stored]:
        """Return the live objects that may hold a change of these spans, as far as the log was read."""
        with self._held(deadline):
            self._read_first()
            return {key: self.state.live[key] for key in self.state.over(spans)}

    def append(self, part: Part, deadline: Deadline) -> bool:
        """Put a part into the log; False when it does not fit what others have put there meanwhile."""
        ticket = _Ticket(part)
        with self._queue:
            self._waiting.append(ticket)
        with self._held(deadline):
            if ticket.taken is None and ticket.error is None:
                self._settle(deadline)
        if ticket.error is not None:
            raise ticket.error
        return bool(ticket.taken)

    def _settle(self, deadline: Deadline) -> None:
        """Write one entry for all that wait."""
        with self._queue:
            tickets, self._waiting = self._waiting, []
        try:
            self._read_first()
            while tickets:
                tickets = self._round(tickets, deadline)
        except TailraceError as error:
            for ticket in tickets:
                ticket.error = error

    def _round(self, tickets: Sequence[_Ticket], deadline: Deadline) -> list[_Ticket]:
        """Try the next number; return those that have to try again."""
        fitting = self._sift(tickets)
        if not fitting:
            return []
        if deadline.passed():
            raise Retryable("The lake's log is busier than one write may wait.")
        entry = self._entry([ticket.part for ticket in fitting])
        try:
            self._bucket.put_new(self._folder + lake_log.entry_name(entry.sequence), entry.encode())
        except Conflict:
            self._read_on()
            return fitting
        reach(Lake.ENTRY_PUT)
        self.state.apply(entry)
        for ticket in fitting:
            ticket.taken = True
        self._mark()
        return []

    def _sift(self, tickets: Sequence[_Ticket]) -> list[_Ticket]:
        """Return the tickets that fit the state and each other; answer those that are there already or do not fit."""
        trial = self.state.copy() if len(tickets) > 1 else self.state
        fitting: list[_Ticket] = []
        for ticket in tickets:
            if self.state.has(ticket.part):
                ticket.taken = True
            elif not trial.fits(ticket.part):
                ticket.taken = False
            else:
                fitting.append(ticket)
                if trial is not self.state:
                    trial.apply(self._entry([ticket.part]))
        return fitting

    def _entry(self, parts: Sequence[Part]) -> Entry:
        return Entry(
            sequence=self.state.sequence + 1,
            at=datetime.now(UTC).isoformat(timespec="microseconds"),
            by=self._by,
            what=",".join(dict.fromkeys(part.what for part in parts)),
            added=tuple(each for part in parts for each in part.added),
            removed=tuple(self.state.live[key] for part in parts for key in part.removed),
            vacuumed=tuple(key for part in parts for key in part.vacuumed),
        )

    # Reading

    def _read_first(self) -> None:
        if not self._opened:
            self._open()

    def _open(self) -> None:
        """Begin at the newest checkpoint, or at the first entry where that is not there."""
        try:
            known = int(self._bucket.get(self._folder + lake_log.HINT).body)
            self.state = lake_log.state(self._bucket.get(self._folder + lake_log.checkpoint_name(known)).body)
        except Conflict:
            known = 0
        self._checkpoint, self._opened = known, True
        self._read_on()

    def _read_on(self) -> None:
        """Apply the entries that follow."""
        self._read_first()
        while True:
            name = self._folder + lake_log.entry_name(self.state.sequence + 1)
            try:
                self.state.apply(lake_log.decode(self._bucket.get(name).body))
            except Conflict:
                return

    def _mark(self) -> None:
        """Write a checkpoint when the last one is old; two writers of one number write the same."""
        number = self.state.sequence
        if number - self._checkpoint < lake_log.CHECKPOINT_EVERY:
            return
        try:
            self._bucket.put_new(self._folder + lake_log.checkpoint_name(number), self.state.encode())
        except Conflict:
            log.debug("lake.checkpoint.there", sequence=number)
        reach(Lake.CHECKPOINT_PUT)
        self._bucket.put(self._folder + lake_log.HINT, b"%d\n" % number)
        self._checkpoint = number

    @contextmanager
    def _held(self, deadline: Deadline) -> Iterator[None]:
        """Hold the log for oneself; wait for it until the deadline only."""
        if not self._turn.acquire(timeout=max(0.001, deadline.remaining())):
            raise Retryable("The lake's log is busier than one write may wait.")
        try:
            yield
        finally:
            self._turn.release()
