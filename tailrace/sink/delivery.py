"""One batch made durable: decoded, written by every sink that wants it, what is left over parked.

``Delivery.deliver`` returns only when each message of the batch is in every store or in the dead-letter topic,
acknowledged. It raises Retryable or Unreachable when the same batch may succeed later, Evolved before it has written
anything when that needs a newer contract, Fatal when most of the batch is refused for one reason (nothing of it is
parked then); anything else ends the worker.
Delivering twice is harmless. It knows nothing of offsets being committed and is called from many threads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tailrace import deadletter
from tailrace.crashpoint import SinkWorker, reach
from tailrace.errors import Fatal, Rejected
from tailrace.sink.breaker import tripped
from tailrace.sink.holding import runs
from tailrace.targets import LakeTable, RawLakeTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.change import Change, Rejection
    from tailrace.deadletter import DeadLetter
    from tailrace.kafka import Outbox
    from tailrace.sink.breaker import Breaker
    from tailrace.sink.decode import Decoder, Message
    from tailrace.sink.holding import Holding
    from tailrace.targets import Sink, Target

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
            reach(SinkWorker.PARKED_SENT)
            self._outbox.flush(FLUSH_SECONDS)
            reach(SinkWorker.PARKED_ACKNOWLEDGED)


@dataclass(frozen=True)
class Refusals:
    """What a worker does with what is refused (``[workers.NAME]`` of tailrace.toml), besides parking it.

    ``titles`` are how sinks are called in dead letters, by ``id``; ``holding`` is there where later changes of a parked
    key have to wait, for the sinks in ``waiting``; ``breaker`` where a systemic failure stops the worker.
    """

    titles: Mapping[int, str] = field(default_factory=dict)
    breaker: Breaker | None = None
    holding: Holding | None = None
    waiting: frozenset[int] = frozenset()

    def of(self, targets: Sequence[Target | Sink], sinks: Sequence[Sink]) -> Refusals:
        """Return the same for the sinks that were opened for these targets; changes wait everywhere but in a lake."""
        pairs = list(zip(targets, sinks, strict=True))
        titles = {id(sink): deadletter.title(target) for target, sink in pairs}
        waiting = frozenset(id(sink) for target, sink in pairs if not isinstance(target, LakeTable | RawLakeTable))
        return replace(self, titles=titles, waiting=waiting)

    def close(self) -> None:
        """Close what was opened."""
        if self.holding is not None:
            self.holding.close()

    def title(self, sink: Sink) -> str:
        """Return how a sink is called in dead letters."""
        return self.titles.get(id(sink), type(sink).__name__)


@dataclass(slots=True)
class Tally:
    """What a batch became so far. ``outcomes`` are, by sink, the reasons of what it refused, else empty texts."""

    topic: str
    letters: list[DeadLetter] = field(default_factory=list)
    outcomes: dict[str, list[str]] = field(default_factory=dict)
    stale: int = 0


@dataclass(frozen=True)
class Delivery:
    """How one worker delivers; ``sinks`` are by topic, ``timeout`` is in seconds of one write."""

    worker: str
    decoder: Decoder
    sinks: Mapping[str, Sequence[Sink]]
    park: Callable[[Sequence[DeadLetter]], None]
    timeout: float
    refusals: Refusals = field(default_factory=Refusals)

    def deliver(self, messages: Sequence[Message]) -> Delivered:
        """Make one batch of one partition durable."""
        reach(SinkWorker.BATCH_TAKEN)
        tally = Tally(messages[0].topic())
        changes = self._decoded(messages, tally)
        if self.refusals.holding is not None:
            self.refusals.holding.refresh()
        if changes:
            for sink in self.sinks[tally.topic]:
                self._written(sink, changes, tally)
        reach(SinkWorker.BATCH_WRITTEN)
        if self.refusals.breaker is not None:
            first = messages[0]
            self.refusals.breaker.begin(tally.topic, first.partition(), first.offset(), refused=bool(tally.letters))
        self._parked(tally)
        return Delivered(
            len(messages), len(tally.letters), tally.stale, tuple(change.committed_us for change in changes)
        )

    def _decoded(self, messages: Sequence[Message], tally: Tally) -> list[Change]:
        changes, outcomes = [], [""] * len(messages)
        for position, message in enumerate(messages):
            try:
                changes.append(self.decoder.change(message))
            except Rejected as error:
                outcomes[position] = str(error)
                tally.letters.append(self._unreadable(message, error))
        tally.outcomes[""] = outcomes
        return changes

    def _written(self, sink: Sink, changes: Sequence[Change], tally: Tally) -> None:
        """Write a batch to one sink; a change that has to wait for a parked one is parked behind it."""
        holding = self.refusals.holding
        if holding is None or id(sink) not in self.refusals.waiting:
            self._write(sink, changes, tally)
            return
        title = self.refusals.title(sink)
        parked = {letter.key: (letter.place[2], letter.source) for letter in reversed(tally.letters) if not letter.sink}
        for run in runs(changes):
            part, free = changes[run], []
            for change, known in zip(part, holding.holders(title, part), strict=True):
                offset, source = parked.get(change.raw_key, (change.offset, ""))
                waits_for = known or (source if offset < change.offset else "")
                if waits_for:
                    tally.letters.append(self._held(title, change, waits_for))
                else:
                    free.append(change)
            for change in self._write(sink, free, tally) if free else ():
                parked[change.raw_key] = change.offset, f"{change.topic}/{change.partition}/{change.offset}"

    def _write(self, sink: Sink, changes: Sequence[Change], tally: Tally) -> list[Change]:
        """Write changes to one sink, take down what it refuses, and return that."""
        title, outcomes, refused = self.refusals.title(sink), [""] * len(changes), []
        rejections = sink.write(changes, timeout=self.timeout)
        for rejection in rejections:
            change = _refused(changes, rejection)
            refused.append(change)
            outcomes[rejection.position] = rejection.reason
            tally.letters.append(self._letter(change, "write", rejection.reason, sink=title))
        tally.outcomes.setdefault(title, []).extend(outcomes)
        tally.stale += int(getattr(rejections, "stale", 0))
        return refused

    def _parked(self, tally: Tally) -> None:
        """Park what is left over, unless it is too much of one kind."""
        breaker = self.refusals.breaker
        if breaker is not None:
            for title, outcomes in tally.outcomes.items():
                trip = breaker.judge((tally.topic, title), outcomes)
                if trip is not None:
                    alike = [letter for letter in tally.letters if letter.sink == title and not letter.held_by]
                    example = next(letter for letter in alike if letter.reason == trip.reason)
                    raise tripped(trip, tally.topic, title, example.source)
        self.park(tally.letters)
        if breaker is not None:
            for title, outcomes in tally.outcomes.items():
                breaker.remember((tally.topic, title), outcomes)

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

    def _held(self, title: str, change: Change, source: str) -> DeadLetter:
        reason = "An older change of the same key is parked."
        return self._letter(change, deadletter.HELD, reason, sink=title, held_by=source)

    def _letter(self, change: Change, stage: str, reason: str, *, sink: str, held_by: str = "") -> DeadLetter:
        return deadletter.letter(
            worker=self.worker,
            stage=stage,
            reason=reason,
            place=(change.topic, change.partition, change.offset),
            key=change.raw_key,
            value=change.raw_value,
            headers=change.headers,
            sink=sink,
            held_by=held_by,
        )


def _refused(changes: Sequence[Change], rejection: Rejection) -> Change:
    if not 0 <= rejection.position < len(changes):
        raise Fatal(
            "A sink rejected a change that was not in its batch.",
            detail=f"position {rejection.position} of {len(changes)}",
            hint="Rejection.position is the index in the batch that write was given.",
        )
    return changes[rejection.position]
