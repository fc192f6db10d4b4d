"""From a message of a conformed topic to a Change.

The value is read with the schema it was written with and, where that is not the contract's, resolved to the contract.
A schema that has more than the contract in force, or does not fit it, is Evolved: somebody has to look for a newer
contract first.
A message that cannot be read is Rejected(stage=decode); a registry that does not answer is Unreachable, because the
message may be good. It consumes nothing: any object with the six methods of a Kafka message will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from tailrace.change import BEFORE, Change, provenance
from tailrace.contract import build, schema_id
from tailrace.errors import ProjectError, Rejected
from tailrace.evolution import ahead, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from tailrace.change import Headers
    from tailrace.contract import Contract
    from tailrace.sink.rawtopic import RawReader, Timed


FRAME = 5  # bytes before an Avro body
PLAIN = 6  # headers of a message without the record before it


class Message(Protocol):
    """What is used of a Kafka message."""

    def topic(self) -> str:
        """Return its topic."""

    def partition(self) -> int:
        """Return its partition."""

    def offset(self) -> int:
        """Return its offset."""

    def key(self) -> bytes | None:
        """Return its key."""

    def value(self) -> bytes | None:
        """Return its value."""

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Return its headers."""


class Evolved(Exception):
    """A message of ``topic`` was written under a schema that the contract in force may be too old for."""

    def __init__(self, topic: str, schema_id: int) -> None:
        super().__init__(f"{topic}: schema {schema_id}")
        self.topic, self.schema_id = topic, schema_id


class Decoder:
    """Decodes the messages of some topics; safe to share between threads.

    ``contracts`` are by topic; ``writer`` returns the compiled schema of a registry id (``Registry.writer``).
    ``settled`` are the (topic, id) that nobody needs to look at: what they have more is not in the contract.
    ``lean`` are the topics whose sinks never look at the record before a change: it is as if it were unknown.
    ``raw`` are the raw topics, whose messages are taken as they are.
    """

    def __init__(
        self,
        contracts: Mapping[str, Contract],
        writer: Callable[[int], Any],
        settled: Collection[tuple[str, int]] = frozenset(),
        lean: Collection[str] = frozenset(),
        raw: Mapping[str, RawReader] | None = None,
    ) -> None:
        self._contracts, self._lean, self._raw = contracts, lean, raw or {}
        self._writer, self._settled = writer, settled
        self._schemas: dict[tuple[str, bytes], Any] = {}  # by topic and frame

    def change(self, message: Message) -> Change:
        """Return the Change in a message, or raise Rejected or Evolved."""
        topic, key, value = message.topic(), message.key(), message.value()
        if topic in self._raw:
            return self._raw[topic].change(message, cast("Timed", message))
        contract = self._contracts[topic]
        headers = message.headers() or []
        origin = provenance(headers)
        return Change(  # by place: names would take a tenth of the time that a record takes
            contract.name,
            contract.decode_key(key),
            None if value is None else self._value(topic, value),
            self._before(topic, headers) if len(headers) > PLAIN and topic not in self._lean else None,
            origin.version,
            origin.op,
            origin.lsn,
            origin.committed_us,
            origin.tx,
            origin.origin,
            topic,
            message.partition(),
            message.offset(),
            key,
            value,
            headers,
        )

    def _before(self, topic: str, headers: Headers) -> dict[str, Any] | None:
        """Return the record before; empty when the source knew the row but it made no record, None when unknown."""
        for name, framed in headers:
            if name == BEFORE:
                return self._value(topic, framed) if framed else {}
        return None

    def _value(self, topic: str, framed: bytes) -> dict[str, Any]:
        place, contract = (topic, framed[:FRAME]), self._contracts[topic]
        if place not in self._schemas:
            number = schema_id(framed)
            self._schemas[place] = self._look(contract, (topic, number), self._writer(number))
        return contract.decode(framed, self._schemas[place])

    def _look(self, contract: Contract, place: tuple[str, int], schema: Any) -> Any:
        """Return a compiled schema as the contract is to read it: None where it is the contract's own."""
        if schema == contract.parsed:
            return None
        try:
            written = build(contract.name, schema, where=contract.name)
        except ProjectError:  # no contract at all, so none that could be followed: decoding says what is wrong
            return schema
        if written.fields == contract.fields and written.plain == contract.plain:
            return None  # only the documentation differs
        wrong = unreadable(contract, written)
        if place not in self._settled and (wrong or ahead(contract, written)):
            raise Evolved(*place)
        if wrong:
            raise Rejected(
                f"The value was written under a schema that the contract {contract.name} does not read.",
                stage="decode",
                detail=f"schema {place[1]}, field {', '.join(wrong)}",
            )
        return schema
