"""`tailrace lake query` as people and machines call it."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from tailrace import aws
from tailrace.cli.lake import lake
from tailrace.contract import build
from tailrace.errors import Refused, TailraceError, Unreachable, UsageError
from tailrace.evolution import added
from tailrace.settings import LakeSettings
from tailrace.sink.lake import LakeWriter
from tailrace.targets import LakeTable
from tailrace.testing import PARCEL, Tape, parcel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailrace.change import Change
    from tailrace.contract import Contract
    from tailrace.endpoints import Endpoints
    from tests.providers import RunningStack


class Shop:
    """A project folder with one lake table, and its bucket."""

    def __init__(self, folder: Path, endpoints: Endpoints) -> None:
        self.folder, self.endpoints = folder, endpoints
        self.bucket = f"query-{uuid.uuid4().hex[:8]}"
        connector = {"topic.prefix": "shop.raw", "table.include.list": "public.parcel"}
        files = {
            "tailrace.toml": f'[pipeline]\nname = "shop"\nconnector = "shop"\n[lake]\nbucket = "{self.bucket}"\n',
            "connectors/shop.json": json.dumps(connector),
            "schemas/parcel.avsc": json.dumps(PARCEL.schema),
            "sinks/lake.py": 'from tailrace import LakeTable\nparcels = LakeTable("parcels", record="parcel")\n',
        }
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)
        self.s3 = aws.client("s3", endpoints.s3)
        self.s3.create_bucket(Bucket=self.bucket)

    def ask(self, *arguments: str, endpoints: Endpoints | None = None) -> Result:
        """Run the command in a process's environment that names the servers."""
        there = endpoints or self.endpoints
        environ = {f"TAILRACE_{name.upper()}": address for name, address in asdict(there).items()}
        return CliRunner().invoke(lake, ["query", *arguments, "--project", str(self.folder)], env=environ)

    def rows(self, *arguments: str) -> Any:
        """Return the rows of ``--json``."""
        answer = self.ask(*arguments, "--json")
        assert answer.exit_code == 0, answer.exception
        return json.loads(answer.stdout)

    def failure(self, *arguments: str, endpoints: Endpoints | None = None) -> TailraceError:
        """Return the error of a command that fails."""
        failed = self.ask(*arguments, endpoints=endpoints).exception
        assert isinstance(failed, TailraceError)
        return failed

    def close(self) -> None:
        for entry in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ()):
            self.s3.delete_object(Bucket=self.bucket, Key=entry["Key"])
        self.s3.delete_bucket(Bucket=self.bucket)
        self.s3.close()


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


def write(shop: Shop, contract: Contract, *changes: Change) -> None:
    """Write changes to the lake under a contract."""
    target = LakeTable("parcels", record="parcel")
    with closing(LakeWriter(target, contract, shop.endpoints, LakeSettings(bucket=shop.bucket))) as writer:
        assert not writer.write(changes, timeout=30)


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


def test_objects_of_every_contract_of_a_record_are_read_as_the_widest_of_them(empty: Shop) -> None:
    size = {"name": "size", "type": "int"}
    first = build("parcel", {**PARCEL.schema, "fields": [*PARCEL.schema["fields"], size]}, where="test")
    later = added(first, [{"name": "colour", "type": ["null", "string"], "default": None}], {"size": "long"})
    tape = Tape()
    write(empty, first, replace(tape.put(parcel(1)), value={**parcel(1), "size": 1}))
    write(empty, later, replace(tape.put(parcel(2)), value={**parcel(2), "size": 2**40, "colour": "red"}))

    rows = empty.rows("parcels", "select id, size, colour from current order by id")

    assert rows == [{"id": 1, "size": 1, "colour": None}, {"id": 2, "size": 2**40, "colour": "red"}]
