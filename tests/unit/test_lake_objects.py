"""How a batch becomes objects, and which leftovers a lane may remove."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailrace.change import Change
from tailrace.contract import Field
from tailrace.sink import lakeobjects, parquet
from tailrace.sink.lakeobjects import LakeObject, Lane
from tailrace.targets import LAKE_COLUMNS, LakeTable
from tailrace.testing import PARCEL, Tape, parcel

TABLE = LakeTable("parcels", record="parcel", zone="raw")
A_DAY_US = 86_400_000_000


def batch(count: int) -> list[Change]:
    tape = Tape(partition=7)
    return [tape.put(parcel(number)) for number in range(count)]


def objects(changes: list[Change]) -> list[LakeObject]:
    return lakeobjects.cut(TABLE, parquet.Rows(PARCEL, changes))


def lane_with(leftover: list[Change]) -> Lane:
    """Return a lane that found one object, whose content it knows."""
    lane = Lane(partition=7, start=0)
    there = objects(leftover)[0]
    lane.found([(there.key, '"etag1234"')])
    lane.learn(lane.leftovers[there.key], frozenset(there.marks))
    return lane


@pytest.mark.parametrize(
    ("committed_us", "day"),
    [(0, "1970-01-01"), (-1, "1969-12-31"), (A_DAY_US - 1, "1970-01-01"), (1_767_225_600_000_000, "2026-01-01")],
)
def test_the_partition_is_the_utc_date_of_the_source_commit(committed_us: int, day: str) -> None:
    assert lakeobjects.day(committed_us) == day


def test_a_name_says_zone_table_date_partition_and_first_offset_and_reads_back() -> None:
    name = lakeobjects.key(TABLE, "2026-01-01", 7, 42)

    assert name == "raw/parcels/dt=2026-01-01/p7-000000000042.parquet"
    assert lakeobjects.place(name) == (7, 42)
    assert lakeobjects.place(lakeobjects.Leftover(name, 42, '"0123456789"').second_name) == (7, 42)
    assert lakeobjects.place("raw/parcels/dt=2026-01-01/notes.txt") is None
    assert lakeobjects.place("raw/parcels/dt=2026-01-01/part-0.parquet") is None


def test_a_batch_over_midnight_becomes_one_object_a_day_each_in_offset_order() -> None:
    changes = batch(5)
    mixed = [replace(change, committed_us=change.committed_us + (change.offset % 2) * A_DAY_US) for change in changes]

    made = objects(mixed)

    assert [[change.offset for change in item.changes] for item in made] == [[0, 2, 4], [1, 3]]
    assert [pq.read_table(pa.BufferReader(item.body))["_offset"].to_pylist() for item in made] == [[0, 2, 4], [1, 3]]
    assert [parquet.marks(item.body) == item.marks for item in made] == [True, True]


def test_the_same_batch_gives_the_same_bytes_and_metadata() -> None:
    first, second = objects(batch(5))[0], objects(batch(5))[0]

    assert first.body == second.body
    assert first.metadata == second.metadata
    assert first.metadata.items() >= {"first-offset": "0", "last-offset": "4", "rows": "5"}.items()


def test_a_value_that_would_be_narrowed_is_rejected_and_the_others_are_kept() -> None:
    changes = batch(5)
    for index, wrong in ((1, {"amount": Decimal("0.00001")}), (2, {"id": 1.5}), (3, {"id": None})):
        changes[index] = replace(changes[index], value=parcel(9) | wrong)

    rows = parquet.Rows(PARCEL, changes)

    assert [rejection.position for rejection in rows.rejections] == [1, 2, 3]
    assert ["amount" in rows.rejections[0].reason, "id" in rows.rejections[1].reason] == [True, True]
    assert rows.arrow["_offset"].to_pylist() == [0, 4]
    assert "0.00001" not in rows.rejections[0].reason


def test_a_batch_of_rejected_changes_makes_no_object() -> None:
    changes = [replace(change, value={}) for change in batch(2)]

    rows = parquet.Rows(PARCEL, changes)

    assert len(rows.rejections) == 2
    assert lakeobjects.cut(TABLE, rows) == []


def test_the_columns_are_the_contract_and_then_where_each_change_happened() -> None:
    shown = parquet.schema(PARCEL)

    assert shown.names == [*PARCEL.by_name, *LAKE_COLUMNS]
    assert [field.name for field in shown if not field.nullable] == [
        "id", "_op", "_version", "_committed_at", "_partition", "_offset",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "expected"), [(38, pa.decimal128(38, 4)), (76, pa.decimal256(76, 4)), (77, pa.string())]
)
def test_decimals_of_any_precision_have_an_exact_column(precision: int, expected: pa.DataType) -> None:
    assert parquet.arrow_type(Field("n", "decimal", nullable=False, precision=precision, scale=4)) == expected


def test_leftovers_are_the_objects_of_the_partition_from_the_committed_offset_on() -> None:
    lane = Lane(partition=7, start=5)

    lane.found(
        (lakeobjects.key(TABLE, "2026-01-01", partition, first), "e") for partition in (7, 70) for first in (4, 5, 6)
    )

    assert sorted(leftover.first for leftover in lane.leftovers.values()) == [5, 6]


def test_a_leftover_is_covered_only_by_every_change_it_holds() -> None:
    changes = batch(4)
    lane = lane_with(changes)
    leftover = next(iter(lane.leftovers.values()))

    lane.wrote(objects(changes[:3]), 2)
    assert [lane.due(), leftover.covered(lane.written), lane.over(leftover)] == [[leftover], False, False]

    lane.wrote(objects(changes[3:]), 3)
    assert [leftover.covered(lane.written), lane.over(leftover)] == [True, True]


def test_the_same_offsets_of_a_topic_made_anew_cover_nothing() -> None:
    lane = lane_with(batch(2))
    leftover = next(iter(lane.leftovers.values()))

    lane.wrote(objects([replace(change, version=change.version + (1 << 48)) for change in batch(2)]), 1)

    assert [leftover.covered(lane.written), lane.over(leftover)] == [False, True]


def test_a_lane_without_leftovers_remembers_no_marks() -> None:
    changes = batch(4)
    lane = lane_with(changes[:2])

    lane.wrote(objects(changes[:2]), 1)
    lane.settle(next(iter(lane.leftovers.values())))
    lane.wrote(objects(changes[2:]), 3)

    assert [lane.written, lane.through] == [set(), 3]
