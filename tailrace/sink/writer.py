"""What a writer may offer beyond the public ``tailrace.targets.Sink``; each part is optional.

``batching`` says how large or old a lane's batch should be before it is written. ``assigned`` is told, once per
assignment and before its first ``write``, where a partition begins. ``connect`` looks at the store once at start.
``before`` is False where it never looks at a change's ``before``, which is then not decoded.
``write`` may return ``Written`` instead of a plain list, to say how many writes found something newer.
The functions here call those parts where they exist, so that a user's own sink needs none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, overload

from tailrace.targets import Sink

if TYPE_CHECKING:
    from tailrace.change import Change, Rejection

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batching:
    """When a lane's batch is written: at so many rows or bytes, or when its oldest row is ``linger_seconds`` old."""

    rows: int = 500
    bytes: int = 4 * MIB
    linger_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Written(Sequence["Rejection"]):
    """The rejections of one write, and how many of its changes the store already had newer."""

    rejections: tuple[Rejection, ...] = ()
    stale: int = 0

    @overload
    def __getitem__(self, index: int) -> Rejection: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Rejection]: ...
    def __getitem__(self, index: int | slice) -> Rejection | Sequence[Rejection]:
        return self.rejections[index]

    def __len__(self) -> int:
        return len(self.rejections)


class Writer(Protocol):
    """A Sink with every optional part: what the three stores of Tailrace implement."""

    @property
    def records(self) -> Sequence[str]:
        """Names of the conformed records that it takes."""

    @property
    def batching(self) -> Batching:
        """The batches it likes."""

    def connect(self) -> None:
        """Look at the store: Unreachable or Retryable while it is down, Fatal when it can never be written."""

    def assigned(self, topic: str, partition: int, offset: int) -> None:
        """Learn that a partition begins at ``offset``, the committed one; may raise Retryable."""

    def write(self, batch: Sequence[Change], *, timeout: float) -> Sequence[Rejection]:
        """Make the batch durable; see ``tailrace.targets.Sink``."""

    def close(self) -> None:
        """Release what was opened."""


def batching(sink: Sink) -> Batching:
    """Return the batches a sink likes."""
    wanted = getattr(sink, "batching", None)
    return wanted if isinstance(wanted, Batching) else Batching()


def wants_before(sink: Sink) -> bool:
    """Say whether a sink looks at the record before a change; one that says nothing may."""
    return bool(getattr(sink, "before", True))


def connect(sink: Sink) -> None:
    """Let a sink look at its store, where it can."""
    look = getattr(sink, "connect", None)
    if callable(look):
        look()


def wants_assignments(sink: Sink) -> bool:
    """Say whether a sink wants to know where its partitions begin."""
    return callable(getattr(sink, "assigned", None))


def assigned(sink: Sink, topic: str, partition: int, offset: int) -> None:
    """Tell a sink where a partition begins, where it wants to know."""
    tell = getattr(sink, "assigned", None)
    if callable(tell):
        tell(topic, partition, offset)
