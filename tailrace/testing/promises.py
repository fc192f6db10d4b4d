"""The sink contract suite: what every sink promises, written once, run against each.

Subclass ``SinkContract`` in a test module under a name that begins with ``Test`` and provide a fixture ``store`` that
returns a ``Store`` over an empty place of the real store. The suite writes through the sink and reads through
``current``, which must use the store's own client, so that writer and reader cannot share a mistake. A sink that keeps
only a part of a parcel, or refuses some, says so by overriding ``holds``.
"""

# ruff: noqa: D102 - the name of a test is its docstring

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tailrace.testing.parcels import Tape, parcel
from tailrace.testing.stores import TIMEOUT, Store, opened, shown, write
from tailrace.testing.troubles import Troubles

if TYPE_CHECKING:
    from tailrace.change import Change


class SinkContract(Troubles):
    """Twenty promises, eight of them in ``Troubles``.

    Each test opens sinks as a worker does: connect, then the committed offset of the partition.
    """

    def test_what_is_written_is_what_the_store_shows(self, store: Store) -> None:
        tape = Tape()
        records = [parcel(number, owner=f"owner {number % 3}") for number in range(1, 21)]

        write(store, [tape.put(record) for record in records])

        assert shown(store) == self.expected(records)

    def test_writing_a_batch_twice_changes_nothing(self, store: Store) -> None:
        tape = Tape()
        batch = [tape.put(parcel(1)), tape.put(parcel(2)), tape.delete(parcel(2)), tape.put(parcel(3))]

        write(store, batch)
        write(store, tape.again(batch))

        assert shown(store) == self.expected([parcel(1), parcel(3)])

    def test_an_old_change_after_a_new_one_leaves_the_new_one(self, store: Store) -> None:
        tape = Tape()
        first, second = parcel(1, note="old", amount=Decimal(1)), parcel(1, note="new", amount=Decimal(2))
        old, new = tape.put(first), tape.put(second, before=first)

        write(store, [old, new])
        write(store, tape.again([old]))

        assert shown(store) == self.expected([second])

    def test_deliveries_shuffled_across_keys_end_in_the_same_state(self, store: Store) -> None:
        tape = Tape()
        batch: list[Change] = []
        last: dict[int, dict[str, Any]] = {}
        for turn in range(1, 4):
            for number in range(1, 6):
                record = parcel(number, note=f"turn {turn}", amount=Decimal(turn))
                batch.append(tape.put(record, before=last.get(number)))
                last[number] = record
        shuffled = list(batch)
        random.Random(7).shuffle(shuffled)  # noqa: S311 - a fixed order, not a secret

        for start in range(0, len(shuffled), 4):
            write(store, tape.again(shuffled[start : start + 4]))

        assert shown(store) == self.expected(list(last.values()))

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
        reborn = parcel(1, note="reborn", amount=Decimal(2))

        write(store, [tape.put(parcel(1)), tape.delete(parcel(1)), tape.put(reborn)])

        assert shown(store) == self.expected([reborn])

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
        assert shown(store) == self.expected([parcel(1), parcel(3)])

    def test_a_crash_between_write_and_commit_is_harmless(self, store: Store) -> None:
        tape = Tape()
        first = [tape.put(parcel(number)) for number in range(1, 6)]
        newer = parcel(2, note="later", amount=Decimal(2))
        later = [tape.delete(parcel(1)), tape.put(newer, before=parcel(2)), tape.put(parcel(6))]
        write(store, first)

        # The worker dies before the commit; its successor reads the same offsets, cut into other batches.
        successor = opened(store, offset=0)
        successor.write([*first[:2]], timeout=TIMEOUT)
        successor.write([*first[2:], *later], timeout=TIMEOUT)
        successor.close()

        assert shown(store) == self.expected([newer, *(parcel(number) for number in (3, 4, 5, 6))])

    def test_an_update_that_moves_the_store_key_leaves_one_record(self, store: Store) -> None:
        tape = Tape()
        ada, bob = parcel(1, owner="ada"), parcel(1, owner="bob")
        put, move = tape.put(ada), tape.put(bob, before=ada)

        write(store, [put])
        write(store, [move])
        write(store, tape.again([put]))
        assert shown(store) == self.expected([bob])

        write(store, [tape.delete(bob)])
        assert shown(store) == {}

    def test_null_stays_null_and_zero_stays_zero(self, store: Store) -> None:
        tape = Tape()
        empty = parcel(1, exact=None, note=None, active=None, detail=None, at=None)
        zero = parcel(2, amount=Decimal("0.0000"), exact=Decimal(0), note="", active=False, detail="{}")

        write(store, [tape.put(empty), tape.put(zero)])

        assert shown(store) == self.expected([empty, zero])

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

        assert shown(store) == self.expected([precise, negative])
