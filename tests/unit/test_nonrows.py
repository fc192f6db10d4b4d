"""What is no row never becomes a record: in a table's raw topic it is parked, with its bytes, and the rows go on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import contract
from tailrace.stream.conform import Conformer, TablePlan
from tests.raw import READING_SCHEMA, message, payload, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAN = TablePlan("raw", "out", contract.build("reading", READING_SCHEMA, where="reading"), 7)


@dataclass
class Record:
    """A consumed message."""

    offset: int
    value: bytes | None
    key: bytes | None = b'{"id":1}'
    timestamp: int = 1_767_322_800_123
    headers: Sequence[tuple[str, bytes]] = ()


def bare(body: dict[str, Any]) -> bytes:
    return json.dumps({"schema": {"type": "struct", "fields": []}, "payload": body}).encode()


SOURCE = payload("c")["source"]
NO_ROWS = {
    "logical message": bare({"op": "m", "source": SOURCE, "message": {"prefix": "p", "content": "aGVsbG8="}}),
    "logical message with a table's schema": message(payload("m")),
    "operation that nobody knows": message(payload("x", after=reading(1))),
    "no operation": message(payload("", after=reading(1))),
    "transaction begins": bare({"status": "BEGIN", "id": "757:35865984", "event_count": None, "ts_ms": 1}),
    "transaction ends": bare({"status": "END", "id": "757:35866304", "event_count": 3, "data_collections": []}),
    "heartbeat": bare({"ts_ms": 1_767_322_800_123}),
    "notification": bare({"id": "a", "aggregate_type": "Initial Snapshot", "type": "STARTED", "additional_data": {}}),
    "signal": bare({"id": "a", "type": "execute-snapshot", "data": "{}"}),
    "change of the schema": bare({"source": SOURCE, "databaseName": "bank", "ddl": "ALTER TABLE", "tableChanges": []}),
    "nothing": bare({}),
    "text": b"hello",
}


@pytest.mark.parametrize("what", NO_ROWS)
def test_what_is_no_row_is_parked_with_its_bytes_and_the_rows_around_it_go_on(what: str) -> None:
    row = message(payload("c", after=reading(1)))
    records = [Record(0, row), Record(1, NO_ROWS[what], key=None), Record(2, row)]
    made = Conformer([PLAN], epoch=1, worker="conform").batch("raw", 0, records)
    assert [dict(output.headers)["tailrace.origin"] for output in made.outputs] == [b"raw/0/0", b"raw/0/2"]
    (letter,) = made.letters
    assert letter.value == NO_ROWS[what]
