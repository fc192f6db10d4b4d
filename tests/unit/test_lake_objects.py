"""How a batch becomes objects."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pytest

from tailrace.change import Change
from tailrace.contract import Field
from tailrace.sink import lakeobjects, parquet
from tailrace.sink.lakeobjects import LakeObject
from tailrace.targets import LAKE_COLUMNS, LakeTable
from tailrace.testing import PARCEL, Tape, parcel

TABLE = LakeTable("parcels", record="parcel", zone="raw")
A_DAY_US = 86_400_000_000


def batch(count: int) -> list[Change]:
    tape = Tape(partition=7)
    return [tape.put(parcel(number)) for number in range(count)]


def objects(changes: list[Change]) -> list[LakeObject]:
    rows = parquet.Rows(PARCEL, changes)
    return list(lakeobjects.cut(rows.kept, rows.arrow))


@pytest.mark.parametrize(
    ("committed_us", "day"),
    [(0, "1970-01-01"), (-1, "1969-12-31"), (A_DAY_US - 1, "1970-01-01"), (1_767_225_600_000_000, "2026-01-01")],
)
def test_the_partition_is_the_utc_date_of_the_source_commit(committed_us: int, day: str) -> None:
    assert lakeobjects.day(committed_us) == day


def test_a_name_says_date_partition_and_first_offset_and_reads_back() -> None:
    name = lakeobjects.key("2026-01-01", 7, 42)

    assert lakeobjects.prefix(TABLE) + name == "raw/parcels/dt=2026-01-01/p7-000000000042.parquet"
    assert [lakeobjects.place(name), lakeobjects.place("raw/parcels/" + name)] == [(7, 42), (7, 42)]
    assert lakeobjects.place(objects(batch(1))[0].second_name(b"body")) == (7, 0)
    twice = replace(objects(batch(1))[0], key=objects(batch(1))[0].second_name(b"first")).second_name(b"body")
    assert twice == objects(batch(1))[0].second_name(b"body")
    for other in ("notes.txt", "part-0.parquet", "c-0123456789abcdef.parquet"):
        assert lakeobjects.place(f"raw/parcels/dt=2026-01-01/{other}") is None


def test_a_batch_over_midnight_becomes_one_object_a_day_each_in_offset_order() -> None:
    changes = batch(5)
    mixed = [replace(change, committed_us=change.committed_us + (change.offset % 2) * A_DAY_US) for change in changes]

    made = objects(mixed)

    assert [item.key for item in made] == [
        "dt=2026-01-01/p7-000000000000.parquet", "dt=2026-01-02/p7-000000000001.parquet",
    ]  # fmt: skip
    assert [item.rows["_offset"].to_pylist() for item in made] == [[0, 2, 4], [1, 3]]
    spans = [item.stored("a", "e", 1).spans for item in made]
    assert [[(span.partition, span.first, span.last, span.rows) for span in each] for each in spans] == [
        [(7, 0, 4, 3)], [(7, 1, 3, 2)],
    ]  # fmt: skip


def test_the_same_batch_gives_the_same_bytes_and_metadata() -> None:
    first, second = objects(batch(5))[0], objects(batch(5))[0]
    body = parquet.encode(first.rows)

    assert body == parquet.encode(second.rows)
    assert first.metadata(body) == second.metadata(body)
    assert first.metadata(body).items() >= {"first-offset": "0", "last-offset": "4", "rows": "5"}.items()


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
    assert list(lakeobjects.cut(rows.kept, rows.arrow)) == []


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
