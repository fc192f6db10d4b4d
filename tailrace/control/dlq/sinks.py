"""Letters of a sink, put back into that sink alone.

The sink of the project is opened as a worker opens it, under the contracts in force, and each change is written with
its original version: the store's guard decides, and where it holds newer data the letter is over. A letter that failed
before any sink goes to all sinks of the worker. A lake takes a letter as one more object: a change that its log has
already is left out, and readers order changes by version, so an old one stays old wherever it lies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tailrace import topics
from tailrace.control.dlq.editing import RecordForm
from tailrace.control.dlq.ledger import FAILED, REPLAYED, STALE
from tailrace.control.dlq.picking import together
from tailrace.control.dlq.returning import FORGOTTEN, LEFT, Outcome, outlived, waits_for
from tailrace.deadletter import title
from tailrace.errors import Refused, Rejected, Retryable, Unreachable, UsageError
from tailrace.registry import Registry, canonical
from tailrace.sink import writer
from tailrace.sink.decode import Evolved
from tailrace.sink.stores import Stores
from tailrace.targets import LakeTable, SearchIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.change import Change
    from tailrace.control.dlq.letters import Parked
    from tailrace.deadletter import DeadLetter
    from tailrace.project import Project
    from tailrace.targets import Sink, Target

EVOLUTIONS = 3  # newer contracts that one letter may ask for
REMEMBERING = (LakeTable, SearchIndex)  # stores that never forget that a row was deleted


@dataclass(frozen=True, slots=True)
class Returned:
    """A letter as the message that it was."""

    letter: DeadLetter

    def topic(self) -> str:
        """Return the topic that it was read from."""
        return self.letter.place[0]

    def partition(self) -> int:
        """Return its partition there."""
        return self.letter.place[1]

    def offset(self) -> int:
        """Return its offset there."""
        return self.letter.place[2]

    def key(self) -> bytes | None:
        """Return its key."""
        return self.letter.key

    def value(self) -> bytes | None:
        """Return its value."""
        return self.letter.value

    def headers(self) -> list[tuple[str, bytes | None]]:
        """Return its headers."""
        return list(self.letter.headers)


class ToSinks:
    """Puts letters of one sink worker back."""

    def __init__(self, project: Project, worker: str, *, despite_age: bool = False) -> None:
        self._despite_age, self._hold = despite_age, project.settings.worker(worker).on_reject == "hold"
        self._timeout = project.settings.worker(worker).write_timeout_seconds
        self._registry, self._stores = Registry(project.endpoints.registry), Stores(project, worker)
        self._stores.open(self._registry)
        self._decoder = self._stores.decoder(self._registry.writer)
        self._connected: set[int] = set()

    def close(self) -> None:
        """Close the sinks."""
        self._stores.close()
        self._registry.close()

    def put(self, given: Sequence[Parked]) -> list[Outcome]:
        """Write letters, one after the other: what fails keeps later ones of its key back where keys are held."""
        outcomes: list[Outcome] = []
        failed: dict[tuple[str, bytes | None], list[Parked]] = {}
        for parked in given:
            key = parked.letter.place[0], parked.letter.key
            blocking = failed.get(key, []) if self._hold else []
            before = next((each for each in blocking if together(each.letter, parked.letter)), None)
            outcomes.append(Outcome(parked, LEFT, waits_for(before)) if before else self._one(parked))
            if not outcomes[-1].over and not before:
                failed.setdefault(key, []).append(parked)
        return outcomes

    def form(self, letter: DeadLetter) -> RecordForm:
        """Return what a person edits; UsageError or Refused where there is nothing."""
        try:
            change = self._change(letter)
        except Rejected as error:
            raise UsageError("The letter cannot be read, so it cannot be edited.", detail=str(error)) from error
        if change.value is None:
            raise UsageError("The letter is a delete: it has no value to edit.")
        contract = self._stores.contracts[change.topic]
        registered = self._registry.latest(change.topic)
        if registered is None or canonical(registered[1]) != canonical(contract.schema):
            raise Refused(f"The contract {contract.name} is another one in the registry.", hint="Run `tailrace apply`.")
        return RecordForm(contract, registered[0], change.value)

    def shown(self, letter: DeadLetter) -> dict[str, Any] | None:
        """Return the record in a letter as JSON has it; None for a delete and where it cannot be read."""
        try:
            change = self._change(letter)
        except Rejected:
            return None
        if change.value is None:
            return None
        found: dict[str, Any] = json.loads(RecordForm(self._stores.contracts[change.topic], 0, change.value).text)
        return found

    def try_out(self, letter: DeadLetter, value: bytes) -> None:
        """Raise UsageError where an edited value cannot be read."""
        try:
            self._change(replace(letter, value=value))
        except Rejected as error:
            raise UsageError(error.problem, detail=error.detail, hint=error.hint) from error

    def _one(self, parked: Parked) -> Outcome:
        letter = parked.letter
        sinks = self._sinks(letter)
        if not sinks:
            there = ", ".join(sorted(title(target) for target, _ in self._pairs()))
            return Outcome(parked, LEFT, f"The worker has no sink {letter.sink} for it any more. It has: {there}.")
        guarded = all(isinstance(target, REMEMBERING) for target, _ in sinks)
        if outlived(letter) and not guarded and not self._despite_age:
            return Outcome(parked, LEFT, FORGOTTEN)
        try:
            change = self._change(letter)
        except Rejected as error:
            return Outcome(parked, FAILED, str(error), letter.again(stage=error.stage, reason=str(error)))
        return self._written(parked, change, [sink for _, sink in sinks])

    def _written(self, parked: Parked, change: Change, sinks: Sequence[Sink]) -> Outcome:
        stale = 0
        try:
            for sink in sinks:
                self._connect(sink)
                rejections = sink.write([change], timeout=self._timeout)
                if rejections:
                    reason = rejections[0].reason
                    return Outcome(parked, FAILED, reason, parked.letter.again(stage="write", reason=reason))
                stale += int(getattr(rejections, "stale", 0))
        except Retryable as error:
            raise Unreachable(error.problem, detail=error.detail, hint="Do it again when the store is back.") from error
        return Outcome(parked, STALE if stale == len(sinks) else REPLAYED)

    def _connect(self, sink: Sink) -> None:
        if id(sink) not in self._connected:
            writer.connect(sink)
            self._connected.add(id(sink))

    def _pairs(self) -> list[tuple[Target | Sink, Sink]]:
        return list(zip(self._stores.project.sink(self._stores.name), self._stores.sinks, strict=True))

    def _sinks(self, letter: DeadLetter) -> list[tuple[Target | Sink, Sink]]:
        """Return the sinks that a letter is for."""
        wanting: Any = self._stores.by_topic.get(letter.place[0], ())
        return [
            (target, sink)
            for target, sink in self._pairs()
            if letter.sink in ("", title(target)) and any(sink is each for each in wanting)
        ]

    def _change(self, letter: DeadLetter) -> Change:
        if letter.place[0] not in self._stores.contracts:
            names = ", ".join(topics.conformed(self._stores.project.name, name) for name in self._records())
            raise Rejected(f"The worker does not read {letter.place[0]}.", stage="decode", detail=f"It reads {names}.")
        for _ in range(EVOLUTIONS):
            try:
                return self._decoder.change(Returned(letter))
            except Evolved as cause:
                self._stores.follow(cause, self._registry)
                self._decoder = self._stores.decoder(self._registry.writer)
                self._connected.clear()
        raise Unreachable("The contracts change while the letter is read.", hint="Do it again.")

    def _records(self) -> tuple[str, ...]:
        return self._stores.project.records_of(self._stores.name)
