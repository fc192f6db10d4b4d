"""Tables with keys of every type, as plain values: what makes them, the keys of their rows, and keys that change.

Values are texts that Postgres itself reads. Every table has a column ``note`` beside its key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Statement = tuple[str, "Key"]

Key = tuple[str, ...]
LONG = "é" * 300  # 600 bytes: more than an id of OpenSearch takes


@dataclass(frozen=True)
class Keyed:
    """One table. ``moves`` are pairs of an old and a new key; ``after`` is SQL behind its columns and their rows."""

    columns: str
    key: tuple[str, ...]
    keys: tuple[Key, ...]
    moves: tuple[tuple[Key, Key], ...] = ()
    constraint: str = "PRIMARY KEY ({key})"
    after: tuple[str, ...] = field(default=())
    options: str = ""

    def create(self, name: str) -> Iterator[str]:
        """Yield what makes the table."""
        constraint = self.constraint.format(key=self._listed())
        yield f"CREATE TABLE {name} ({self.columns}, note int, {constraint}) {self.options}"
        yield from self.after

    def insert(self, name: str, keys: tuple[Key, ...]) -> Iterator[Statement]:
        """Yield what writes rows under some keys."""
        places = ", ".join(["%s"] * len(self.key))
        for key in keys:
            yield f"INSERT INTO {name} ({self._listed()}, note) VALUES ({places}, 1)", key

    def changes(self, name: str) -> Iterator[Statement]:
        """Yield updates, a delete and a row that comes back under its key, a delete for good, and changes of keys."""
        same = " AND ".join(f"{_quoted(column)} = %s" for column in self.key)
        yield f"UPDATE {name} SET note = 2", ()
        yield f"DELETE FROM {name} WHERE {same}", self.keys[0]
        yield from self.insert(name, self.keys[:1])
        yield f"DELETE FROM {name} WHERE {same}", self.keys[-1]
        settings = ", ".join(f"{_quoted(column)} = %s" for column in self.key)
        for old, new in self.moves:
            yield f"UPDATE {name} SET {settings} WHERE {same}", (*new, *old)

    def _listed(self) -> str:
        return ", ".join(map(_quoted, self.key))


def _quoted(column: str) -> str:
    return '"' + column + '"'


def single(type_: str, *keys: str, moves: dict[str, str] | None = None) -> Keyed:
    """Return a table whose key is one column of a type."""
    changed = tuple(((old,), (new,)) for old, new in (moves or {}).items())
    return Keyed(f"id {type_}", ("id",), tuple((key,) for key in keys), changed)


TABLES = {
    "bigs": single(  # an old row that holds the key only has an empty text for the mark, which is no uuid
        "bigint, mark uuid NOT NULL DEFAULT gen_random_uuid()",
        "9007199254740993", "9007199254740992", "-1", "3", moves={"-1": "9007199254740994"},
    ),
    "texts": single(
        "text", "a|b,c", "a,b|c", "100%", "%7C", "%25", 'say "so"', "o'clock\\", "Größe 漢 🐘", LONG, LONG + "e",
        "a / b", "a#b", "a%23b", " ", "", "sha256:0", "null", "line\nbreak", "Case", "case", "plain", "last",
        moves={"plain": "moved | 100%", LONG: LONG + "x"},
    ),
    "numbers": single("numeric", "1.0", "2", "0.00", "-12345678901234567890.5", "1e3", "7",
                      moves={"1.0": "1.00", "0.00": "0", "2": "3.5"}),
    "moments": single(
        "timestamptz", "2026-01-02 03:04:05+00", "2026-01-02 03:04:05.000006+00", "1999-12-31 23:59:59+02",
        "2026-01-02 03:04:05.5-08", moves={"1999-12-31 23:59:59+02": "1999-12-31 23:59:59.1+02"},
    ),
    "blobs": single("bytea", "\\x00", "\\x00ff", "\\xfffe7c25", "\\x2f2b3d", moves={"\\x00ff": "\\x00fe"}),
    "pairs": Keyed(
        'a text, "B" text', ("a", "B"),
        (("a|b", "c"), ("a", "b|c"), ("a%7Cb", "c"), ("a#b", "c"), ("a", "b#c"), ("", "x"), ("x", ""), ("X", ""),
         ("z", "z")),
        ((("a", "b|c"), ("a|b", "c|d")),),
    ),
    "stock": Keyed(
        "price numeric(12,2), day date, sold boolean, shelf char(3)", ("day", "price", "sold", "shelf"),
        (("2026-01-02", "1", "true", "a"), ("2026-01-02", "1", "false", "a"), ("9999-12-31", "-0.01", "true", "ab"),
         ("1969-12-31", "2.5", "true", "abc")),
        ((("2026-01-02", "1", "false", "a"), ("2026-01-02", "1.5", "true", "a")),),
    ),
    "visits": Keyed(
        "day date NOT NULL, visitor text NOT NULL", ("visitor", "day"),
        (("ann", "2026-01-02"), ("ann", "2026-01-03"), ("bob", "2026-01-02"), ("eve", "2026-01-02")),
        ((("bob", "2026-01-02"), ("bobby", "2026-01-02")),), "UNIQUE ({key})",
        ("ALTER TABLE visits REPLICA IDENTITY FULL",),
    ),
    "logins": Keyed(
        "token uuid NOT NULL", ("token",),
        (("0b4a35a7-17ad-35b3-af2a-ae46edb4545a",), ("1b4a35a7-17ad-35b3-af2a-ae46edb4545a",),
         ("2b4a35a7-17ad-35b3-af2a-ae46edb4545a",)),
        ((("1b4a35a7-17ad-35b3-af2a-ae46edb4545a",), ("3b4a35a7-17ad-35b3-af2a-ae46edb4545a",)),),
        "CONSTRAINT by_token UNIQUE ({key})", ("ALTER TABLE logins REPLICA IDENTITY USING INDEX by_token",),
    ),
    "rooms": Keyed(
        "id int, day date, room text NOT NULL DEFAULT 'hall'", ("id", "day"),
        (("1", "2026-01-02"), ("2", "2026-07-02"), ("3", "2026-01-05"), ("4", "2026-08-01")),
        ((("3", "2026-01-05"), ("3", "2026-08-05")),), options="PARTITION BY RANGE (day)",
        after=(
            "CREATE TABLE rooms_early PARTITION OF rooms FOR VALUES FROM ('2026-01-01') TO ('2026-07-01')",
            "CREATE TABLE rooms_late PARTITION OF rooms FOR VALUES FROM ('2026-07-01') TO ('2027-01-01')",
            "ALTER TABLE rooms_early REPLICA IDENTITY FULL", "ALTER TABLE rooms_late REPLICA IDENTITY FULL",
        ),
    ),
    "halves": single("int", "10", "11", "1", "2"),
}  # fmt: skip
LATE: dict[str, Key] = {  # keys of rows that come while the stores are compared
    "bigs": ("100",), "texts": ("late / 100%",), "numbers": ("4.50",), "moments": ("2027-01-01 00:00:00.1+00",),
    "blobs": ("\\x0102",), "pairs": ("late|", "#"), "stock": ("2027-01-01", "4.10", "false", "l"),
    "visits": ("late", "2027-01-01"),
}  # fmt: skip
CHOSEN = "public.visits:visitor,day;public.logins:token"  # message.key.columns
OTHER_KEYS = {"rooms": "ROOM#{room}#{id}#{day}"}  # keys of DynamoDB that are not made of the table's key alone


def sinks(pipeline: str) -> dict[str, str]:
    """Return the texts of sinks/*.py: every table in every store."""
    items, objects, documents = [], [], []
    for name, table in TABLES.items():
        pk = OTHER_KEYS.get(name, "#".join([name.upper(), *(f"{{{column}}}" for column in table.key)]))
        items.append(f"{name} = DynamoDBTable({pipeline!r}, record={name!r}, pk={pk!r}, sk='-')")
        objects.append(f"{name} = LakeTable({name!r}, record={name!r})")
        documents.append(f"{name} = SearchIndex({f'{pipeline}-{name}'!r}, record={name!r})")
    made = {"dynamodb": ("DynamoDBTable", items), "lake": ("LakeTable", objects), "search": ("SearchIndex", documents)}
    return {sink: "\n".join([f"from tailrace import {kind}", *lines, ""]) for sink, (kind, lines) in made.items()}
