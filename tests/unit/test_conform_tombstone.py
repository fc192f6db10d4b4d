"""A tombstone says nothing new behind its own delete, also where a batch ended between the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailrace import contract
from tailrace.stream.conform import Conformer, TablePlan
from tests.raw import READING_SCHEMA, message, payload, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAN = TablePlan("raw", "out", contract.build("reading", READING_SCHEMA, where="reading"), 7)


@dataclass
class Record:
    """A consumed message of one key."""

    offset: int
    value: bytes | None
    key: bytes | None = b'{"id":1}'
    timestamp: int = 1_767_322_800_123
    headers: Sequence[tuple[str, bytes]] = ()


def operations(*batches: list[Record]) -> list[bytes | None]:
    conformer = Conformer([PLAN], epoch=1, worker="conform")
    made = [conformer.batch("raw", 0, batch) for batch in batches]
    assert not any(result.letters for result in made)
    return [dict(output.headers)["tailrace.op"] for result in made for output in result.outputs]


CREATED = Record(0, message(payload("c", after=reading(1))))
DELETED = Record(1, message(payload("d", before=reading(1))))
TOMBSTONE = Record(2, None)


def test_a_delete_and_its_tombstone_in_one_batch_are_one_delete() -> None:
    assert operations([CREATED, DELETED, TOMBSTONE]) == [b"c", b"d"]


def test_a_delete_and_its_tombstone_in_two_batches_are_one_delete() -> None:
    assert operations([CREATED, DELETED], [TOMBSTONE, CREATED]) == [b"c", b"d", b"c"]


def test_a_tombstone_behind_anything_else_is_a_delete() -> None:
    assert operations([CREATED, TOMBSTONE]) == [b"c", b"d"]
