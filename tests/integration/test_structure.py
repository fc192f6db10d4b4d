"""What happens to tables as a whole, through the real pipeline and under live changes; every part ends in a verify."""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from tailrace import topics
from tailrace.control import barrier, check, init
from tailrace.control.services import Services
from tailrace.control.verify import verify
from tailrace.control.verify.report import KINDS
from tailrace.crashpoint import Command
from tailrace.deadline import wait_for
from tailrace.demo import database
from tailrace.source import truncation
from tests.bank import Bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.providers import RunningStack

WAIT = 90.0
TABLES = ("public.notes", "public.remarks", "public.parts", "public.items", "other.items", "public.drafts")
DDL = """
CREATE SCHEMA other;
CREATE TABLE notes (id bigint PRIMARY KEY, body text);
CREATE TABLE remarks (id bigint PRIMARY KEY, note bigint NOT NULL REFERENCES notes, up bigint REFERENCES remarks);
CREATE INDEX ON remarks (note);
CREATE TABLE parts (id bigint, region text, made int NOT NULL, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
CREATE TABLE items (id bigint PRIMARY KEY, count int NOT NULL);
CREATE TABLE other.items (id bigint PRIMARY KEY, count int NOT NULL, hidden boolean NOT NULL);
CREATE TABLE drafts (id bigint PRIMARY KEY, body text);
INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 20) n;
INSERT INTO remarks SELECT n, n, CASE WHEN n > 1 THEN n - 1 END FROM generate_series(1, 20) n;
INSERT INTO parts SELECT n, (ARRAY['a', 'b', 'z'])[1 + n % 3], 0 FROM generate_series(1, 30) n;
INSERT INTO items SELECT n, 0 FROM generate_series(1, 20) n;
INSERT INTO other.items SELECT n, 0, n % 2 = 0 FROM generate_series(1, 20) n;
INSERT INTO drafts SELECT n, 'draft ' || n FROM generate_series(1, 20) n;
"""
POLICIES = """
[tables."public.notes"]
truncate = "propagate"
[tables."public.remarks"]
truncate = "propagate"
[tables."public.parts"]
truncate = "propagate"
[tables."public.items"]
truncate = "refuse"
"""
CONFORM = """
from tailrace import conform


@conform("other.items", to="other_items")
def shown(row):
    return None if row["hidden"] else row
"""
SINKS = {
    "dynamodb": """
from tailrace import DynamoDBTable

notes = DynamoDBTable("{name}", record="notes", pk="NOTE#{{id}}", sk="NOTE")
parts = DynamoDBTable("{name}", record="parts", pk="PART#{{id}}", sk="REGION#{{region}}")
items = DynamoDBTable("{name}", record="items", pk="ITEM#{{id}}", sk="ITEM")
others = DynamoDBTable("{name}", record="other_items", pk="OTHER#{{id}}", sk="ITEM")
""",
    "lake": """
from tailrace import LakeTable

remarks = LakeTable("remarks", record="remarks")
parts = LakeTable("parts", record="parts")
drafts = LakeTable("drafts", record="drafts")
""",
    "search": """
from tailrace import SearchIndex

notes = SearchIndex("{name}-notes", record="notes")
drafts = SearchIndex("{name}-drafts", record="drafts")
others = SearchIndex("{name}-others", record="other_items")
""",
}
TRAFFIC = (
    "UPDATE items SET count = count + 1 WHERE id = 1 + %(n)s / 5 %% 20",
    "INSERT INTO items VALUES (100 + %(n)s, 0)",
    "DELETE FROM items WHERE id = 94 + %(n)s",
    "UPDATE other.items SET hidden = NOT hidden WHERE id = 1 + %(n)s / 5 %% 10",
    "UPDATE parts SET made = made + 1 WHERE id = 1 + %(n)s / 5 %% 30",
)
STILL = threading.Lock()  # held while rows are compared, so that a busy machine needs no more rounds than a quiet one


@pytest.fixture(scope="module")
def shelf(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A running pipeline of six tables, with changes going on in three of them."""
    made = Bank(tmp_path_factory.mktemp("structure"), f"shelf{secrets.token_hex(3)}")
    init.lay_out(made.folder, init.wanted(made.folder, made.name, None, TABLES))
    for path in (made.folder / "processors").glob("*.py"):
        path.unlink()
    (made.folder / "processors" / "conform.py").write_text(CONFORM)
    for name, text in SINKS.items():
        (made.folder / "sinks" / f"{name}.py").write_text(text.format(name=made.name))
    toml = made.folder / "tailrace.toml"
    toml.write_text(toml.read_text().replace("flush_seconds = 5.0", "flush_seconds = 0.5") + POLICIES)
    stack.endpoints.save(made.folder)
    with closing(database.connect(stack.endpoints.database("postgres"), autocommit=True)) as opened:
        opened.cursor().execute(f"CREATE DATABASE {made.name}")
    with closing(database.connect(stack.endpoints.database(made.name), autocommit=True)) as opened:
        opened.cursor().execute(DDL)
    made.must("schema", "derive", "--all")
    made.must("apply", "--yes")
    with made.running("run", "all"), changing(stack.endpoints.database(made.name)):
        yield made
    made.remove()


@contextmanager
def changing(url: str) -> Iterator[None]:
    """Change rows, about forty times a second, as long as the block lasts."""
    stop = threading.Event()
    broken: list[BaseException] = []

    def change() -> None:
        try:
            with closing(database.connect(url, autocommit=True)) as opened, opened.cursor() as cursor:
                number = 0
                while not stop.wait(0.025):
                    number += 1
                    with STILL:
                        cursor.execute(TRAFFIC[number % len(TRAFFIC)], {"n": number})
        except psycopg2.Error as error:
            broken.append(error)

    thread = threading.Thread(target=change, name="traffic")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(WAIT)
        assert broken == []


def run(shelf: Bank, *statements: str) -> None:
    loaded = shelf.load()
    url = loaded.endpoints.database(loaded.connector.database)
    with closing(database.connect(url, autocommit=True)) as opened:
        for statement in statements:
            opened.cursor().execute(statement)


def differences(shelf: Bank) -> dict[tuple[str, str], dict[str, int]]:
    """Return, by table and sink, how many rows differ, by the kind of the difference."""
    loaded = shelf.load()
    with STILL:
        report = verify(loaded, wait=lambda: barrier.cross(loaded, timeout=WAIT))
    assert report.faults == []
    return {
        (each.table, each.sink): {kind: each.count(kind) for kind in KINDS if each.count(kind)}
        for each in report.checks
        if each.differences
    }


def parked(shelf: Bank) -> list[str]:
    return [entry["reason"] for entry in shelf.json("dlq", "show", "conform")]


def errors(shelf: Bank) -> list[str]:
    return [found.what for found in check.check(shelf.load()) if found.severity == "error"]


def restart(shelf: Bank, *workers: str) -> None:
    """End some workers in good order and wait until they run again."""
    pids = {worker: shelf.pid(worker) for worker in workers}
    for pid in pids.values():
        os.kill(pid, signal.SIGTERM)

    def again() -> bool:
        return all(shelf.pid(worker) != pid for worker, pid in pids.items())

    wait_for(again, timeout=WAIT, what=f"{', '.join(workers)} to start again")


def test_a_propagated_truncate_takes_its_rows_and_no_others_from_every_store(shelf: Bank) -> None:
    assert shelf.must("plan", "--exit-code").startswith("No changes.")
    run(
        shelf,
        "BEGIN; INSERT INTO notes VALUES (50, 'gone'); TRUNCATE notes CASCADE; INSERT INTO notes VALUES (3, 'again'),"
        " (51, 'new'); INSERT INTO remarks VALUES (1, 51, NULL); COMMIT",
        "INSERT INTO notes VALUES (50, 'back')",
        "TRUNCATE remarks, notes",
        "INSERT INTO notes VALUES (60, 'last')",
        "TRUNCATE parts_a",
        "INSERT INTO parts VALUES (400, 'a', 1)",
    )
    assert shelf.query("SELECT id FROM notes") == [(60,)]
    assert shelf.query("SELECT FROM parts WHERE region <> 'a'")
    assert differences(shelf) == {}
    assert parked(shelf) == []


BESIDE = """
CREATE TABLE public.tree (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE public.low PARTITION OF public.tree FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE TABLE public.lowest PARTITION OF public.low FOR VALUES FROM (0) TO (5);
CREATE TABLE public.high PARTITION OF public.tree DEFAULT;
CREATE TABLE public.leaning (id int PRIMARY KEY, tree int REFERENCES public.tree) PARTITION BY RANGE (id);
CREATE TABLE public.leaning_1 PARTITION OF public.leaning DEFAULT;
CREATE TABLE public.heir (id int PRIMARY KEY);
CREATE TABLE public.heir_child () INHERITS (public.heir);
CREATE TABLE public.left_side (id int PRIMARY KEY, other int);
CREATE TABLE public.right_side (id int PRIMARY KEY, other int REFERENCES public.left_side);
ALTER TABLE public.left_side ADD FOREIGN KEY (other) REFERENCES public.right_side;
CREATE TABLE public.veiled (id int PRIMARY KEY);
ALTER TABLE public.veiled ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON public.veiled USING (id > 1);
INSERT INTO public.tree VALUES (1), (50);
INSERT INTO public.leaning VALUES (1, 1), (2, 50);
INSERT INTO public.heir VALUES (1);
INSERT INTO public.heir_child VALUES (2);
INSERT INTO public.left_side VALUES (1, NULL);
INSERT INTO public.right_side VALUES (1, 1);
UPDATE public.left_side SET other = 1;
INSERT INTO public.veiled VALUES (1), (2);
"""


def test_a_trigger_deletes_what_its_command_empties_and_nothing_beside(shelf: Bank) -> None:
    tables = [f"public.{name}" for name in ("tree", "leaning", "heir", "left_side", "veiled")]
    role = f"{shelf.name}_guest"
    loaded = shelf.load()
    with closing(database.connect(loaded.endpoints.database(shelf.name), autocommit=True)) as opened:
        opened.cursor().execute(BESIDE)
        seen = truncation.read(opened, "beside", tables)
        assert seen.parts["public.tree"] == ("public.low", "public.tree", "public.high", "public.lowest")
        for each in truncation.differences("beside", dict.fromkeys(tables, "propagate"), seen):
            opened.cursor().execute(each.sql)
        seen = truncation.read(opened, "beside", tables)
        assert list(truncation.differences("beside", dict.fromkeys(tables, "propagate"), seen)) == []
        opened.cursor().execute(f"CREATE ROLE {role}; GRANT TRUNCATE ON {', '.join(tables)} TO {role}")
    run(shelf, "SET session_replication_role = replica; TRUNCATE ONLY public.heir")
    assert shelf.query("SELECT id FROM public.heir") == [(2,)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run(shelf, f"SET ROLE {role}; TRUNCATE public.veiled")
    run(shelf, f"GRANT SELECT, DELETE ON public.veiled TO {role}")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="row-level security"):
        run(shelf, f"SET ROLE {role}; TRUNCATE public.veiled")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        run(shelf, "TRUNCATE public.left_side CASCADE")
    assert len(shelf.query("SELECT FROM public.veiled, public.left_side, public.right_side")) == 2
    run(shelf, "TRUNCATE public.tree CASCADE")
    assert shelf.query("SELECT FROM public.tree UNION ALL SELECT FROM public.leaning") == []
    run(shelf, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_refused_truncate_and_one_whose_rows_are_kept_fail_at_the_source_and_change_nothing(shelf: Bank) -> None:
    with pytest.raises(psycopg2.errors.RaiseException, match=r"TRUNCATE of public\.items is refused"):
        run(shelf, "TRUNCATE drafts, items")
    run(
        shelf,
        "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER keep BEFORE DELETE ON notes FOR EACH ROW EXECUTE FUNCTION public.keep()",
    )
    with pytest.raises(psycopg2.errors.RaiseException, match="keeps some of its rows"):
        run(shelf, "TRUNCATE notes CASCADE")
    run(shelf, "DROP TRIGGER keep ON notes")
    assert shelf.query("SELECT FROM drafts")
    assert differences(shelf) == {}


def test_a_trigger_that_is_disabled_or_missing_is_an_error_until_it_is_applied_again(shelf: Bank) -> None:
    name = f"tailrace_truncate_{shelf.name}"
    run(shelf, f"ALTER TABLE notes DISABLE TRIGGER {name}", f"DROP TRIGGER {name} ON parts_a")
    run(
        shelf,
        "CREATE TABLE public.parts_c PARTITION OF parts FOR VALUES IN ('c')",
        "INSERT INTO parts VALUES (500, 'c', 0)",
    )
    assert errors(shelf) == [
        "public.notes: its trigger on TRUNCATE is disabled, or not enabled always.",
        "public.parts_a: it has no trigger to propagate TRUNCATE.",
        "public.parts_c: it has no trigger to propagate TRUNCATE.",
    ]
    shelf.must("apply", "--yes")
    assert errors(shelf) == []
    assert shelf.must("plan", "--exit-code").startswith("No changes.")
    assert differences(shelf) == {}


def test_rows_that_come_and_go_without_an_event_are_named_by_verify_and_mended_by_a_snapshot_with_sweep(
    shelf: Bank,
) -> None:
    run(
        shelf,
        "UPDATE parts SET region = 'b' WHERE region = 'z' AND id % 2 = 0",  # within one partition, and out of it
        "UPDATE parts SET region = 'a' WHERE region = 'z'",
        "UPDATE parts SET region = 'y' WHERE region = 'c'",
    )
    assert differences(shelf) == {}
    run(
        shelf,
        "TRUNCATE drafts",
        "INSERT INTO drafts VALUES (7, 'again')",
        "CREATE TABLE public.parts_d (LIKE parts INCLUDING ALL)",
        "INSERT INTO parts_d SELECT n, 'd', 0 FROM generate_series(601, 605) n",
        "ALTER TABLE parts ATTACH PARTITION parts_d FOR VALUES IN ('d')",
        "ALTER TABLE parts DETACH PARTITION parts_a",
    )
    gone = len(shelf.query("SELECT FROM parts_a"))
    parts, drafts = {"missing": 5, "extra": gone}, {"extra": 19}
    assert differences(shelf) == {
        ("public.parts", "dynamodb"): parts,
        ("public.parts", "lake"): parts,
        ("public.drafts", "lake"): drafts,
        ("public.drafts", "search"): drafts,
    }
    assert ["snapshot TABLE --sweep" in reason for reason in parked(shelf)] == [True]
    command = ("snapshot", "public.drafts", "public.parts", "public.items", "--sweep")
    for point in (Command.SNAPSHOT_SIGNALLED, Command.SWEEP_MARKED):
        shelf.dies(point, *command)
    swept = shelf.json(*command)["swept"]
    assert {each["record"]: each["deleted"] for each in swept} == {"drafts": 19, "parts": gone, "items": 0}
    assert differences(shelf) == {}
    assert len(parked(shelf)) == 1  # no marker among them


def test_a_table_is_added_to_a_running_pipeline_and_only_its_workers_start_again(shelf: Bank) -> None:
    run(
        shelf,
        "CREATE TABLE public.extra (id bigint PRIMARY KEY, body text)",
        "INSERT INTO extra VALUES (1, 'old'), (2, 'old')",
    )
    capture(shelf, lambda tables: [*tables, "public.extra"])
    shelf.must("schema", "derive", "extra")
    lake = shelf.folder / "sinks" / "lake.py"
    lake.write_text(lake.read_text() + 'extra = LakeTable("extra", record="extra")\n')
    before = {worker: shelf.pid(worker) for worker in ("dynamodb", "search")}
    said = shelf.must("apply", "--yes")
    assert "start again what conforms or takes it: conform, lake" in said
    assert "tailrace snapshot public.extra" in said
    run(shelf, "UPDATE extra SET body = 'new' WHERE id = 2", "INSERT INTO extra VALUES (3, 'new')")
    restart(shelf, "conform", "lake")
    assert shelf.json("snapshot", "public.extra")["done"] == {"public.extra": 3}
    assert differences(shelf) == {}
    assert {worker: shelf.pid(worker) for worker in before} == before


def test_a_table_that_is_dropped_stops_no_other_and_ends_when_it_is_captured_no_more(shelf: Bank) -> None:
    run(shelf, "DROP TABLE drafts", "INSERT INTO notes VALUES (70, 'after')")
    asked = shelf.tailrace("verify")
    assert (asked.returncode, "public.drafts does not exist" in asked.stderr) == (3, True)
    assert "Traceback" not in asked.stderr + asked.stdout
    assert "The table public.drafts does not exist." in errors(shelf)
    assert "public.drafts does not exist" in shelf.tailrace("apply", "--yes").stderr
    capture(shelf, lambda tables: [table for table in tables if table != "public.drafts"])
    for sink in ("lake", "search"):
        path = shelf.folder / "sinks" / f"{sink}.py"
        path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("drafts")))
    shelf.must("apply", "--yes")
    with Services(shelf.load()) as services:
        assert topics.raw(shelf.name, "public.drafts") in services.admin.partitions()
    assert shelf.must("plan", "--exit-code").startswith("No changes.")
    assert errors(shelf) == []
    assert differences(shelf) == {}


def capture(shelf: Bank, change: Any) -> None:
    """Change what is captured."""
    path = shelf.folder / "connectors" / f"{shelf.name}.json"
    config = json.loads(path.read_text())
    config["table.include.list"] = ",".join(change(config["table.include.list"].split(",")))
    path.write_text(json.dumps(config, indent=2))
