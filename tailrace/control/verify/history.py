"""What the raw topics say of rows: the states that one went through while ``verify`` looked, what it was at a place.

A row that changes all the time is never seen at rest in the source. What a store may hold of it is known all the same:
the state at the marked position, or a later one. Those are in its raw topic, in their order. A value that Debezium did
not send is taken from the state before it, or the state counts as not known; a message that cannot be read, and a
TRUNCATE, make the whole window count as not known. It trusts Debezium for these rows and nothing that Tailrace wrote.
``Window`` is pure; ``History`` reads Kafka, only when asked, and writes nothing.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from tailrace import epoch, topics, version
from tailrace.control.records import Records, newest, read
from tailrace.control.verify.source import key_text
from tailrace.errors import Rejected
from tailrace.source import unchanged
from tailrace.source.envelope import EnvelopeReader

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tailrace.conforming import Row
    from tailrace.contract import Contract
    from tailrace.control.records import Seen
    from tailrace.control.services import Services
    from tailrace.control.verify.source import Key
    from tailrace.epoch import Epoch
    from tailrace.kafka import Offsets, Place
    from tailrace.source.envelope import Sent
    from tailrace.source.unchanged import Placeholder


class Told(NamedTuple):
    """What one message says of a row: ``row`` is None for a delete, ``unsent`` names columns that it does not give."""

    key: Key
    row: Row | None
    unsent: tuple[str, ...] = ()


class State(NamedTuple):
    """What a row was from one place of its raw topic on; ``known`` is False where a part of it is not known."""

    place: Place
    offset: int
    row: Row | None
    known: bool


class Messages:
    """Reads the messages of one table."""

    def __init__(self, contract: Contract, placeholder: Placeholder) -> None:
        self._key = contract.key
        kinds = {field.name: field.kind for field in contract.fields}
        self._reader = EnvelopeReader(kinds, contract.key, placeholder)

    def read(self, key: bytes, value: bytes | None) -> Told:
        """Return what a message says, or raise Rejected."""
        unsent: list[str] = []

        def blank(sent: Sent) -> None:
            unsent.extend(sent.unsent)
            if sent.after is not None:
                sent.after.update(dict.fromkeys(sent.unsent))

        event = None if value is None else self._reader.read(value, blank, moved=True)
        row = None if event is None or event.op == "d" else event.after
        named = self._reader.read_key(key, self._reader.shape) if row is None else row
        return Told(tuple(key_text(named[name]) for name in self._key), row, tuple(unsent))


class Window:
    """What became of the rows of one table since a mark; ``upto`` says how far each partition was read."""

    def __init__(self, messages: Messages) -> None:
        self._messages, self._states = messages, dict[Any, list[State]]()
        self._unclear = False
        self.upto: Offsets = {}

    def add(self, place: Place, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Note one message; those of a partition come in their order."""
        if key is None:
            self._unclear |= value is not None  # a TRUNCATE; a marker has neither
            return
        try:
            told = self._messages.read(key, value)
        except Rejected:
            self._unclear = True
            return
        states = self._states.setdefault(told.key, [])
        row, known = told.row, True
        if row is not None and told.unsent:
            earlier = states[-1].row if states and states[-1].known else None
            known = earlier is not None
            row = {**row, **{name: (earlier or {}).get(name) for name in told.unsent}}
        states.append(State(place, offset, row, known))

    def candidates(self, key: Key, bound: Offsets, before: Row | None) -> Sequence[Row | None]:
        """Return what a row may be in a store that has passed ``bound``; nothing where that is not known.

        ``before`` is the row as the source had it after the mark and before the bound.
        """
        if self._unclear:
            return []
        states = self._states.get(key, [])
        early = [state for state in states if state.offset < bound.get(state.place, 0)]
        rows = [state.row for state in [*early[-1:], *states[len(early) :]] if state.known]
        return rows if early else [before, *rows]


class History:
    """The topics of one project."""

    def __init__(self, services: Services) -> None:
        self._services, self._project = services, services.project
        self._from: Offsets = {}
        self._windows: dict[str, Window] = {}

    def mark(self) -> None:
        """Begin new windows at the present ends of the raw topics."""
        names = [self._raw(table) for table in self._project.tables]
        self._from, self._windows = self._services.admin.ends(names), {}

    def window(self, table: str) -> Window:
        """Return what became of the rows of a table since the mark, up to now."""
        found = self._windows.get(table) or self._windows.setdefault(table, Window(self._messages(table)))
        for place, end in sorted(self._services.admin.ends([self._raw(table)]).items()):
            start = found.upto.get(place, self._from.get(place, 0))
            for message in read(self._services, place, start, end):
                found.add(place, message.offset() or 0, message.key(), message.value())
            found.upto[place] = end
        return found

    def was(self, table: str, key: Key, number: int) -> Told | None:
        """Return what a row was at a version; None where Kafka does not have that any more, or it was another row."""
        epoch_, offset = version.unpack(number)
        topic = self._raw(table)
        for place, (start, end) in self._span(topic).items():
            if start <= offset < end and self._epoch_of(place, offset) == epoch_:
                told = self._one(table, place, offset)
                if told is not None and told.key == key:
                    return told
        return None

    def deleted(self, table: str, rows: Collection[Key]) -> set[Key]:
        """Return those of some rows whose newest conformed record is a delete; it reads the whole topic for it."""
        record = self._project.record_of(table)
        contract, listed = self._project.contract(record), set(rows)
        found: dict[bytes, Seen] = {}
        records = Records(self._services, record)
        for place, (start, end) in records.spans().items():
            some, _ = newest(records.seen(place, start, end), lambda key: row_of(contract, key) in listed)
            found |= {key: seen for key, seen in some.items() if key not in found or seen.version > found[key].version}
        return {row for key, seen in found.items() if seen.deleted and (row := row_of(contract, key)) is not None}

    def _raw(self, table: str) -> str:
        return topics.raw(self._project.name, table)

    def _messages(self, table: str) -> Messages:
        contract = self._project.contract(self._project.record_of(table))
        return Messages(contract, unchanged.of(self._project.connector.config))

    def _span(self, topic: str) -> dict[Place, tuple[int, int]]:
        starts, ends = self._services.admin.starts([topic]), self._services.admin.ends([topic])
        return {place: (starts[place], ends[place]) for place in sorted(ends)}

    @cached_property
    def _epoch(self) -> Epoch | None:
        return epoch.read(self._services.admin, self._project.name)

    def _epoch_of(self, place: Place, offset: int) -> int:
        topic, partition = place
        return 0 if self._epoch is None else self._epoch.ages(topic).at(partition, offset)

    def _one(self, table: str, place: Place, offset: int) -> Told | None:
        """Return what one message says; None where it cannot be read."""
        for message in read(self._services, place, offset, offset + 1):
            if message.offset() != offset or message.key() is None:
                return None
            try:
                return self._messages(table).read(message.key() or b"", message.value())
            except Rejected:
                return None
        return None


def row_of(contract: Contract, key: bytes) -> Key | None:
    """Return the key columns in a conformed record's key as text; None where it is no key of this contract."""
    try:
        parts = contract.decode_key(key)
    except Rejected:
        return None
    return tuple(key_text(parts[name]) for name in contract.key)
