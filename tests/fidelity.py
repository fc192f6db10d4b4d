"""Everything a database does, against a live pipeline under traffic: ``make fidelity``.

One embedded stack, a table with a column of every type, tables of every shape, and traffic on all of them while the
list of changes below runs: columns come, go and change, partitions move, rows are truncated, keys change. After each
change the steps that the documentation names follow, nothing else. In the end `tailrace verify` has to find every
store equal to the source. The exit code is its exit code; TAILRACE_SEED replays a run's random values.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import errors, sql

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # `tests`, however this was started

from tailrace.control import init
from tailrace.deadline import wait_for
from tailrace.demo import database
from tests import every_type
from tests.bank import Bank
from tests.integration.test_types import declare_far_columns_as_text
from tests.providers import PROVIDERS, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection, cursor

    from tests.providers import RunningStack

TABLES = {
    "evolving": "CREATE TABLE evolving (id bigserial PRIMARY KEY, kind int, amount numeric(12,2) NOT NULL DEFAULT 0,"
    " note text, small real, gone text, old_name text, long text)",
    "ignoring": "CREATE TABLE ignoring (id bigserial PRIMARY KEY, kind int, note varchar(20), amount numeric(12,2))",
    "stopping": "CREATE TABLE stopping (id bigserial PRIMARY KEY, kind int, note text)",
    "shelf": "CREATE TABLE shelf (id bigserial PRIMARY KEY, note text)",
    "pair": 'CREATE TABLE pair ("Left" int, tag text, amount numeric(12,2), PRIMARY KEY ("Left", tag))',
    "part": "CREATE TABLE part (id bigserial, day date NOT NULL, note text, PRIMARY KEY (id, day))"
    " PARTITION BY RANGE (day);"  # FULL: a row that moves has another key, and takes its long values along
    "CREATE TABLE part_old PARTITION OF part FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');"
    "CREATE TABLE part_new PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');"
    "ALTER TABLE part_old REPLICA IDENTITY FULL; ALTER TABLE part_new REPLICA IDENTITY FULL",
}
SETTINGS = """
[tables."public.evolving"]
unknown_columns = "evolve"

[tables."public.stopping"]
unknown_columns = "stop"

[tables."public.shelf"]
truncate = "propagate"
"""
TOASTED = ("evolving", "ignoring", "stopping", "shelf")  # without FULL: their keys stay, as `tailrace check` asks
LONG = 9000  # characters: stored out of line, so an update that leaves it alone does not send it
RATE = 60  # changes a second, roughly
BETWEEN = 60  # changes between two steps
WAIT = 300.0
COLUMNS = (
    "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s"
)
SINKS = {
    "dynamodb.py": "from tailrace import DynamoDBTable\n"
    + "".join(
        f'{record} = DynamoDBTable("{{name}}", record="{record}", pk="{record.upper()}#{key}", sk="ROW")\n'
        for record, key in (
            *((name, "{{id}}") for name in ("every", "evolving", "ignoring", "stopping", "shelf")),
            ("pair", "{{Left}}#{{tag}}"),
            ("part", "{{id}}#{{day}}"),
        )
    ),
    "lake.py": "from tailrace import LakeTable\n"
    + "".join(f'{record} = LakeTable("{record}", record="{record}")\n' for record in ("every", *TABLES)),
    "search.py": "from tailrace import SearchIndex\n"
    + "".join(f'{record} = SearchIndex("{{name}}-{record}", record="{record}")\n' for record in ("every", "evolving")),
}


@dataclass(frozen=True)
class Step:
    """One change of the database: what it is, its SQL, and the commands that the documentation asks for after it."""

    said: str
    statements: tuple[str, ...]
    after: tuple[tuple[str, ...], ...] = ()


RESTART = "restart"  # no command: `tailrace run all` starts a worker that ended again
EVOLVING, PART = "public.evolving", "public.part"
AGAIN = (("snapshot", EVOLVING),)
STEPS = (
    Step("a column is added", ("ALTER TABLE evolving ADD COLUMN extra text",)),
    Step(
        "a column is added, NOT NULL with a default",
        ("ALTER TABLE evolving ADD COLUMN rank int NOT NULL DEFAULT 7",),
        AGAIN,
    ),
    Step("int becomes bigint", ("ALTER TABLE evolving ALTER COLUMN kind TYPE bigint",)),
    Step("a value beyond int", ("INSERT INTO evolving (kind, note) VALUES (5000000000, 'wide')",)),
    Step("real becomes double", ("ALTER TABLE evolving ALTER COLUMN small TYPE double precision",), AGAIN),
    Step("a column is dropped", ("ALTER TABLE evolving DROP COLUMN gone",), AGAIN),
    Step("a column is renamed", ("ALTER TABLE evolving RENAME COLUMN old_name TO new_name",), AGAIN),
    Step("a text is cut", ("ALTER TABLE evolving ALTER COLUMN note TYPE varchar(15) USING left(note, 15)",), AGAIN),
    Step("up and down", ("ALTER TABLE evolving ADD COLUMN brief int", "ALTER TABLE evolving DROP COLUMN brief"), AGAIN),
    Step("a value more in an enum", (f"ALTER TYPE mood ADD VALUE '{every_type.ADDED}'",)),
    Step("an ignored column", ("ALTER TABLE ignoring ADD COLUMN extra int NOT NULL DEFAULT 3",)),
    Step(
        "types that hold more",
        (
            "ALTER TABLE ignoring ALTER COLUMN note TYPE text",
            "ALTER TABLE ignoring ALTER COLUMN amount TYPE numeric(14,2)",
        ),
        (("apply", "--yes"), (RESTART, "conform"), ("snapshot", "public.ignoring")),
    ),
    Step(
        "a column that holds its table",
        ("ALTER TABLE stopping ADD COLUMN extra text", "UPDATE stopping SET extra = 'seen'"),
        (("schema", "derive", "stopping", "--force"), ("apply", "--yes")),
    ),
    Step("TRUNCATE", ("TRUNCATE shelf", "INSERT INTO shelf (note) SELECT 'after' FROM generate_series(1, 20)")),
    Step("rows move to another partition", ("UPDATE part SET day = day + 365 WHERE day < '2025-06-01'",)),
    Step("a partition is detached", ("ALTER TABLE part DETACH PARTITION part_old",), (("snapshot", PART, "--sweep"),)),
    Step(
        "a partition is attached, with rows",
        (
            "INSERT INTO part_old SELECT n, '2025-07-01', 'apart' FROM generate_series(900001, 900200) n",
            "ALTER TABLE part ATTACH PARTITION part_old FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
        ),
        (("snapshot", PART, "--sweep"),),
    ),
    Step(
        "a new partition",
        ("CREATE TABLE part_next PARTITION OF part DEFAULT; ALTER TABLE part_next REPLICA IDENTITY FULL",),
    ),
    Step(
        "one large transaction",
        ("INSERT INTO ignoring (kind, note) SELECT n, 'bulk' FROM generate_series(1, 5000) n",),
    ),
    Step("every key changes", ("UPDATE pair SET tag = tag || '''|#%'",)),
)  # fmt: skip


@dataclass
class Traffic:
    """Random changes of every table, whatever columns it has at the moment; one thread until ``stop``."""

    url: str
    seed: int
    done: int = 0
    refused: int = 0  # statements that met a change of structure, and were rolled back
    trouble: list[BaseException] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        draw, every = random.Random(self.seed), every_type.rows(self.seed, 0, 10**6)
        try:
            with closing(database.connect(self.url)) as opened:
                while not self.stop.wait(1 / RATE):
                    self._once(opened, draw, every)
        except psycopg2.Error as error:
            self.trouble.append(error)

    def go_on(self, count: int) -> None:
        """Return when there were so many changes more."""
        end = self.done + count
        wait_for(lambda: self.done >= end or bool(self.trouble), timeout=WAIT, every=0.05, what="the traffic to go on")

    def _once(self, opened: connection, draw: random.Random, every: Iterator[every_type.Row]) -> None:
        table = draw.choice([*TABLES, "every"])
        try:
            with opened.cursor() as asked:
                if table == "every":
                    asked.execute(*every_type.insert(next(every)))
                else:
                    change(asked, table, draw)
            opened.commit()
            self.done += 1
        except (errors.UndefinedColumn, errors.UniqueViolation, errors.CheckViolation, errors.UndefinedTable):
            opened.rollback()
            self.refused += 1
        except (errors.StringDataRightTruncation, errors.NumericValueOutOfRange, errors.FeatureNotSupported):
            opened.rollback()
            self.refused += 1


def change(asked: cursor, table: str, draw: random.Random) -> None:
    """Insert a row, or update or delete a random one; now and then under another key."""
    asked.execute(COLUMNS, (table,))
    columns = dict(asked.fetchall())
    key = "Left" if table == "pair" else "id"
    if draw.random() < 0.5:
        given = {name: value(name, kind, draw) for name, kind in columns.items() if name != "id"}
        names = sql.SQL(", ").join(map(sql.Identifier, given))
        places = sql.SQL(", ").join(sql.Placeholder() * len(given))
        query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), names, places)
        asked.execute(query, list(given.values()))
        return
    asked.execute(
        sql.SQL("SELECT {0} FROM {1} OFFSET floor(random() * (SELECT count(*) FROM {1})) LIMIT 1").format(
            sql.Identifier(key), sql.Identifier(table)
        )
    )
    found = asked.fetchone()
    if found is None:
        return
    if draw.random() < 0.2:
        query = sql.SQL("DELETE FROM {} WHERE {} = %s").format(sql.Identifier(table), sql.Identifier(key))
        asked.execute(query, found)
        return
    name = draw.choice(
        [each for each in columns if each != "id"] if draw.random() < 0.95 or table in TOASTED else [key]
    )
    new = draw.randrange(10**6, 10**9) if name == "id" else value(name, columns[name], draw)
    update = sql.SQL("UPDATE {} SET {} = %s WHERE {} = %s")
    asked.execute(update.format(*map(sql.Identifier, (table, name, key))), (new, found[0]))


def value(name: str, kind: str, draw: random.Random) -> Any:
    """Return a random value for a column; a long one where it is in no key."""
    if kind in ("integer", "bigint", "smallint"):
        return draw.randint(0, 30_000)
    if kind in ("real", "double precision"):
        return draw.choice([0.5, 0.1, draw.uniform(-1000, 1000)])
    if kind == "numeric":
        return f"{draw.randint(0, 10**6)}.{draw.randint(0, 99):02}"
    if kind == "date":
        return f"{draw.choice((2025, 2026))}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
    if name != "tag" and kind == "text" and draw.random() < 0.1:
        return "".join(draw.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=LONG))
    return "".join(draw.choices("aßc漢 '\"%|#{}", k=draw.randint(1, 12)))


def prepare(stack: RunningStack, folder: Path) -> Bank:
    """Lay out the project, make the database and deploy both."""
    made = Bank(folder, f"fidelity{secrets.token_hex(3)}")
    tables = [every_type.TABLE, *(f"public.{name}" for name in TABLES)]
    init.lay_out(folder, init.wanted(folder, made.name, None, tables))
    with (folder / "tailrace.toml").open("a") as settings:
        settings.write(SETTINGS)
    for name, text in SINKS.items():
        (folder / "sinks" / name).write_text(text.replace("{name}", made.name).replace("{{", "{").replace("}}", "}"))
    stack.endpoints.save(folder)
    with closing(database.connect(stack.endpoints.database("postgres"), autocommit=True)) as opened:
        opened.cursor().execute(f"CREATE DATABASE {made.name}")
    with closing(database.connect(stack.endpoints.database(made.name), autocommit=True)) as opened:
        opened.cursor().execute(every_type.CREATE)
        for statement in TABLES.values():
            opened.cursor().execute(statement)
    for record in ("every", *TABLES):
        made.must("schema", "derive", record, "--force")
    declare_far_columns_as_text(folder / "schemas" / "every.avsc")
    made.must("apply", "--yes")
    return made


def take(made: Bank, url: str, step: Step) -> None:
    """Make one change, then do what the documentation says."""
    begun = time.monotonic()
    with closing(database.connect(url, autocommit=True)) as opened:
        for statement in step.statements:
            opened.cursor().execute(statement)
    for command in step.after:
        if command[0] == RESTART:
            restart(made, command[1])
        else:
            made.must(*command, timeout=WAIT)
    done = "; ".join(" ".join(("tailrace", *command)) for command in step.after)
    say(
        f"{step.said}: {'; '.join(step.statements)[:100]}", done and f"then {done}", f"{time.monotonic() - begun:.1f} s"
    )


def restart(made: Bank, worker: str) -> None:
    """End a worker in good order and return when its successor runs."""
    before = made.pid(worker)
    os.kill(before, signal.SIGTERM)
    wait_for(lambda: made.pid(worker) != before, timeout=WAIT, what=f"{worker} to be started again")


def say(*words: str) -> None:
    print("  ".join(word for word in words if word), flush=True)  # noqa: T201 - what this command is for


def main() -> int:
    """Run the list and verify; return verify's exit code."""
    seed = int(os.environ.get("TAILRACE_SEED") or random.SystemRandom().randrange(10**6))
    say(f"TAILRACE_SEED={seed} draws the same values again")
    with tempfile.TemporaryDirectory(prefix="tailrace-fidelity-") as root:
        folder = Path(root) / "project"
        folder.mkdir()
        with PROVIDERS[os.environ.get(VARIABLE, "embedded")](Path(root)) as stack:
            return run(stack, folder, seed)


def run(stack: RunningStack, folder: Path, seed: int) -> int:
    """Deploy, change everything under traffic, verify."""
    made = prepare(stack, folder)
    url = stack.endpoints.database(made.name)
    traffic = Traffic(url, seed)
    thread = threading.Thread(target=traffic.run, name="traffic")
    with made.running("run", "all"):
        thread.start()
        try:
            for step in STEPS:
                traffic.go_on(BETWEEN)
                take(made, url, step)
            traffic.go_on(BETWEEN)
        finally:
            traffic.stop.set()
            thread.join(WAIT)
        say(f"{traffic.done:,} changes under way, {traffic.refused:,} met a change of structure and were rolled back")
        for trouble in traffic.trouble:
            say("the traffic ended early:", type(trouble).__name__)
        done = made.tailrace("verify", "--timeout", str(WAIT), timeout=2 * WAIT)
    say(done.stdout, done.stderr)
    for log in sorted((folder / ".tailrace" / "logs").glob("*.log")) if done.returncode else ():
        say(f"--- the end of {log.name}", log.read_text(errors="replace")[-3000:])
    made.remove()
    return done.returncode or int(bool(traffic.trouble))


if __name__ == "__main__":
    sys.exit(main())
