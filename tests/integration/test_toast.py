"""Unchanged TOAST values through the real pipeline: every shape that Debezium sends, kills, lost state, a rebalance."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tailrace.control import barrier, init
from tailrace.control.verify import verify
from tailrace.deadline import wait_for
from tailrace.demo import database
from tests.bank import Bank

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.providers import RunningStack

WAIT = 60.0
LONG = "(SELECT string_agg(md5(random()::text || {id}), '') FROM generate_series(1, 100))"
COLUMNS = {  # the type of each column, and what makes a long value of the text that LONG is
    "a_text": ("text", "{long}"), "a_varchar": ("varchar", "{long}"), "a_domain": ("tale", "{long}"),
    "a_json": ("json", "to_json({long})"), "a_jsonb": ("jsonb", "to_jsonb({long})"),
    "a_bytea": ("bytea", "{long}::bytea"),
    "a_numeric": ("numeric", "('1' || translate({long}, 'abcdef', '012345'))::numeric"),
    "lexemes": ("tsvector", "(SELECT array_to_tsvector(array_agg(md5(random()::text))) FROM generate_series(1, 99))"),
    "texts": ("text[]", "ARRAY[{long}, NULL, {long}]"),
    "varchars": ("varchar[]", "ARRAY[{long}]::varchar[]"), "blobs": ("bytea[]", "ARRAY[{long}::bytea]"),
    "jsonbs": ("jsonb[]", "ARRAY[to_jsonb({long})]"),
    "ints": ("int[]", "(SELECT array_agg((random() * 1e9)::int + {id}) FROM generate_series(1, 900))"),
    "bigints": ("bigint[]", "(SELECT array_agg((random() * 1e15)::bigint + {id}) FROM generate_series(1, 900))"),
    "dates": ("date[]", "(SELECT array_agg(date '2000-01-01' + (random() * 9999)::int) FROM generate_series(1, 910))"),
    "uuids": ("uuid[]", "(SELECT array_agg(md5(random()::text || {id})::uuid) FROM generate_series(1, 200))"),
}  # fmt: skip
ROWS = 6


def statements() -> Iterator[str]:
    """Yield what makes the table, every column stored out of line, and its rows."""
    yield "CREATE DOMAIN tale AS text"
    listed = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    yield f"CREATE TABLE letters (id bigint PRIMARY KEY, touched int NOT NULL, state text DEFAULT 'open', {listed})"
    for name in COLUMNS:
        yield f"ALTER TABLE letters ALTER COLUMN {name} SET STORAGE EXTERNAL"
    for number in range(ROWS):
        yield f"INSERT INTO letters SELECT {number}, 0, NULL, {values(number)}"


def values(number: int) -> str:
    return ", ".join(value(name, number) for name in COLUMNS)


def value(name: str, number: int) -> str:
    """Return SQL for a long value of a column."""
    return COLUMNS[name][1].replace("{long}", LONG).replace("{id}", str(number))


@pytest.fixture(scope="module")
def letters(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A running pipeline of one table whose every column but two is stored out of line."""
    made = Bank(tmp_path_factory.mktemp("letters"), f"letters{secrets.token_hex(3)}")
    init.lay_out(made.folder, init.wanted(made.folder, made.name, None, ["public.letters"]))
    for sink in ("dynamodb", "search"):  # they refuse values of some of these types; the lake takes all
        (made.folder / "sinks" / f"{sink}.py").unlink()
    stack.endpoints.save(made.folder)
    with closing(database.connect(stack.endpoints.database("postgres"), autocommit=True)) as opened:
        opened.cursor().execute(f"CREATE DATABASE {made.name}")
    with closing(database.connect(stack.endpoints.database(made.name), autocommit=True)) as opened:
        for statement in statements():
            opened.cursor().execute(statement)
    assert made.json("schema", "derive", "letters", "--force")[0]["left_out"] == []
    made.must("apply", "--yes")
    with made.running("run", "all"):
        yield made
    made.remove()


def run(letters: Bank, *changes: str) -> None:
    loaded = letters.load()
    url = loaded.endpoints.database(loaded.connector.database)
    with closing(database.connect(url, autocommit=True)) as opened:
        for change in changes:
            opened.cursor().execute(change)


def assert_equal(letters: Bank) -> None:
    loaded = letters.load()
    report = verify(loaded, wait=lambda: barrier.cross(loaded, timeout=WAIT), values=True)
    for check in report.checks:
        assert [(entry.kind, entry.key, entry.fields) for entry in check.differences] == [], check.sink
        assert check.equal == len(letters.query("SELECT FROM letters"))


def parked(letters: Bank) -> list[str]:
    return [entry["reason"] for entry in letters.json("dlq", "show", "conform")]


def test_values_that_an_update_leaves_unchanged_are_restored_in_every_type(letters: Bank) -> None:
    touch = "UPDATE letters SET touched = touched + 1 WHERE id = 1"
    changes = [[f"UPDATE letters SET {name} = {value(name, 7)} WHERE id = 1", touch] for name in COLUMNS]
    run(letters, "UPDATE letters SET touched = touched + 1", *[change for pair in changes for change in pair])
    run(letters, "UPDATE letters SET a_jsonb = NULL WHERE id = 2", "UPDATE letters SET touched = 9 WHERE id = 2")
    word = "__debezium_unavailable_value"  # a value like any other
    run(letters, f"UPDATE letters SET a_text = '{word}', texts = ARRAY['{word}'] WHERE id = 3")
    run(letters, "UPDATE letters SET touched = touched + 1 WHERE id = 3")
    assert_equal(letters)
    assert parked(letters) == []


def test_images_outlive_a_kill_the_loss_of_their_folder_and_a_move_to_another_processor(letters: Bank) -> None:
    letters.kill("conform")
    for left in (letters.folder / ".tailrace" / "state" / "conform").iterdir():
        shutil.rmtree(left, ignore_errors=True)
    run(letters, "UPDATE letters SET touched = touched + 1", "DELETE FROM letters WHERE id = 4")
    run(letters, f"INSERT INTO letters SELECT 4, 0, NULL, {values(4)}", "UPDATE letters SET touched = 5 WHERE id = 4")
    with letters.running("run", "processor", "conform") as second:
        wait_for(lambda: len(folders(letters.folder)) == 2, timeout=WAIT, what="a second processor with images")
        run(letters, "UPDATE letters SET touched = touched + 1", f"UPDATE letters SET a_text = {value('a_text', 5)}")
        run(letters, "UPDATE letters SET touched = touched + 1")
        second.kill()
        second.wait(WAIT)
    run(letters, "UPDATE letters SET touched = touched + 1")
    assert_equal(letters)
    assert parked(letters) == []


def folders(project: Path) -> list[str]:
    """Return the folders of images, one per process, that hold a partition's; they come and go."""
    state = str(project / ".tailrace" / "state" / "conform")
    return [path for path, below, _ in os.walk(state) if below and os.path.dirname(path) == state]  # noqa: PTH120 - walk gives texts


def test_a_primary_key_that_changes_under_an_unchanged_value_is_parked_and_mended_by_writing_the_value(
    letters: Bank,
) -> None:
    run(letters, "UPDATE letters SET id = 100 WHERE id = 5")
    wait_for(lambda: len(parked(letters)) == 1, timeout=WAIT, what="the parked row")
    assert "was not sent: its TOAST value is unchanged" in parked(letters)[0]
    run(letters, f"UPDATE letters SET {', '.join(f'{name} = {value(name, 100)}' for name in COLUMNS)} WHERE id = 100")
    run(letters, "UPDATE letters SET touched = touched + 1 WHERE id = 100")
    assert_equal(letters)
    assert len(parked(letters)) == 1
