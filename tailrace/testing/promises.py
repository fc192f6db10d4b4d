"""The sink contract suite: what every sink promises, written once, run against each.

Subclass ``SinkContract`` in a test module under a name that begins with ``Test`` and provide a fixture ``store`` that
returns a ``Store`` over an empty place of the real store. The suite writes through the sink and reads through
``current``, which must use the store's own client, so that writer and reader cannot share a mistake.
"""

# ruff: noqa: D102 - the name of a test is its docstring

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from tailrace.sink.writer import assigned, connect
from tailrace.testing.parcels import TOPIC, Tape, parcel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.change import Change, Rejection
    from tailrace.targets import Sink

TIMEOUT = 30.0


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


class SinkContract:
    """Twelve promises. Each test opens sinks as a worker does: connect, then the committed offset of the partition."""

    def test_what_is_written_is_what_the_store_shows(self, store: Store) -> None:
        tape = Tape()
        records = [parcel(number, owner=f"owner {number % 3}") for number in range(1, 21)]

        write(store, [tape.put(record) for record in records])

        assert shown(store) == expected(records)

    def test_writing_a_batch_twice_changes_nothing(self, store: Store) -> None:
        tape = Tape()
        batch = [tape.put(parcel(1)), tape.put(parcel(2)), tape.delete(parcel(2)), tape.put(parcel(3))]

        write(store, batch)
        write(store, tape.again(batch))

        assert shown(store) == expected([parcel(1), parcel(3)])

    def test_an_old_change_after_a_new_one_leaves_the_new_one(self, store: Store) -> None:
        tape = Tape()
        first, second = parcel(1, note="old"), parcel(1, note="new")
        old, new = tape.put(first), tape.put(second, before=first)

        write(store, [old, new])
        write(store, tape.again([old]))

        assert shown(store) == expected([second])

    def test_deliveries_shuffled_across_keys_end_in_the_same_state(self, store: Store) -> None:
        tape = Tape()
        batch: list[Change] = []
        last: dict[int, dict[str, Any]] = {}
        for note in ("first", "second", "third"):
            for number in range(1, 6):
                record = parcel(number, note=note)
                batch.append(tape.put(record, before=last.get(number)))
                last[number] = record
        shuffled = list(batch)
        random.Random(7).shuffle(shuffled)  # noqa: S311 - a fixed order, not a secret

        for start in range(0, len(shuffled), 4):
            write(store, tape.again(shuffled[start : start + 4]))

        assert shown(store) == expected(list(last.values()))

    def test_an_old_write_after_a_delete_does_not_bring_the_record_back(self, store: Store) -> None:
        tape = Tape()
        put = tape.put(parcel(1))
        delete = tape.delete(parcel(1))

        write(store, [put, delete])
        write(store, tape.again([put]))
        assert shown(store) == {}

        write(store, tape.again([delete, put]))
        assert shown(store) == {}

    def test_a_record_written_after_its_delete_is_there(self, store: Store) -> None:
        tape = Tape()
        reborn = parcel(1, note="reborn")

        write(store, [tape.put(parcel(1)), tape.delete(parcel(1)), tape.put(reborn)])

        assert shown(store) == expected([reborn])

    def test_the_delete_of_an_unknown_key_is_a_success_and_holds(self, store: Store) -> None:
        tape = Tape()
        put = tape.put(parcel(9))

        assert list(write(store, [tape.delete(parcel(9))])) == []
        write(store, tape.again([put]))

        assert shown(store) == {}

    def test_a_change_that_can_never_be_written_is_rejected_and_the_rest_lands(self, store: Store) -> None:
        tape = Tape()
        batch = [tape.put(parcel(1)), tape.put(parcel(2, **store.unwritable)), tape.put(parcel(3))]

        rejections = write(store, batch)

        assert [rejection.position for rejection in rejections] == [1]
        assert rejections[0].reason
        assert shown(store) == expected([parcel(1), parcel(3)])

    def test_a_crash_between_write_and_commit_is_harmless(self, store: Store) -> None:
        tape = Tape()
        first = [tape.put(parcel(number)) for number in range(1, 6)]
        later = [tape.delete(parcel(1)), tape.put(parcel(2, note="later"), before=parcel(2)), tape.put(parcel(6))]
        write(store, first)

        # The worker dies before the commit; its successor reads the same offsets, cut into other batches.
        successor = opened(store, offset=0)
        successor.write([*first[:2]], timeout=TIMEOUT)
        successor.write([*first[2:], *later], timeout=TIMEOUT)
        successor.close()

        assert shown(store) == expected([parcel(2, note="later"), *(parcel(number) for number in (3, 4, 5, 6))])

    def test_an_update_that_moves_the_store_key_leaves_one_record(self, store: Store) -> None:
        tape = Tape()
        ada, bob = parcel(1, owner="ada"), parcel(1, owner="bob")
        put, move = tape.put(ada), tape.put(bob, before=ada)

        write(store, [put])
        write(store, [move])
        write(store, tape.again([put]))
        assert shown(store) == expected([bob])

        write(store, [tape.delete(bob)])
        assert shown(store) == {}

    def test_null_stays_null_and_zero_stays_zero(self, store: Store) -> None:
        tape = Tape()
        empty = parcel(1, exact=None, note=None, active=None, detail=None, at=None)
        zero = parcel(2, amount=Decimal("0.0000"), exact=Decimal(0), note="", active=False, detail="{}")

        write(store, [tape.put(empty), tape.put(zero)])

        assert shown(store) == expected([empty, zero])

    def test_every_digit_and_every_microsecond_survives(self, store: Store) -> None:
        tape = Tape()
        precise = parcel(
            1,
            amount=Decimal("99999999999999.9999"),
            exact=Decimal("12345678901234567890123456.789012345678"),
            at=datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
            note='tab\t"quote" 😀 %#|{}',
        )
        negative = parcel(2, amount=Decimal("-0.0001"), exact=Decimal("-1E-20"), owner="a#b%c|d e/f")

        write(store, [tape.put(precise), tape.put(negative)])

        assert shown(store) == expected([precise, negative])


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


def shown(store: Store) -> dict[int, Any]:
    """Return what the store shows by parcel id; a parcel shown twice is a list of both."""
    found: dict[int, Any] = {}
    for record in store.current():
        number = record["id"]
        found[number] = [found[number], dict(record)] if number in found else dict(record)
    return found


def expected(records: Sequence[Mapping[str, Any]]) -> dict[int, Any]:
    """Return what ``shown`` must say."""
    return {record["id"]: dict(record) for record in records}
