"""From a message of a conformed topic to a Change.

The value is read with the schema it was written with and, where that is not the contract's, resolved to the contract.
A message that cannot be read is Rejected(stage=decode); a registry that does not answer is Unreachable, because the
message may be good. It consumes nothing: any object with the six methods of a Kafka message will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tailrace.change import BEFORE, Change, provenance
from tailrace.contract import schema_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailrace.change import Headers
    from tailrace.contract import Contract


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


class Decoder:
    """Decodes the messages of some conformed topics; safe to share between threads.

    ``contracts`` are by topic; ``writer`` returns the compiled schema of a registry id (``Registry.writer``).
    """

    def __init__(self, contracts: Mapping[str, Contract], writer: Callable[[int], Any]) -> None:
        self._contracts = contracts
        self._writer = writer
        self._schemas: dict[tuple[str, int], Any] = {}

    def change(self, message: Message) -> Change:
        """Return the Change in a message, or raise Rejected."""
        contract = self._contracts[message.topic()]
        headers = message.headers() or []
        origin = provenance(headers)
        value = message.value()
        return Change(
            record=contract.name,
            key=contract.decode_key(message.key()),
            value=None if value is None else self._value(contract, value),
            before=self._before(contract, headers),
            version=origin.version,
            op=origin.op,
            lsn=origin.lsn,
            committed_us=origin.committed_us,
            tx=origin.tx,
            origin=origin.origin,
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            raw_key=message.key(),
            raw_value=value,
            headers=headers,
        )

    def _before(self, contract: Contract, headers: Headers) -> dict[str, Any] | None:
        """Return the record before; empty when the source knew the row but it made no record, None when unknown."""
        for name, framed in headers:
            if name == BEFORE:
                return self._value(contract, framed) if framed else {}
        return None

    def _value(self, contract: Contract, framed: bytes) -> dict[str, Any]:
        number = schema_id(framed)
        place = (contract.name, number)
        if place not in self._schemas:
            writer = self._writer(number)
            self._schemas[place] = None if writer == contract.parsed else writer
        return contract.decode(framed, self._schemas[place])
