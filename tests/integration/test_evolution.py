"""A table changes under a running pipeline: contracts grow, the sinks follow in place, what is not known is said."""

from __future__ import annotations

import json
import secrets
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tailrace import topics
from tailrace.cli import cli
from tailrace.control import barrier, init
from tailrace.control.verify import verify
from tailrace.demo import database
from tailrace.health import RunFile
from tests.bank import Bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.control.verify import Report
    from tests.providers import RunningStack

WAIT = 60.0
SINKS = ("dynamodb", "lake", "search")
TABLE = """
CREATE TABLE things (id bigint PRIMARY KEY, name text NOT NULL, size int);
INSERT INTO things SELECT n, 'thing ' || n, n FROM generate_series(1, 20) n
"""
EVOLVE = '\n[tables."public.things"]\nunknown_columns = "evolve"\n'


@pytest.fixture(scope="module")
def things(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A running pipeline of one table whose contract follows it, with every store."""
    made = Bank(tmp_path_factory.mktemp("things"), f"things{secrets.token_hex(3)}")
    init.lay_out(made.folder, init.wanted(made.folder, made.name, None, ["public.things"]))
    toml = made.folder / "tailrace.toml"
    toml.write_text(toml.read_text().replace("flush_seconds = 5.0", "flush_seconds = 0.5") + EVOLVE)
    (made.folder / "processors" / "conform.py").unlink()
    stack.endpoints.save(made.folder)
    with closing(database.connect(stack.endpoints.database("postgres"), autocommit=True)) as opened:
        opened.cursor().execute(f"CREATE DATABASE {made.name}")
    with closing(database.connect(stack.endpoints.database(made.name), autocommit=True)) as opened:
        opened.cursor().execute(TABLE)
    made.must("schema", "derive", "--all")
    made.must("apply", "--yes")
    with made.running("run", "all"):
        yield made
    made.remove()


def run(things: Bank, *changes: str) -> None:
    loaded = things.load()
    url = loaded.endpoints.database(loaded.connector.database)
    with closing(database.connect(url, autocommit=True)) as opened:
        for change in changes:
            opened.cursor().execute(change)


def verified(things: Bank) -> Report:
    loaded = things.load()
    return verify(loaded, wait=lambda: barrier.cross(loaded, timeout=WAIT))


def differences(report: Report) -> set[tuple[str, str, tuple[str, ...]]]:
    return {(check.sink, entry.kind, entry.fields) for check in report.checks for entry in check.differences}


def followed(things: Bank, sink: str) -> float:
    """Return how many newer contracts a sink has followed."""
    port = RunFile(things.folder, sink).read()["port"]
    topic = topics.conformed(things.name, "things")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    counted = f'tailrace_evolutions_total{{topic="{topic}",worker="{sink}"}} '
    return sum(float(line.removeprefix(counted)) for line in lines if line.startswith(counted))


def ask(things: Bank, *arguments: str) -> tuple[int, Any]:
    """Run a command in this process; return its exit code and its JSON."""
    command = [*arguments, "--json", "--project", str(things.folder)]
    done = CliRunner().invoke(cli, command, standalone_mode=False, catch_exceptions=False)
    return done.return_value or 0, json.loads(done.stdout)


def registration(things: Bank) -> tuple[str, list[str]]:
    """Return what plan says of the contract."""
    _, plan = ask(things, "plan")
    [step] = [step for step in plan["steps"] if step["kind"] == "schema"]
    return step["action"], step["lines"]


def test_a_new_column_reaches_every_store_and_no_sink_is_started_again(things: Bank) -> None:
    assert differences(verified(things)) == set()
    before = {sink: things.pid(sink) for sink in SINKS}

    run(things, "ALTER TABLE things ADD COLUMN colour text", "UPDATE things SET colour = 'red' WHERE id < 5")
    run(things, "INSERT INTO things SELECT n, 'new ' || n, n, 'blue' FROM generate_series(21, 40) n")
    run(things, "DELETE FROM things WHERE id IN (3, 30)", "UPDATE things SET size = 0 WHERE id = 10")

    report = verified(things)
    assert differences(report) == set()
    assert {check.equal for check in report.checks} == {38}
    assert {sink: things.pid(sink) for sink in SINKS} == before
    assert [followed(things, sink) for sink in SINKS] == [1.0, 1.0, 1.0]
    assert ask(things, "dlq", "show", "conform")[1] == []


def test_rows_that_a_default_changed_without_an_event_differ_until_they_are_read_again(things: Bank) -> None:
    run(things, "ALTER TABLE things ADD COLUMN late int DEFAULT 5", "UPDATE things SET size = 1 WHERE id = 1")

    assert differences(verified(things)) == {(sink, "stale", ("late",)) for sink in SINKS}
    ask(things, "snapshot", "public.things")
    assert differences(verified(things)) == set()


def test_the_file_is_behind_until_derive_writes_what_is_registered(things: Bank) -> None:
    said = "the registry is ahead by: field colour, field late; `tailrace schema derive things` writes it"
    assert registration(things) == ("none", [said])
    assert ask(things, "apply", "--yes")[1]["applied"] == 0
    _, checked = ask(things, "check")
    warned = [finding["what"] for finding in checked["findings"] if finding["severity"] == "warning"]
    assert "The registry is ahead of schemas/things.avsc by: field colour, field late." in warned
    assert ask(things, "schema", "check")[1]["counts"] == {"incompatible": 0, "warning": 1, "note": 2}

    _, [derived] = ask(things, "schema", "derive", "things")
    assert derived["grown"] == ["field colour", "field late"]
    assert registration(things) == ("none", [])
    assert ask(things, "schema", "check", "things")[1]["findings"] == []


def test_schema_check_names_what_a_table_has_lost_and_derive_adds_what_it_gained(things: Bank) -> None:
    """The last test of this module: its table no longer fits."""
    run(things, "ALTER TABLE things DROP COLUMN colour", "ALTER TABLE things RENAME name TO title")
    run(things, "ALTER TABLE things ALTER size TYPE text")

    code, checked = ask(things, "schema", "check", "things")
    assert code == 1
    assert [(entry["verdict"], entry["problem"].split(": ")[-1]) for entry in checked["findings"]] == [
        ("incompatible", "name is no column of public.things."),
        ("incompatible", "size does not fit the column."),
        ("warning", "colour is no column of public.things."),
        ("note", "it joins it with the next row that is written."),
    ]
    _, [derived] = ask(things, "schema", "derive", "things")
    assert (derived["grown"], derived["kept"]) == (["field title"], ["colour"])
    assert [line.split()[0] for line in derived["incompatible"]] == ["name", "size"]
