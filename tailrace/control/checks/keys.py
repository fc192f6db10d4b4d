"""Keys and what old rows say of them: primary keys, message.key.columns, REPLICA IDENTITY, types that are poor keys.

Updates and deletes reach a store by the key alone. So each table needs columns that tell its rows apart, and an old
row (of an update, a delete) has to carry them: what the replica identity of the table, or of each partition, decides.
Reasons: docs/decisions/0009-keys.md.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tailrace.connector import KEYS
from tailrace.control.checks.finding import Finding, error, note, warning
from tailrace.source.catalogue import IDENTITIES, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailrace.project import Project
    from tailrace.source.catalogue import Catalogue, Column, Leaf, Table

# One key in Postgres, several texts here: two values that are equal there have to be told apart by nobody.
POOR = {
    **dict.fromkeys(("float4", "float8"), "0 equals -0 and a digit more or less is another key"),
    "timetz": "10:00+02 and 08:00+00 are two keys in Postgres, and the connector sends both as 08:00+00",
    "hstore": "the connector sends its pairs in no certain order",
}
WIDE = {
    "numeric": "1.0 and 1.00",
    "citext": "Ann and ANN",
    "interval": "1 month and 30 days",
    "jsonb": '{"a": 1} and {"a": 1.0}',
}


def check(project: Project, seen: Catalogue) -> Iterator[Finding]:
    """Say what of the keys would go wrong."""
    for name in project.connector.keys:
        if name not in project.connector.tables:
            yield error(
                f"connectors/{project.connector.name}.json: {KEYS} names {name}, which is not captured.",
                hint="Add it to table.include.list, or remove it there.",
            )
    for name in project.connector.tables:
        table = seen.tables.get(name)
        if table is None or table.root or any(leaf.foreign for leaf in table.leaves):
            continue  # checks.names and checks.tables say what comes first
        yield from of(project, table)


def of(project: Project, table: Table) -> Iterator[Finding]:
    """Say what of one table's key would go wrong."""
    if not table.key:
        yield _keyless(project, table)
        return
    outbox = table.name in project.outboxes
    if table.primary is not None:
        yield from _chosen(project, table, outbox=outbox)
    yield from _types(table)
    if not outbox:  # its rows become events when they are inserted, and are never asked for again
        yield from _identity(table)


def full(table: Table) -> str:
    """Return the SQL that gives a table, or each partition of it, REPLICA IDENTITY FULL."""
    names = [leaf.name for leaf in table.leaves if leaf.identity != "FULL"] or [table.name]
    return " ".join(_set(name, "FULL") for name in names)


def _set(name: str, identity: str) -> str:
    return f"ALTER TABLE {quote(name)} REPLICA IDENTITY {identity};"


def _keyless(project: Project, table: Table) -> Finding:
    first = table.columns[0].name if table.columns else "id"
    able = [index for index in table.uniques if index.immediate and index.whole and index.valid]
    solid = next((each for each in able if not _nullable(table, each.columns)), None)
    way = f"{table.name}:{','.join(solid.columns)}" if solid else f"{table.name}:COLUMN,COLUMN"
    return error(
        f"The table {table.name} has no primary key.",
        "Its rows cannot be told apart: updates and deletes would reach no store.",
        sql=f"ALTER TABLE {quote(table.name)} ADD PRIMARY KEY ({quote(first)}); -- or other columns",
        hint=f'Or name unique columns: "{KEYS}": "{way}" in connectors/{project.connector.name}.json (docs/keys.md).',
    )


def _nullable(table: Table, names: Sequence[str]) -> list[str]:
    known = table.by_name
    return [name for name in names if name not in known or known[name].nullable]


def _chosen(project: Project, table: Table, *, outbox: bool) -> Iterator[Finding]:
    """Judge what message.key.columns says of a table: as good as a primary key, but for an outbox (checks.outbox)."""
    place = f"connectors/{project.connector.name}.json: {KEYS}: {table.name}"
    unknown = [name for name in table.key if name not in table.by_name]
    if unknown:
        yield error(
            f"{place} has no column {', '.join(unknown)}.",
            hint=f"Columns: {', '.join(table.by_name)}. Upper and lower case count.",
        )
    elif outbox:
        return
    elif table.primary:
        yield error(
            f"{place} has a primary key, and the messages must be keyed by it.",
            f"It is {', '.join(table.primary)}: other columns may change under a row, or be the same in two.",
            hint=f"Take {table.name} out of {KEYS}.",
        )
    elif table.telling is None:
        yield _untold(place, table)


def _required(table: Table, names: Sequence[str]) -> str:
    return " ".join(f"ALTER TABLE {quote(table.name)} ALTER COLUMN {quote(name)} SET NOT NULL;" for name in names)


def _untold(place: str, table: Table) -> Finding:
    """Say why the columns do not tell rows apart, and what would make them."""
    found = [index for index in table.uniques if set(index.columns) == set(table.key)]
    missing = _nullable(table, table.key)
    why = [f"{', '.join(missing)} may be NULL"] if missing else []
    usable = [index for index in found if index.immediate and index.whole and index.valid]
    why += [f"the unique index {index.name} is deferrable" for index in found if not index.immediate]
    why += [f"the unique index {index.name} has a WHERE" for index in found if not index.whole]
    why += [f"the unique index {index.name} is not valid" for index in found if not index.valid]
    why += [] if found else [f"no unique index is over just {', '.join(table.key)}"]
    mend = [_required(table, missing)] if missing else []
    if not usable:
        columns = ", ".join(quote(name) for name in table.key)
        mend.append(f"CREATE UNIQUE INDEX ON {quote(table.name)} ({columns});")
    return error(
        f"{place}: {', '.join(table.key)} does not tell its rows apart.", f"{'; '.join(why)}.", sql=" ".join(mend)
    )


def _names_key(table: Table, identity: str, columns: Sequence[str]) -> bool:
    """Say whether an old row under a replica identity names the key."""
    if identity == "INDEX":
        return set(columns) == set(table.key)
    return identity == "FULL" or (identity == "DEFAULT" and table.primary is None and not _deferrable(table))


def _deferrable(table: Table) -> bool:
    return any(index.primary and not index.immediate for index in table.uniques)


def _identity(table: Table) -> Iterator[Finding]:
    if table.leaves:
        yield from _leaves(table)
        return
    if _names_key(table, table.identity, table.identity_columns):
        return
    shown = table.identity
    if shown == "INDEX":
        shown += f" ({', '.join(table.identity_columns) or 'which is gone'})"
    yield error(f"The table {table.name} has REPLICA IDENTITY {shown}.", _why(table, table.identity), sql=_mend(table))


def _why(table: Table, identity: str) -> str:
    if identity == "DEFAULT" and table.primary is None:
        return "Its primary key is deferrable, and then says nothing: Postgres refuses updates and deletes."
    if identity == "INDEX":
        return f"Its updates and deletes do not name the key {', '.join(table.key)}."
    return "Postgres refuses updates and deletes of a published table whose old rows say nothing."


def _mend(table: Table) -> str:
    telling = table.telling
    if table.primary is None:
        return _set(table.name, "FULL" if _deferrable(table) else "DEFAULT")
    if telling is None or table.partitioned:
        return full(table)
    return _set(table.name, f"USING INDEX {quote(telling.name)}")


def _leaves(table: Table) -> Iterator[Finding]:
    """Partitions: the root's own replica identity counts for nothing, each leaf has its own."""
    silent = [leaf for leaf in table.leaves if not _names_key(table, leaf.identity, leaf.identity_columns)]
    if silent:
        way = "DEFAULT" if table.primary is None and not _deferrable(table) else "FULL"
        yield error(
            f"{table.name}: the partitions {_shown(silent)} do not name the key in old rows.",
            f"{_why(table, silent[0].identity)} The root's REPLICA IDENTITY does not count.",
            sql=" ".join(_set(leaf.name, way) for leaf in silent),
        )
        return
    counts = Counter(leaf.identity for leaf in table.leaves)
    order = list(IDENTITIES)
    usual = max(counts, key=lambda identity: (counts[identity], [IDENTITIES[each] for each in order].index(identity)))
    other = [leaf for leaf in table.leaves if leaf.identity != usual]
    if other:
        way = "FULL" if usual == "INDEX" else usual
        yield warning(
            f"{table.name}: the partitions {_shown(other)} differ from the others in their REPLICA IDENTITY.",
            f"The others have {usual}. Every rule holds for the weakest of them.",
            sql=" ".join(_set(leaf.name, way) for leaf in other),
        )
    if usual != "DEFAULT":
        yield note(
            f"{table.name}: a new partition begins with REPLICA IDENTITY DEFAULT.",
            f"Those that are there have {usual}; nothing hands it on.",
            sql=f"ALTER TABLE THE_NEW_PARTITION REPLICA IDENTITY {'FULL' if usual == 'INDEX' else usual};",
        )


def _shown(leaves: Sequence[Leaf]) -> str:
    return ", ".join(f"{leaf.name} ({leaf.identity})" for leaf in leaves)


def _types(table: Table) -> Iterator[Finding]:
    """Key columns whose texts, which all ids are made of, are not one to one with what Postgres calls equal."""
    for name in table.key:
        column = table.by_name.get(name)
        if column is None:
            continue
        alter = f"ALTER TABLE {quote(table.name)} ALTER COLUMN {quote(name)} TYPE"
        if column.type in POOR:
            better = {"hstore": "text", "timetz": "time"}.get(column.type, "numeric(38,10)")
            yield error(
                f"{table.name}: {name} is {column.shown}, which cannot be a key.",
                f"{POOR[column.type]}.",
                sql=f"{alter} {better}; -- or another key",
            )
        elif _wide(column):
            better = "numeric(38,10)" if column.type == "numeric" else 'text COLLATE "C"'
            yield warning(
                f"{table.name}: the key {name} is {column.shown}: what Postgres calls equal may be two keys.",
                f"{WIDE.get(column.type, WIDE['citext'])} are one key there and two here. An UPDATE from one to the"
                " other arrives as a delete and an insert, and every store is right when both have arrived.",
                sql=f"{alter} {better};",
            )


def _wide(column: Column) -> bool:
    bounded = column.type == "numeric" and column.modifier >= 4
    return column.loose or (column.type in WIDE and not bounded)
