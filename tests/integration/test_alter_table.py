"""Tables that change while rows flow: added, dropped, renamed, widened and converted columns, under every policy."""

from __future__ import annotations

import json
import secrets
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import topics
from tailrace.control import barrier, init, status
from tailrace.control.services import Services
from tailrace.control.verify import verify
from tailrace.deadline import Deadline, wait_for
from tailrace.demo import database
from tailrace.errors import Refused
from tailrace.registry import Registry
from tests.bank import Bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.providers import RunningStack

WAIT = 90.0
POLICIES = {"grows": "evolve", "plain": "ignore", "strict": "stop", "steady": "ignore"}
FUNCTION = '''
from tailrace import Row, conform


@conform("public.plain", to="plain")
def plain(row: Row) -> Row:
    """Take the amount as the number that it was before it became text."""
    return {**row, "amount": None if row["amount"] is None else int(row["amount"])}
'''


@pytest.fixture(scope="module")
def shifting(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A running pipeline of four equal tables, one for each policy and one that nobody alters."""
    made = Bank(tmp_path_factory.mktemp("shifting"), f"shifting{secrets.token_hex(3)}")
    init.lay_out(made.folder, init.wanted(made.folder, made.name, None, [f"public.{name}" for name in POLICIES]))
    stack.endpoints.save(made.folder)
    settings = [f'[tables."public.{table}"]\nunknown_columns = "{policy}"\n' for table, policy in POLICIES.items()]
    toml = made.folder / "tailrace.toml"
    lines = toml.read_text().replace("flush_seconds = 5.0", "flush_seconds = 1.0")  # every wait is a flush long
    toml.write_text("\n".join([lines, *settings]))
    columns = "id bigint PRIMARY KEY, amount int, label text, price numeric(6,2)"
    rows = "SELECT n, n * 7, 'row ' || n, n / 4.0 FROM generate_series(1, 20) n"
    tables = [f"CREATE TABLE {table} ({columns}); INSERT INTO {table} {rows}" for table in POLICIES]
    run(stack.endpoints.database("postgres"), f"CREATE DATABASE {made.name}")
    run(stack.endpoints.database(made.name), *tables)
    made.must("schema", "derive", "--all")
    made.must("apply", "--yes")
    with made.running("run", "all"):
        yield made
    made.remove()


def run(url: str, *statements: str) -> None:
    with closing(database.connect(url, autocommit=True)) as opened:
        for statement in statements:
            opened.cursor().execute(statement)


def alter(made: Bank, *statements: str) -> None:
    """Run statements, and let the table that nobody alters change beside them."""
    url = made.load().endpoints.database(made.name)
    run(url, *statements, "UPDATE steady SET amount = amount + 1 WHERE id < 4")


def row(table: str, number: int, **more: Any) -> str:
    names, values = ["id", *more], [str(number), *(repr(value) for value in more.values())]
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(values)})"


def assert_equal(made: Bank) -> None:
    loaded = made.load()
    report = verify(loaded, wait=lambda: barrier.cross(loaded, timeout=WAIT), values=True)
    for check in report.checks:
        assert [(entry.kind, entry.key, entry.fields) for entry in check.differences] == [], (check.table, check.sink)


def seen(made: Bank) -> tuple[dict[str, str], int]:
    """Return the held tables with their problems, and how many records are parked anywhere."""
    found = status.snapshot(made.load())
    return {table.table: table.problem for table in found.held}, sum(worker.parked for worker in found.workers)


def in_force(made: Bank, record: str) -> dict[str, Any]:
    """Return the fields of the contract that is registered last."""
    with closing(Registry(made.load().endpoints.registry)) as registry:
        found = registry.latest(topics.conformed(made.name, record))
    assert found is not None
    return {field["name"]: field["type"] for field in found[1]["fields"]}


def change(made: Bank, table: str) -> None:
    """Change a table up and down, with a row after each step."""
    big = 2**40 if table == "grows" else 7
    alter(made, f"ALTER TABLE {table} ADD COLUMN note text", row(table, 100, amount=1, note="new"))
    alter(made, f"UPDATE {table} SET note = 'changed' WHERE id < 5")
    alter(made, f"ALTER TABLE {table} ADD COLUMN state text NOT NULL DEFAULT 'open'", row(table, 101, state="shut"))
    alter(made, f"ALTER TABLE {table} ALTER amount TYPE bigint", row(table, 102, amount=big))
    alter(made, f"ALTER TABLE {table} ALTER label TYPE varchar(20), ALTER price TYPE numeric(5,1)")
    alter(made, row(table, 103, label="short", price=7.5), f"ALTER TABLE {table} RENAME label TO title")
    alter(made, row(table, 104, title="renamed"), f"DELETE FROM {table} WHERE id = 3 OR amount > 2147483647")
    wait_until_read(made)
    alter(made, f"ALTER TABLE {table} ALTER amount TYPE int", row(table, 105, amount=8))
    alter(made, f"ALTER TABLE {table} DROP COLUMN note", row(table, 106, title="dropped"))


def wait_until_read(made: Bank) -> None:
    """Wait for the connector: it takes a column's type from the table as it is when it reads (docs/debezium.md)."""
    with Services(made.load()) as services:
        barrier.Barrier(services, Deadline.after(WAIT), lambda _: None).source()


def test_compatible_changes_flow_under_every_policy_that_lets_them_and_end_equal(shifting: Bank) -> None:
    for table in ("grows", "plain"):
        change(shifting, table)
    barrier.cross(shifting.load(), timeout=WAIT)
    assert seen(shifting) == ({}, 0)
    notes = json.dumps(shifting.json("status"))
    assert "the column state is not in the contract: it is left out" in notes
    assert "rows from before the column state was added have null there" in notes
    shifting.must("snapshot", "public.grows", "public.plain")  # what ALTER TABLE gave to rows without an event
    assert_equal(shifting)
    fields = in_force(shifting, "grows")
    assert set(fields) == {"id", "amount", "label", "price", "note", "state", "title"}
    assert fields["amount"] == ["null", "long"]
    assert set(in_force(shifting, "plain")) == {"id", "amount", "label", "price"}


def test_an_incompatible_change_holds_its_own_table_until_it_is_mended(shifting: Bank) -> None:
    alter(shifting, "ALTER TABLE strict ADD COLUMN note text", row("strict", 200, note="new"))
    alter(shifting, "ALTER TABLE plain ALTER amount TYPE text", row("plain", 200, amount="12"))
    alter(shifting, "ALTER TABLE plain ALTER amount TYPE int USING amount::int", "UPDATE plain SET amount = 5")
    wait_for(lambda: len(seen(shifting)[0]) == 2, timeout=WAIT, what="two held tables")
    problems = {
        "public.strict": "The column note is not in the contract strict.",
        "public.plain": "The column amount: text does not fit int; it fits string.",
    }
    assert seen(shifting) == (problems, 0)
    ((written,),) = shifting.query("SELECT pg_current_wal_lsn()")
    alter(shifting, row("strict", 201, note="waits"))
    moved = f"SELECT FROM pg_replication_slots WHERE database = '{shifting.name}' AND confirmed_flush_lsn > '{written}'"
    wait_for(lambda: shifting.query(moved), timeout=WAIT, what="the slot to move while tables are held")
    shown = shifting.tailrace("status")
    assert (shown.returncode, "public.strict is held" in " ".join(shown.stdout.split())) == (1, True)
    shifting.must("schema", "derive", "strict")
    shifting.must("apply", "--yes")  # strict goes on by itself
    with pytest.raises(Refused, match=r"The table public\.plain is held"):
        barrier.cross(shifting.load(), timeout=WAIT)
    assert set(seen(shifting)[0]) == {"public.plain"}
    (shifting.folder / "processors" / "conform.py").write_text(FUNCTION)
    shifting.must("replay", "processor", "conform", "--to", "beginning", "--yes")  # and starts it again
    assert_equal(shifting)
    assert seen(shifting) == ({}, 0)
