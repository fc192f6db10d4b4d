"""What the contract suite asks of a test's author: one empty place of a real store, and a sink on it.

The functions here open and write as a worker does: connect, tell where the partition begins, write; when the store is
in trouble, the same batch again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from tailrace.deadline import Deadline
from tailrace.errors import Retryable, Unreachable
from tailrace.sink.writer import assigned, connect
from tailrace.testing.parcels import TOPIC

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.change import Change, Rejection
    from tailrace.targets import Sink

TIMEOUT = 30.0
PAUSE = 0.05  # seconds between two attempts: shorter than a worker's


class Store(Protocol):
    """One empty store with a sink for the contract ``PARCEL`` on it."""

    unwritable: Mapping[str, Any]
    """Fields that make a parcel one which this store can never take."""

    def open(self) -> Sink:
        """Return a new sink on this store, as a worker makes one when it starts."""

    def current(self) -> Sequence[Mapping[str, Any]]:
        """Return every live parcel the store shows, typed as the contract says, in any order.

        ``detail``, which is JSON, may come back as ``json.dumps(value, sort_keys=True)`` of what the store holds.
        """


def opened(store: Store, *, offset: int) -> Sink:
    """Return a sink that is ready for the partition from ``offset``, as the worker makes it."""
    sink = store.open()
    connect(sink)
    assigned(sink, TOPIC, 0, offset)
    return sink


def write(store: Store, batch: Sequence[Change]) -> Sequence[Rejection]:
    """Write one batch through a sink of its own, whose partition begins where the batch does."""
    sink = opened(store, offset=batch[0].offset)
    try:
        return sink.write(batch, timeout=TIMEOUT)
    finally:
        sink.close()


def deliver(sink: Sink, batch: Sequence[Change]) -> int:
    """Write a batch again and again until it is durable, as a worker does; return how many times it was refused."""
    deadline, refused = Deadline.after(TIMEOUT), 0
    while True:
        try:
            rejections = sink.write(batch, timeout=TIMEOUT)
        except (Retryable, Unreachable):
            if deadline.passed():
                raise
            refused += 1
            threading.Event().wait(PAUSE)
        else:
            assert not rejections, "trouble of the store is no fault of the changes"
            return refused


def shown(store: Store) -> dict[int, Any]:
    """Return what the store shows by parcel id; a parcel shown twice is a list of both."""
    found: dict[int, Any] = {}
    for record in store.current():
        number = record["id"]
        found[number] = [found[number], dict(record)] if number in found else dict(record)
    return found
