"""The contract suite for a store that speaks HTTP: its troubles are made at its own door.

A subclass says how a sink is opened at another address, what the store answers when it is full or away, and which
requests write: those whose method and path contain ``writes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from tailrace.sink.writer import assigned, connect
from tailrace.testing.door import Answer, Door, Spoil
from tailrace.testing.faults import Hold
from tailrace.testing.parcels import TOPIC
from tailrace.testing.promises import SinkContract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.change import Change, Rejection
    from tailrace.targets import Sink
    from tailrace.testing.stores import Store
    from tailrace.testing.troubles import Trouble

SPOILED: Mapping[str, Spoil] = MappingProxyType(
    {"unanswered": Spoil("none"), "truncated": Spoil("half"), "garbled": Spoil("nonsense")}
)


@dataclass
class Behind:
    """A sink behind a door of its own, which is closed with it."""

    sink: Sink
    door: Door

    @property
    def records(self) -> Sequence[str]:
        """The sink's records."""
        return self.sink.records

    def write(self, batch: Sequence[Change], *, timeout: float) -> Sequence[Rejection]:
        """Write through the door."""
        return self.sink.write(batch, timeout=timeout)

    def close(self) -> None:
        """Close both."""
        self.sink.close()
        self.door.__exit__()


class DoorContract(SinkContract):
    """Subclass it like SinkContract, with the three that say what the store is like."""

    writes = "POST"
    throttled = Answer(429)
    away = Answer(503)

    def address(self, store: Store) -> str:
        """Return where the store is."""
        raise NotImplementedError

    def open_at(self, store: Store, url: str) -> Sink:
        """Return a new sink on the store, which it reaches at another address."""
        raise NotImplementedError

    def troubled(self, store: Store, trouble: Trouble) -> Sink:
        """Return a sink whose next write meets the trouble at the door."""
        undone = {"throttled": self.throttled, "away": self.away}
        return self._behind(store, undone.get(trouble) or SPOILED[trouble])

    def held(self, store: Store) -> tuple[Sink, Hold]:
        """Return a sink whose next write waits at the door."""
        hold = Hold()
        return self._behind(store, hold), hold

    def _behind(self, store: Store, fault: Answer | Spoil | Hold) -> Sink:
        door = Door(self.address(store))
        sink = self.open_at(store, door.url)
        connect(sink)
        assigned(sink, TOPIC, 0, 0)
        door.spoil(self.writes, fault)
        return Behind(sink, door)
