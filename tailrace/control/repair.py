"""``tailrace verify --repair``: exactly the keys that differ go through the normal path once more.

Nothing is written to a store. Rows that a store lacks or has otherwise are sent again by Debezium: an incremental
snapshot of just their keys, which it merges with the stream, so that the record lies in the raw topic where the row was
read and every later change lies behind it. What a store has and the source has not gets a delete with a marker's place
as version (``control.vanished``); where the row lives, but not there, an update from there. All of it wins over what is
older and loses against what is newer, so live changes are safe, and a repair that is interrupted or run twice does no
harm (docs/decisions/0017).

It repairs what a report says and proves nothing: whoever calls it verifies again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from tailrace.control.snapshots import Snapshot
from tailrace.control.strays import row_before
from tailrace.control.vanished import Sweep
from tailrace.control.verify.source import key_text
from tailrace.errors import Rejected
from tailrace.source import signals
from tailrace.targets import DynamoDBTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from psycopg2.extensions import connection as Connection  # noqa: N812 - the driver's class is lower case

    from tailrace.contract import Contract
    from tailrace.control.records import Were
    from tailrace.control.services import Services
    from tailrace.control.sweep import Swept
    from tailrace.control.verify.report import Report
    from tailrace.control.verify.source import Key
    from tailrace.deadline import Deadline
    from tailrace.project import Project
    from tailrace.source.catalogue import Table

PORTIONS = 40  # snapshots of a few keys each; for more keys the whole table is read again
AGAIN = ("missing", "stale", "different")
GONE = ("extra", "resurrected")


@dataclass(frozen=True, slots=True)
class Work:
    """What has to be done about one table: rows to be sent again, and rows that stores should not have."""

    table: str
    again: tuple[Key, ...]
    gone: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was done about one table; ``whole`` says that all of its rows were sent again.

    ``moved`` is how many places rows that live were told to have left.
    """

    table: str
    again: int
    deleted: int
    whole: bool
    moved: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return asdict(self)


def work(report: Report) -> tuple[list[Work], int]:
    """Return what a report asks for, table by table, and how many differences no repair can take back.

    Those are rows that their contract rejects, rows that never stood still, and things that say no row.
    """
    again: dict[str, dict[Key, None]] = {}
    gone: dict[str, dict[Key, None]] = {}
    left = 0
    for check in report.checks:
        for entry in check.differences:
            if entry.row is None or entry.kind not in (*AGAIN, *GONE):
                left += 1
            else:
                (again if entry.kind in AGAIN else gone).setdefault(check.table, {})[entry.row] = None
    tables = dict.fromkeys([*again, *gone])
    return [Work(table, tuple(again.get(table, ())), tuple(gone.get(table, ()))) for table in tables], left


def repair(services: Services, report: Report, deadline: Deadline, say: Callable[[str], None]) -> list[Repaired]:
    """Do what a report asks for; return when Debezium has sent the rows and Kafka has the deletes."""
    wanted, _ = work(report)
    tables = services.catalogue().tables
    sent = {each.table: _send(services, tables[each.table], each.again, deadline, say) for each in wanted}
    swept = _sweep(services, [each for each in wanted if each.gone], strays(services.project, report), deadline, say)
    found = {services.project.table_of(each.record): each for each in swept}
    return [Repaired(each.table, sent[each.table][0], found[each.table].deleted if each.gone else 0,
                     sent[each.table][1], found[each.table].moved if each.gone else 0)
            for each in wanted]  # fmt: skip


def strays(project: Project, report: Report) -> dict[str, Were]:
    """Return by record what says where its rows were, as far as DynamoDB has items that should not be there."""
    places: dict[str, dict[Key, list[tuple[DynamoDBTable, str]]]] = {}
    for check in report.checks:
        targets = [target for target in project.sink(check.sink) if isinstance(target, DynamoDBTable)]
        for target in targets:
            for entry in check.differences if check.table == project.table_of(target.record) else ():
                if entry.kind in GONE and entry.row is not None:
                    places.setdefault(target.record, {}).setdefault(entry.row, []).append((target, entry.key))
    return {record: partial(_were, of_record) for record, of_record in places.items()}


def _were(
    places: Mapping[Key, Sequence[tuple[DynamoDBTable, str]]], contract: Contract, row: Mapping[str, Any]
) -> list[dict[str, Any]]:
    key = tuple(key_text(row[name]) for name in contract.key)
    found = (row_before(target, contract, identity, row) for target, identity in places.get(key, ()))
    return [before for before in found if before is not None]


def _send(
    services: Services, table: Table, keys: Sequence[Key], deadline: Deadline, say: Callable[[str], None]
) -> tuple[int, bool]:
    """Have some rows sent again; return how many keys that was for, and whether it was the whole table."""
    if not keys:
        return 0, False
    key = services.project.contract(services.project.record_of(table.name)).key
    space = room(table.name)
    parts = list(portions([condition(services.database, table, key, each) for each in keys], space))
    whole = len(parts) > PORTIONS or any(_escaped(part) > space for part in parts)
    parts = [""] if whole else parts
    for number, text in enumerate(parts, 1):
        say(f"{table.name}: sending {'all rows' if whole else f'{len(keys):,} rows'} again, {number}/{len(parts)}")
        _read(services, table.name, text, deadline)
    return len(keys), whole


def _read(services: Services, table: str, text: str, deadline: Deadline) -> None:
    """Take one incremental snapshot of our own; one that is running already is waited for first."""
    while True:
        asked = Snapshot(services, [table], {table: text} if text else signals.EVERY_ROW)
        fresh = asked.begin()
        asked.wait(lambda _: None, timeout=deadline.remaining())
        if fresh:
            return


def condition(connection: Connection, table: Table, key: Sequence[str], row: Key) -> str:
    """Return the SQL that is true for the row with this key, which is given as text."""
    kinds = [table.by_name[name].shown for name in key]  # format_type() of the server itself
    parts = [
        sql.SQL("{} = {}::{}").format(sql.Identifier(name), sql.Literal(part), sql.SQL(kind))
        for name, part, kind in zip(key, row, kinds, strict=True)
    ]
    return sql.SQL("({})").format(sql.SQL(" AND ").join(parts)).as_string(connection)


def room(table: str) -> int:
    """Return how many characters a filter may have in a signal for a table."""
    return signals.LONGEST - len(json.dumps(signals.request([table], {table: ""}), ensure_ascii=False))


def portions(conditions: Iterable[str], room: int) -> Iterator[str]:
    """Join conditions to filters of so many characters; one that is too long alone makes a filter of its own."""
    some: list[str] = []
    size = 0
    for text in conditions:
        taken = _escaped(text) + len(" OR ")
        if some and size + taken > room:
            yield " OR ".join(some)
            some, size = [], 0
        some.append(text)
        size += taken
    if some:
        yield " OR ".join(some)


def _escaped(text: str) -> int:
    """Return how long a text is inside JSON."""
    return len(json.dumps(text, ensure_ascii=False))


def _sweep(
    services: Services,
    wanted: Sequence[Work],
    were: Mapping[str, Were],
    deadline: Deadline,
    say: Callable[[str], None],
) -> tuple[Swept, ...]:
    """Delete what the source does not have, and tell what it has to have left where it is not."""
    if not wanted:
        return ()
    project = services.project
    only = {project.record_of(each.table): _among(project.contract(project.record_of(each.table)), each.gone)
            for each in wanted}  # fmt: skip
    return Sweep(services, [each.table for each in wanted], deadline, say).run({}, only, were)


def _among(contract: Contract, rows: Iterable[Key]) -> Callable[[bytes], bool]:
    """Return what says of a record's key whether it is one of these rows'."""
    listed = set(rows)

    def wanted(key: bytes) -> bool:
        try:
            parts: Mapping[str, Any] = contract.decode_key(key)
        except Rejected:
            return False
        return tuple(key_text(parts[name]) for name in contract.key) in listed

    return wanted
