"""TRUNCATE at the source: the triggers that make it deletes, or refuse it, and which of them are there.

A TRUNCATE comes as one event without key, in one partition of a raw topic; nothing orders it against the rows in the
others. So where it has to count, the truth is made in Postgres: a trigger before it deletes the rows one by one, and
each delete is an event like any other. A trigger is ours when it has our name and our function; no other is touched.
The functions run with the rights of whoever truncates, see only pg_catalog, and fail where a row may be hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tailrace import topics
from tailrace.source.catalogue import quote, rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from psycopg2.extensions import connection as Connection  # noqa: N812 - the driver's class is lower case

PARK, PROPAGATE, REFUSE = "park", "propagate", "refuse"
SCHEMA = topics.HEARTBEAT_SCHEMA
FUNCTIONS = {PROPAGATE: f"{SCHEMA}.propagate_truncate", REFUSE: f"{SCHEMA}.refuse_truncate"}
ALWAYS = "A"  # pg_trigger.tgenabled: fires in replica sessions too
KIND = 2 | 32  # pg_trigger.tgtype: BEFORE, TRUNCATE, for each statement
_SETTINGS = {"search_path": "pg_catalog, pg_temp", "row_security": "off"}
# Postgres has made sure, before any trigger fires, that every table with a foreign key to this one is in the command
# too (CASCADE, or named), so their rows may go first: without that a delete here would meet their foreign keys.
_PROPAGATE = """
DECLARE
    found record;
    is_left boolean;
BEGIN
    FOR found IN
        WITH RECURSIVE emptied (id, depth) AS (
            SELECT TG_RELID, 0
            UNION
            SELECT f.conrelid, e.depth + 1 FROM emptied e JOIN pg_constraint f ON f.confrelid = e.id
            WHERE f.contype = 'f' AND f.conrelid <> e.id AND e.depth < 64
        )
        SELECT c.oid::regclass AS name, CASE c.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END AS scope
        FROM (SELECT id, max(depth) AS depth FROM emptied GROUP BY id) e JOIN pg_class c ON c.oid = e.id
        ORDER BY e.depth DESC, c.relkind DESC, c.oid
    LOOP
        EXECUTE format('DELETE FROM %s%s', found.scope, found.name);
    END LOOP;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s%s)', found.scope, found.name) INTO is_left;
    IF is_left THEN
        RAISE EXCEPTION 'TRUNCATE of % is refused: a trigger or rule keeps some of its rows from being deleted',
            TG_RELID::regclass USING HINT = 'Tailrace makes a TRUNCATE of this table the deletes of its rows.';
    END IF;
    RETURN NULL;
END
"""
_REFUSE = """
BEGIN
    RAISE EXCEPTION 'TRUNCATE of % is refused: the stores that Tailrace fills from it would keep its rows',
        TG_RELID::regclass USING HINT = 'DELETE FROM it, or say truncate = "propagate" in tailrace.toml.';
END
"""
BODIES = {FUNCTIONS[PROPAGATE]: _PROPAGATE, FUNCTIONS[REFUSE]: _REFUSE}


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger of ours: the function that it calls, and ``enabled`` and ``kind`` as pg_trigger has them."""

    function: str
    enabled: str = ALWAYS
    kind: int = KIND


@dataclass(frozen=True)
class Picture:
    """What is there: the parts of each captured table (itself and its partitions), triggers by table, our functions.

    A function is its text and its settings.
    """

    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    triggers: Mapping[str, Trigger] = field(default_factory=dict)
    functions: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One table whose trigger is not what its policy asks for, and the SQL that mends it."""

    table: str
    said: str
    sql: str
    wanted: bool = True  # False where a trigger of ours has to go


def trigger_name(pipeline: str) -> str:
    """Return the name of a pipeline's triggers; another pipeline over the same database has its own."""
    return f"{SCHEMA}_truncate_{pipeline}"


def read(connection: Connection, pipeline: str, captured: Iterable[str]) -> Picture:
    """Look at the captured tables and at every trigger of this pipeline."""
    parts: dict[str, list[str]] = {}
    for row in rows(connection, _PARTS, (list(captured),)):
        parts.setdefault(row.root, []).append(row.part)
    triggers = rows(connection, _TRIGGERS, (trigger_name(pipeline), list(BODIES)))
    return Picture(
        {root: tuple(found) for root, found in parts.items()},
        {row.name: Trigger(row.function, row.enabled, row.kind) for row in triggers},
        {row.name: (row.text, tuple(row.settings)) for row in rows(connection, _READ_FUNCTIONS, (list(BODIES),))},
    )


def differences(pipeline: str, policies: Mapping[str, str], seen: Picture) -> Iterator[Difference]:
    """Compare what is there with the policies, which are by captured table."""
    wanted = {
        part: FUNCTIONS[policy]
        for table, policy in policies.items()
        if policy in FUNCTIONS
        for part in seen.parts.get(table, ())
    }
    name = trigger_name(pipeline)
    for table, function in wanted.items():
        said = _wrong(function, seen.triggers.get(table), seen.functions.get(function))
        if said:
            yield Difference(table, said, _create(name, table, function, seen))
    for table in seen.triggers:
        if table not in wanted:
            sql = f"DROP TRIGGER {quote_name(name)} ON {quote(table)};"
            yield Difference(table, "a trigger of Tailrace is there that nothing asks for", sql, wanted=False)


def _wrong(function: str, found: Trigger | None, made: tuple[str, tuple[str, ...]] | None) -> str:
    """Say what is wrong with a trigger; nothing where it is right."""
    policy = next(policy for policy, name in FUNCTIONS.items() if name == function)
    if found is None:
        return f"it has no trigger to {policy} TRUNCATE"
    if found.function != function or found.kind != KIND:
        return f"its trigger does something else than {policy} TRUNCATE"
    if found.enabled != ALWAYS:
        return "its trigger on TRUNCATE is disabled, or not enabled always"
    if made != (BODIES[function], settings()):
        return f"the function {function} is not the one of this release"
    return ""


def settings() -> tuple[str, ...]:
    """Return the settings of our functions as pg_proc shows them."""
    return tuple(sorted(f"{name}={value}" for name, value in _SETTINGS.items()))


def create_function(name: str) -> str:
    """Return the SQL that makes one of our functions."""
    options = " ".join(f"SET {setting} = {value}" for setting, value in _SETTINGS.items())
    return (
        f"CREATE SCHEMA IF NOT EXISTS {SCHEMA};\n"
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql {options} AS $tailrace${BODIES[name]}"
        "$tailrace$;\n"
    )


def _create(trigger: str, table: str, function: str, seen: Picture) -> str:
    """Return the SQL that makes a trigger, and its function where that is missing or another one."""
    before = "" if seen.functions.get(function) == (BODIES[function], settings()) else create_function(function)
    name = quote_name(trigger)
    return (
        f"{before}CREATE OR REPLACE TRIGGER {name} BEFORE TRUNCATE ON {quote(table)}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION {function}();\n"
        f"ALTER TABLE ONLY {quote(table)} ENABLE ALWAYS TRIGGER {name};"
    )


def quote_name(name: str) -> str:
    """Return a single name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


_PARTS = """
SELECT n.nspname || '.' || c.relname AS root, m.nspname || '.' || l.relname AS part
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT c.oid AS relid WHERE c.relkind = 'r' UNION ALL
    SELECT t.relid::oid FROM pg_partition_tree(c.oid) t WHERE c.relkind = 'p'
) t
JOIN pg_class l ON l.oid = t.relid AND l.relkind IN ('r', 'p')
JOIN pg_namespace m ON m.oid = l.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname || '.' || c.relname = ANY (%s)
ORDER BY 1, l.relkind, 2
"""
_TRIGGERS = """
SELECT n.nspname || '.' || c.relname AS name, s.nspname || '.' || p.proname AS function,
       t.tgenabled AS enabled, t.tgtype::int AS kind
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace s ON s.oid = p.pronamespace
WHERE t.tgname = %s AND NOT t.tgisinternal AND s.nspname || '.' || p.proname = ANY (%s)
ORDER BY 1
"""
_READ_FUNCTIONS = """
SELECT s.nspname || '.' || p.proname AS name, p.prosrc AS text,
       ARRAY(SELECT unnest(p.proconfig) ORDER BY 1) AS settings
FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
WHERE s.nspname || '.' || p.proname = ANY (%s) AND p.pronargs = 0 AND NOT p.prosecdef
"""
