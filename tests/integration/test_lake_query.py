"""`tailrace lake query`, `latest` and `export` as people and machines call them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from tailrace.contract import build
from tailrace.errors import Refused, Unreachable, UsageError
from tailrace.evolution import added
from tailrace.testing import PARCEL, Tape, parcel
from tests.lakeshop import Shop, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.providers import RunningStack


BEGAN = 1_767_225_600_000_000  # 2026-01-01 00:00:00 UTC


@pytest.fixture
def empty(stack: RunningStack, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path, stack.endpoints)
    yield made
    made.close()


@pytest.fixture
def shop(empty: Shop) -> Shop:
    tape = Tape()
    first = parcel(1, note="first [/]")
    batch = [tape.put(first), tape.put(parcel(2)), tape.put(parcel(1, note="second [/]"), before=first)]
    write(empty, PARCEL, *batch, tape.delete(parcel(2)))
    return empty


def test_current_shows_the_newest_version_of_every_row_and_no_deleted_one(shop: Shop) -> None:
    assert [(row["id"], row["note"], row["amount"]) for row in shop.rows("parcels")] == [(1, "second [/]", "10.5000")]


def test_history_shows_every_change(shop: Shop) -> None:
    rows = shop.rows("parcels", "--view", "history")

    assert [(row["_offset"], row["_op"]) for row in sorted(rows, key=lambda row: int(row["_offset"]))] == [
        (0, "c"), (1, "c"), (2, "u"), (3, "d"),
    ]  # fmt: skip
    assert rows[0]["_committed_at"].startswith("2026-01-01")


def test_any_sql_is_answered_as_a_table_for_people(shop: Shop) -> None:
    answer = shop.ask("parcels", "SELECT note, count(*) AS changes FROM history WHERE id = 1 GROUP BY ALL ORDER BY 1")

    assert answer.exit_code == 0
    assert "changes" in answer.stdout
    assert "first [/]" in answer.stdout


def test_a_query_that_duckdb_does_not_understand_is_a_usage_error(shop: Shop) -> None:
    for sql in ("SELECT nothing FROM current", "SELEC 1", "SELECT * FROM elsewhere"):
        assert isinstance(shop.failure("parcels", sql), UsageError)


def test_an_unknown_table_an_empty_lake_and_a_silent_store_are_told_apart(empty: Shop) -> None:
    down = replace(empty.endpoints, s3="http://127.0.0.1:1")

    assert isinstance(empty.failure("nothing"), UsageError)
    assert isinstance(empty.failure("parcels"), Refused)
    assert isinstance(empty.failure("parcels", endpoints=down), Unreachable)


def test_an_object_that_somebody_removed_is_said_with_what_brings_it_back(shop: Shop) -> None:
    shop.s3.delete_object(Bucket=shop.bucket, Key=shop.keys()[0])

    failed = shop.failure("parcels")

    assert isinstance(failed, Refused)
    assert "tailrace replay" in failed.hint


def test_objects_of_every_contract_of_a_record_are_read_as_the_widest_of_them(empty: Shop) -> None:
    size = {"name": "size", "type": "int"}
    first = build("parcel", {**PARCEL.schema, "fields": [*PARCEL.schema["fields"], size]}, where="test")
    later = added(first, [{"name": "colour", "type": ["null", "string"], "default": None}], {"size": "long"})
    tape = Tape()
    write(empty, first, replace(tape.put(parcel(1)), value={**parcel(1), "size": 1}))
    write(empty, later, replace(tape.put(parcel(2)), value={**parcel(2), "size": 2**40, "colour": "red"}))

    rows = empty.rows("parcels", "select id, size, colour from current order by id")

    assert rows == [{"id": 1, "size": 1, "colour": None}, {"id": 2, "size": 2**40, "colour": "red"}]


def test_latest_is_the_current_state_in_any_format_and_nothing_else_on_standard_output(shop: Shop) -> None:
    printed = csv.DictReader(StringIO(shop.done("latest", "parcels")))
    lines = [json.loads(line) for line in shop.done("latest", "parcels", "--format", "jsonl").splitlines()]
    table = pq.read_table(BytesIO(shop.run("latest", "parcels", "--format", "parquet").stdout_bytes))

    for row in (next(printed), lines[0], json.loads(shop.done("latest", "parcels", "--format", "json"))[0]):
        assert [str(row["id"]), row["amount"], row["note"]] == ["1", "10.5000", "second [/]"]
    assert [len(lines), list(printed)] == [1, []]
    assert [(row["id"], str(row["amount"])) for row in table.to_pylist()] == [(1, "10.5000")]
    assert table.schema.names == list(PARCEL.by_name)


def test_numbers_beyond_what_duckdb_knows_keep_every_digit_and_no_view_rounds_them(empty: Shop, tmp_path: Path) -> None:
    wide = {"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": 4}
    fields = [{"name": "wide", "type": wide}, {"name": "many", "type": {"type": "array", "items": wide}}]
    grown = build("parcel", {**PARCEL.schema, "fields": [*PARCEL.schema["fields"], *fields]}, where="test")
    value = Decimal("12345678901234567890123456789012345678901234567890.1234")
    less = value.copy_negate()  # a minus sign would round to 28 digits
    write(empty, grown, replace(Tape().put(parcel(1)), value={**parcel(1), "wide": value, "many": [value, less]}))
    (empty.folder / "schemas/parcel.avsc").write_text(json.dumps(grown.schema))

    empty.done("latest", "parcels", "--out", str(tmp_path / "now.parquet"))
    line = json.loads(empty.done("latest", "parcels", "--format", "jsonl"))

    kept = pq.read_table(tmp_path / "now.parquet").to_pylist()[0]
    assert [kept["wide"], kept["many"]] == [value, [value, less]]
    assert [line["wide"], line["many"]] == [str(value), [str(value), str(less)]]
    assert empty.rows("parcels", "SELECT h.wide FROM history h JOIN current c USING (id)") == [{"wide": str(value)}]
    assert isinstance(empty.refused("latest", "parcels", "--sql"), Refused)


def test_latest_as_of_a_moment_is_what_was_committed_by_then(empty: Shop) -> None:
    tape = Tape()
    batch = [tape.put(parcel(1)), tape.put(parcel(2)), tape.put(parcel(1, note="new"), before=parcel(1))]
    batch.append(tape.delete(parcel(2)))
    write(empty, PARCEL, *(replace(each, committed_us=BEGAN + each.offset) for each in batch))

    early = empty.done("latest", "parcels", "--as-of", "2026-01-01T00:00:00.000001", "--format", "jsonl")

    assert sorted(json.loads(line)["note"] for line in early.splitlines()) == ["parcel 1", "parcel 2"]


def test_latest_takes_the_format_from_the_file_and_leaves_no_half_of_one(shop: Shop, tmp_path: Path) -> None:
    shop.done("latest", "parcels", "--out", str(tmp_path / "now.jsonl"))

    assert [path.name for path in tmp_path.glob("now*")] == ["now.jsonl"]
    assert json.loads((tmp_path / "now.jsonl").read_text())["id"] == 1


def test_export_writes_every_change_by_date_or_the_current_state_to_a_new_place_only(
    shop: Shop, tmp_path: Path
) -> None:
    place = tmp_path / "exported"
    told = json.loads(shop.done("export", "parcels", "--out", str(place), "--json"))

    assert [told["rows"], [each["name"] for each in told["files"]]] == [4, [f"{place}/dt=2026-01-01/data.parquet"]]
    assert sorted(pq.read_table(place / "dt=2026-01-01/data.parquet")["_offset"].to_pylist()) == [0, 1, 2, 3]
    assert isinstance(shop.refused("export", "parcels", "--out", str(place)), Refused)

    there = f"s3://{shop.bucket}/exported"
    shop.done("export", "parcels", "--latest", "--format", "csv", "--out", there)
    body = shop.s3.get_object(Bucket=shop.bucket, Key="exported/data.csv")["Body"].read().decode()
    assert [row["note"] for row in csv.DictReader(StringIO(body))] == ["second [/]"]
    assert isinstance(shop.refused("export", "parcels", "--out", there), Refused)
