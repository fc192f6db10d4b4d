"""Settling: a store that is wrong is reported, a row that was only moving is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tailrace import contract
from tailrace.control.verify.compare import Doubt
from tailrace.control.verify.settle import Settling, settle
from tailrace.control.verify.source import Version
from tailrace.control.verify.store import Pair
from tailrace.targets import LakeTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

THING = contract.build(
    "thing",
    {
        "type": "record",
        "name": "thing",
        "key": ["id"],
        "fields": [{"name": "id", "type": "long"}, {"name": "a", "type": "long"}],
    },
    where="test",
)
PAIR = Pair("public.things", "memory", THING, LakeTable("things", record="thing"))


@dataclass
class Memory:
    """Rows and what a store holds, as plain dicts; both sides of a verify."""

    rows: dict[str, Version] = field(default_factory=dict)
    things: dict[str, dict[str, Any]] = field(default_factory=dict)
    gone_by_itself: bool = False

    def versions(self, _table: str, _key: Sequence[str], wanted: Sequence[tuple[str, ...]]) -> dict[Any, Version]:
        return {key: self.rows[key[0]] for key in wanted if key[0] in self.rows}

    def expected(self, _pair: Pair, record: Any) -> tuple[str, dict[str, Any]]:
        return str(record["id"]), dict(record)

    def fetch(self, _pair: Pair, identities: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {name: dict(self.things[name]) for name in identities if name in self.things}

    def may_be_gone(self, _fields: Any) -> bool:
        return self.gone_by_itself

    def row(self, number: int, a: object, xmin: int = 1) -> None:
        self.rows[str(number)] = Version(str(xmin), {"id": number, "a": a})

    def settle(self, *keys: str, wait: Callable[[], object] = lambda: None, rounds: int = 3) -> Settling:
        doubts = [Doubt(key, (key,)) for key in keys]
        work = Settling(self, self, PAIR, None, doubts)  # type: ignore[arg-type]  # a memory that plays both sides
        settle([work], wait=wait, rounds=rounds, values=False, say=lambda _: None)
        return work


def test_rows_that_stand_still_are_judged_at_once() -> None:
    memory = Memory()
    memory.row(1, 1)
    memory.row(2, 2)
    memory.row(3, 3)
    memory.things = {"1": {"id": 1, "a": 1}, "2": {"id": 2, "a": 9}, "4": {"id": 4, "a": 4}}

    work = memory.settle("1", "2", "3", "4")

    assert work.settled_equal == 1
    assert {(entry.kind, entry.key, entry.fields) for entry in work.differences} == {
        ("different", "2", ("a",)),
        ("missing", "3", ()),
        ("extra", "4", ()),
    }


def test_a_row_that_moves_once_is_looked_at_again_and_is_equal() -> None:
    memory, waits = Memory(), []
    memory.row(1, 1)

    def wait() -> None:
        waits.append(1)
        memory.row(1, 2, xmin=2)
        memory.things["1"] = {"id": 1, "a": 2 if len(waits) > 1 else 1}

    work = memory.settle("1", wait=wait)

    assert (len(waits), work.settled_equal, work.differences) == (2, 1, [])


def test_a_row_that_changes_there_and_back_is_seen_by_its_xmin() -> None:
    memory, waits = Memory(), []
    memory.row(1, 1)

    def wait() -> None:
        waits.append(1)
        memory.row(1, 1, xmin=2)
        memory.things["1"] = {"id": 1, "a": 1 if len(waits) > 1 else 7}

    work = memory.settle("1", wait=wait)

    assert (work.settled_equal, work.differences) == (1, [])


def test_a_row_that_never_stands_still_is_unsettled_after_the_last_round() -> None:
    memory, waits = Memory(), []
    memory.row(1, 1)

    def wait() -> None:
        waits.append(1)
        memory.row(1, 1, xmin=1 + len(waits))

    work = memory.settle("1", wait=wait, rounds=4)

    assert len(waits) == 4
    assert [(entry.kind, entry.key) for entry in work.differences] == [("unsettled", "1")]


def test_a_row_that_cannot_be_a_record_is_rejected_with_the_field() -> None:
    memory = Memory()
    memory.row(1, "no number")

    work = memory.settle("1")

    assert [(entry.kind, entry.reason.split()[0]) for entry in work.differences] == [("rejected", "a")]


def test_what_the_store_was_told_to_remove_is_not_missing() -> None:
    memory = Memory(gone_by_itself=True)
    memory.row(1, 1)

    assert memory.settle("1").differences == []
