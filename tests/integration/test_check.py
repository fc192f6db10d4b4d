"""The catalogue as real Postgres shows it, and `check`, `schema derive` and `init` over it."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tailrace import contract, project
from tailrace.control.check import judge
from tailrace.control.services import Services
from tailrace.demo import database
from tailrace.source import catalogue, heartbeat
from tests import traps
from tests.bank import Bank

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailrace.control.checks.finding import Finding
    from tests.providers import RunningStack

NAME = f"oddities{secrets.token_hex(3)}"  # of this run
TABLES = "public.odd,public.parts,public.keyless"
DDL = f"""
CREATE DOMAIN price AS numeric(12, 3) NOT NULL;
CREATE TYPE mood AS ENUM ('fine', 'not');
CREATE TABLE owners (id int PRIMARY KEY);
CREATE TABLE odd (
    a int, b text, cost price, mood mood, marks float8[] NOT NULL, doubled int GENERATED ALWAYS AS (a * 2) STORED,
    owner int REFERENCES owners, kind int REFERENCES owners, gone int, PRIMARY KEY (b, a)
);
ALTER TABLE odd DROP COLUMN gone;
CREATE INDEX ON odd (kind, owner);
COMMENT ON TABLE odd IS 'What is odd.';
COMMENT ON COLUMN odd.cost IS 'in mills';
CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE keyless (x int);
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE PUBLICATION wide FOR ALL TABLES;
CREATE PUBLICATION narrow FOR TABLE odd (a, b), owners WHERE (id > 1), parts WITH (publish = 'insert, update');
{heartbeat.CREATE};
"""


@pytest.fixture(scope="module")
def folder(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project over a database of odd tables."""
    made = tmp_path_factory.mktemp("check")
    with closing(database.connect(stack.endpoints.database("postgres"), autocommit=True)) as opened:
        opened.cursor().execute(f"CREATE DATABASE {NAME}")
    with closing(database.connect(stack.endpoints.database(NAME), autocommit=True)) as opened:
        opened.cursor().execute(DDL)
    run("init", str(made), "--name", NAME, "--tables", TABLES)
    stack.endpoints.save(made)
    return made


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tailrace", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_catalogue_is_read_as_it_is(stack: RunningStack, folder: Path) -> None:
    assert folder.exists()
    with catalogue.session(stack.endpoints.database(NAME)) as connection:
        seen = catalogue.read(connection, TABLES.split(","))
    odd = seen.tables["public.odd"]
    assert (odd.key, odd.identity, odd.comment, odd.toasted) == (("b", "a"), "DEFAULT", "What is odd.", True)
    cost = odd.by_name["cost"]
    assert (cost.type, cost.shown, cost.nullable, cost.comment) == ("numeric", "price", False, "in mills")
    assert odd.by_name["mood"].enum
    assert odd.by_name["doubled"].generated
    assert [(odd.by_name[name].item, odd.by_name[name].sort) for name in ("marks", "mood")] == [
        ("float8", "b"),
        ("", "e"),
    ]
    assert "gone" not in odd.by_name
    assert {foreign.columns: foreign.indexed for foreign in odd.foreign_keys} == {("owner",): False, ("kind",): True}
    parts = seen.tables["public.parts"]
    assert (parts.partitioned, parts.toasted) == (True, True)
    assert parts.leaves == (catalogue.Leaf("public.parts_1", toasted=True),)
    assert "public.parts_1" not in seen.names
    assert seen.tables["public.keyless"].identity == "FULL"
    assert seen.publications["wide"].all_tables
    narrow = seen.publications["narrow"]
    assert narrow.tables == ("public.odd", "public.owners", "public.parts")
    assert set(narrow.filtered) == {"public.odd", "public.owners"}
    assert narrow.operations == {"insert", "update"}
    assert not narrow.via_root


def test_derive_refuses_a_table_without_a_key_and_writes_the_others(folder: Path) -> None:
    refused = run("schema", "derive", "--all", "--project", str(folder))
    assert refused.returncode == 3
    assert "The table public.keyless has no primary key" in refused.stderr
    done = run("schema", "derive", "odd", "parts", "--force", "--json", "--project", str(folder))
    assert [entry["left_out"] for entry in json.loads(done.stdout)] == [["doubled"], []]
    made = contract.load(folder / "schemas" / "odd.avsc")
    assert made.key == ("b", "a")
    assert (made.by_name["cost"].precision, made.by_name["cost"].scale) == (12, 3)
    kept = run("schema", "derive", "odd", "--json", "--project", str(folder))
    assert json.loads(kept.stdout)[0]["written"] is False


def test_check_names_what_is_wrong_with_the_sql_that_mends_it(folder: Path) -> None:
    missing = run("check", "--project", str(folder))
    assert missing.returncode == 3, missing.stdout
    avsc = json.loads((folder / "schemas" / "parts.avsc").read_text())
    (folder / "schemas" / "keyless.avsc").write_text(json.dumps(avsc))
    done = run("check", "--json", "--project", str(folder))
    assert done.returncode == 1, done.stderr
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["The table public.keyless has no primary key."]["sql"].startswith("ALTER TABLE")
    assert findings["public.odd: marks would stop the connector."]["sql"].endswith("REPLICA IDENTITY FULL;")
    assert any("foreign key odd_owner_fkey has no index" in what for what in findings)
    assert any("has no field id" in what for what in findings)


def test_a_database_that_does_not_exist_is_named(folder: Path, stack: RunningStack) -> None:
    other = folder / "other"
    run("init", str(other), "--name", "nobody", "--tables", "public.odd")
    stack.endpoints.save(other)
    done = run("schema", "derive", "--all", "--project", str(other))
    assert done.returncode == 4
    assert 'database "nobody" does not exist' in done.stderr
    assert "Create it, or mend database.dbname" in done.stderr


@pytest.fixture(scope="module")
def trapped(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A project over a database with every trap."""
    made = Bank(tmp_path_factory.mktemp("traps"), f"traps{secrets.token_hex(3)}")
    traps.project(made.folder, made.name)
    stack.endpoints.save(made.folder)
    server = stack.endpoints.database("postgres")
    execute(server, f"CREATE DATABASE {made.name}")
    try:
        execute(stack.endpoints.database(made.name), *traps.statements(made.name))
        source = project.load_source(made.folder)
        with Services(source) as services:
            traps.contracts(made.folder, source.connector, services.catalogue())
        yield made
    finally:
        slot = f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{made.name}'"
        drop = (f"DROP DATABASE {made.name}", f"DROP ROLE reader_{made.name}")
        execute(server, slot, *drop)


def execute(url: str, *statements: str) -> None:
    with closing(database.connect(url, autocommit=True)) as opened:
        for statement in statements:
            opened.cursor().execute(statement)


def look(made: Bank) -> list[Finding]:
    """Return what check says, Kafka and Connect aside."""
    loaded = made.load()
    with Services(loaded) as services:
        return judge(loaded, services.catalogue())


def mending(made: Bank) -> list[str]:
    """Return the SQL that check says, each once; that of the server as a whole, which others use too, aside."""
    said = [each.sql for each in look(made) if each.severity != "note" and each.sql]
    return [sql for sql in dict.fromkeys(said) if not sql.startswith("ALTER SYSTEM")]


def test_every_trap_of_a_database_is_named_with_the_sql_that_mends_it(stack: RunningStack, trapped: Bank) -> None:
    found = look(trapped)
    for what, sql in traps.NAMED:
        named = [each for each in found if what in each.what]
        assert named, f"nothing says: {what}"
        assert all(each.sql.startswith(sql) and (sql or each.hint or each.detail) for each in named), named
    for _ in range(3):  # what is mended may uncover what stood behind it
        execute(stack.endpoints.database(trapped.name), *mending(trapped))
    assert mending(trapped) == []


def test_a_publication_that_leaves_something_out_is_named_and_mended(stack: RunningStack, trapped: Bank) -> None:
    url, name = stack.endpoints.database(trapped.name), f"tailrace_{trapped.name}"
    connector = trapped.folder / "connectors" / f"{trapped.name}.json"
    config = {**json.loads(connector.read_text()), "message.key.columns": ""}
    connector.write_text(json.dumps({**config, "table.include.list": "public.owners,public.hiding,public.child"}))
    execute(
        url,
        f"DROP PUBLICATION IF EXISTS {name}",
        f"CREATE PUBLICATION {name} FOR TABLE owners WHERE (id > 1), hiding (id) WITH (publish = 'insert')",
    )
    named = [each for each in look(trapped) if f"publication {name}" in each.what]
    assert [each.what.split(name)[1].split()[0] for each in named] == ["cuts", "does", "lacks", "names"]
    execute(url, *(each.sql for each in named))
    assert [each.what for each in look(trapped) if f"publication {name}" in each.what] == []
