"""`tailrace lake compact` on a real bucket beside a worker, and what readers without anything of ours see meanwhile."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.dataset as ds
import pytest

from tailrace.errors import Refused
from tailrace.testing import PARCEL, Tape, parcel
from tests.lakeshop import Shop, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.change import Change
    from tests.providers import RunningStack

A_DAY_US = 86_400_000_000
NOW = [(1, "parcel 1"), (2, "parcel 2"), (3, "new"), (5, "parcel 5"), (6, "parcel 6"), (7, "parcel 7")]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "lake.md"


@pytest.fixture
def shop(stack: RunningStack, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path, stack.endpoints)
    yield made
    made.close()


def changes() -> list[Change]:
    """Return nine changes of two dates: one key is updated, one deleted."""
    tape = Tape()
    made = [tape.put(parcel(number)) for number in (5, 4, 3, 2, 1, 6)]
    made += [tape.put(parcel(3, note="new"), before=parcel(3)), tape.delete(parcel(4)), tape.put(parcel(7))]
    return [replace(each, committed_us=each.committed_us + (each.offset % 2) * A_DAY_US) for each in made]


def current(shop: Shop) -> list[tuple[int, str]]:
    return sorted((row["id"], row["note"]) for row in shop.rows("parcels"))


def snippets(language: str) -> list[str]:
    """Return the code blocks of docs/lake.md."""
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)


def test_small_objects_become_one_a_date_and_every_reader_sees_the_same_before_and_after(shop: Shop) -> None:
    batch = changes()
    for start in (0, 4):
        write(shop, PARCEL, *batch[start : start + 4])
    before = current(shop)

    would = shop.done("compact", "parcels", "--dry-run")
    told = json.loads(shop.done("compact", "parcels", "--json"))

    assert "4 objects would become 2" in would
    assert [told["inputs"], told["bins"], len(told["made"]), told["vacuumed"]] == [4, 2, 2, 0]
    assert len(shop.keys()) == 6
    assert current(shop) == before
    write(shop, PARCEL, *batch[8:])  # late data of a compacted date
    assert json.loads(shop.done("compact", "parcels", "--vacuum-after", "0", "--json"))["vacuumed"] == 6
    assert len(shop.keys()) == 2
    assert current(shop) == [
        (1, "parcel 1"),
        (2, "parcel 2"),
        (3, "new"),
        (5, "parcel 5"),
        (6, "parcel 6"),
        (7, "parcel 7"),
    ]
    history = shop.rows("parcels", "SELECT _offset FROM history ORDER BY 1")
    assert [row["_offset"] for row in history] == list(range(9))


def test_a_table_that_no_worker_has_written_yet_is_refused(shop: Shop) -> None:
    assert isinstance(shop.refused("compact", "parcels"), Refused)


def test_what_the_documentation_gives_other_readers_works_as_it_stands(shop: Shop, tmp_path: Path) -> None:
    write(shop, PARCEL, *changes()[:4])
    write(shop, PARCEL, *changes()[4:])
    shop.done("compact", "parcels")  # both the inputs and the outputs are in the bucket
    local = shop.copy(tmp_path / "copy")

    folder = ds.dataset(f"{local}/conformed/parcels", format="parquet", partitioning="hive")
    assert folder.count_rows() == 18  # every engine with Hive's rules skips _log

    view = shop.done("latest", "parcels", "--sql").replace(f"s3://{shop.bucket}", local)
    with duckdb.connect() as connection:
        connection.execute(view)
        assert connection.sql("SELECT id, note FROM parcels ORDER BY id").fetchall() == NOW
        counted = [len(connection.sql(_placed(sql, local)).fetchall()) for sql in snippets("sql")[:2]]
    assert counted == [6, 9]
    for code in snippets("python"):
        names: dict[str, Any] = {}
        exec(_placed(code, local), names)
        assert sorted((row["id"], row["note"]) for row in names["current"].to_pylist()) == NOW


def _placed(code: str, local: str) -> str:
    """Return a snippet for this test's table in a local copy of its bucket."""
    return code.replace("s3://bank-lake", local).replace("customers", "parcels")
