"""The second half of the contract suite: what a sink promises while its store, or its worker, is in trouble.

Each test opens a sink whose next write meets one trouble, and delivers as a worker does. Whatever the trouble, the
batch lands when it is over, nothing is rejected for it, and nothing newer is overwritten.
"""

# ruff: noqa: D102 - the name of a test is its docstring

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from tailrace.errors import Retryable, Unreachable
from tailrace.testing.faults import FailAfter, FailBefore, Faults, Hold
from tailrace.testing.parcels import Tape, parcel
from tailrace.testing.stores import TIMEOUT, Store, deliver, opened, shown, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.targets import Sink

Trouble = Literal["throttled", "away", "unanswered", "truncated", "garbled"]
UNDONE = ("throttled", "away")  # the others lose or spoil the answer to a write that was done


class Troubles:
    """Eight promises about trouble. ``troubled`` and ``held`` may be overridden to make it at the store's own door."""

    def holds(self, record: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what the store has to show of a parcel: all of it. Override where a sink keeps less, or refuses it."""
        return record

    def troubled(self, store: Store, trouble: Trouble) -> Sink:
        """Return an opened sink whose next write meets the trouble, once; here its answer is lost on our side."""
        return Faults(opened(store, offset=0), FailBefore() if trouble in UNDONE else FailAfter())

    def held(self, store: Store) -> tuple[Sink, Hold]:
        """Return an opened sink whose next write gets stuck on its way to the store until it is released."""
        hold = Hold()
        return Faults(opened(store, offset=0), hold), hold

    def expected(self, records: Sequence[Mapping[str, Any]]) -> dict[int, Any]:
        """Return what ``shown`` must say."""
        return {record["id"]: dict(held) for record in records if (held := self.holds(record)) is not None}

    def test_a_store_without_room_has_everything_once_there_is_room(self, store: Store) -> None:
        self._lands(store, "throttled")

    def test_a_store_that_was_away_has_everything_once_it_is_back(self, store: Store) -> None:
        self._lands(store, "away")

    def test_a_write_whose_answer_was_lost_is_harmless_when_repeated(self, store: Store) -> None:
        self._lands(store, "unanswered")

    def test_a_write_whose_answer_was_cut_short_is_harmless_when_repeated(self, store: Store) -> None:
        self._lands(store, "truncated")

    def test_a_write_whose_answer_makes_no_sense_is_harmless_when_repeated(self, store: Store) -> None:
        self._lands(store, "garbled")

    def test_a_batch_in_flight_when_its_partition_is_revoked_changes_nothing_afterwards(self, store: Store) -> None:
        tape = Tape()
        first = [tape.put(parcel(number)) for number in range(1, 4)]
        moved = parcel(1, owner="bob", amount=Decimal(2))
        later = [tape.put(moved, before=parcel(1)), tape.delete(parcel(2)), tape.put(parcel(4))]
        predecessor, hold = self.held(store)

        with ThreadPoolExecutor(1) as crew:
            stuck = crew.submit(_late, predecessor, first)
            assert hold.held.wait(TIMEOUT), "the write never reached the store's door"
            try:
                write(store, tape.again([*first, *later]))
            finally:
                hold.release.set()
            stuck.result(TIMEOUT)
        predecessor.close()

        assert shown(store) == self.expected([moved, parcel(3), parcel(4)])

    def test_a_zombie_that_goes_on_writing_what_it_has_buffered_changes_nothing(self, store: Store) -> None:
        tape = Tape()
        first = [tape.put(parcel(number)) for number in range(1, 4)]
        newer, newest = parcel(1, amount=Decimal(2)), parcel(1, amount=Decimal(3))
        second = [tape.put(newer, before=parcel(1)), tape.put(parcel(5))]
        later = [tape.delete(parcel(5)), tape.put(newest, before=newer), tape.delete(parcel(2))]
        zombie = opened(store, offset=0)
        zombie.write(first, timeout=TIMEOUT)

        successor = opened(store, offset=0)
        deliver(successor, [*first, *second, *later])
        _late(zombie, second)
        zombie.close()
        successor.close()

        assert shown(store) == self.expected([newest, parcel(3)])

    def test_two_owners_of_one_partition_at_once_end_in_its_newest_state(self, store: Store) -> None:
        tape = Tape()
        old = [tape.put(parcel(number)) for number in range(1, 41)]
        newer = [parcel(number, amount=Decimal(number)) for number in range(1, 41)]
        new = [tape.put(record, before=parcel(record["id"])) for record in newer]
        both, start = [opened(store, offset=0), opened(store, offset=0)], threading.Barrier(2)

        def race(sink: Sink) -> None:
            start.wait(TIMEOUT)
            for batch in (old, new):
                deliver(sink, batch)
            sink.close()

        with ThreadPoolExecutor(2) as crew:
            for owner in [crew.submit(race, sink) for sink in both]:
                owner.result(TIMEOUT)

        assert shown(store) == self.expected(newer)

    def _lands(self, store: Store, trouble: Trouble) -> None:
        """Deliver a batch of puts, updates and deletes through trouble, then see that the next one lands at once."""
        tape = Tape()
        updated = parcel(2, amount=Decimal(2))
        batch = [
            *(tape.put(parcel(number)) for number in range(1, 9)),
            tape.put(updated, before=parcel(2)),
            tape.delete(parcel(3)),
        ]
        sink = self.troubled(store, trouble)

        deliver(sink, batch)
        assert deliver(sink, [tape.put(parcel(9))]) == 0
        sink.close()

        rest = [parcel(number) for number in (1, 4, 5, 6, 7, 8, 9)]
        assert shown(store) == self.expected([updated, *rest])


def _late(sink: Sink, batch: Sequence[Any]) -> None:
    """Write as one who has lost its partition: the store may refuse, which is as good."""
    try:
        sink.write(batch, timeout=TIMEOUT)
    except (Retryable, Unreachable):
        return
