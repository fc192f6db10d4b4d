"""Settling: a store that is wrong is reported, a row that was only moving is not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import contract
from tailrace.control.barrier import Crossed
from tailrace.control.verify.compare import Doubt
from tailrace.control.verify.history import Messages, Told, Window
from tailrace.control.verify.settle import Settling, settle
from tailrace.control.verify.source import Version
from tailrace.control.verify.store import Pair, Seen
from tailrace.source.unchanged import Placeholder
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
RAW = ("shop.raw.public.things", 0)
PAIR = Pair("public.things", "memory", THING, LakeTable("things", record="thing"))


@dataclass
class Memory:
    """Rows and what a store holds, as plain dicts; both sides of a verify."""

    rows: dict[str, Version] = field(default_factory=dict)
    things: dict[str, dict[str, Any]] = field(default_factory=dict)
    gone_by_itself: bool = False
    store_version: int = 7
    window_: Window = field(default_factory=lambda: Window(Messages(THING, Placeholder())))
    past: dict[int, Told] = field(default_factory=dict)
    deletes: set[str] = field(default_factory=set)
    spoil: tuple[bytes | None, bytes] | None = None

    def versions(self, _table: str, _key: Sequence[str], wanted: Sequence[tuple[str, ...]]) -> dict[Any, Version]:
        return {key: self.rows[key[0]] for key in wanted if key[0] in self.rows}

    def expected(self, _pair: Pair, record: Any) -> tuple[str, dict[str, Any]]:
        return str(record["id"]), dict(record)

    def fetch(self, pair: Pair, identities: Sequence[str]) -> dict[str, Seen]:
        return {
            name: Seen(name, dict(self.things[name]), (name,), pair, self.store_version)
            for name in identities
            if name in self.things
        }

    def catch_up(self) -> None:
        """Be as new as anything: it is the source itself."""

    def mark(self) -> None:
        self.window_ = Window(Messages(THING, Placeholder()))
        if self.spoil:
            self.window_.add(RAW, 0, *self.spoil)

    def window(self, _table: str) -> Window:
        return self.window_

    def was(self, _table: str, _key: object, number: int) -> Told | None:
        return self.past.get(number)

    def deleted(self, _table: str, rows: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
        return {row for row in rows if row[0] in self.deletes}

    def sent(self, offset: int, number: int, a: int | None) -> None:
        """Note what Kafka got: a row as it is from then on, or its delete."""
        self.window_.add(RAW, offset, b'{"id":%d}' % number, None if a is None else event(number, a))

    def may_be_gone(self, _fields: Any) -> bool:
        return self.gone_by_itself

    def row(self, number: int, a: object, xmin: int = 1) -> None:
        self.rows[str(number)] = Version(str(xmin), {"id": number, "a": a})

    def settle(self, *keys: str, wait: Callable[[], object] = lambda: None, rounds: int = 3) -> Settling:
        doubts = [Doubt(key, (key,)) for key in keys]
        memory: Any = self  # plays all sides
        work = Settling(memory, memory, PAIR, None, doubts, history=memory)
        settle([work], wait=wait, rounds=rounds, values=False, say=lambda _: None, history=memory)
        return work


def event(number: int, a: int, op: str = "u") -> bytes:
    origin = {"ts_ms": 1, "lsn": 1, "txId": 1}
    return json.dumps({"op": op, "before": None, "after": {"id": number, "a": a}, "source": origin}).encode()


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


def hot(memory: Memory, shown: int, *, bound: int = 2, states: Sequence[int | None] = (10, 11, 12)) -> Settling:
    """Settle a row that changes with every wait; its raw topic says ``states``, the store holds ``shown``."""
    turn = []

    def wait() -> Crossed:
        turn.append(1)
        memory.row(1, 100 + len(turn), xmin=1 + len(turn))
        for offset, a in enumerate(states):
            memory.sent(offset, 1, a)
        return Crossed(1, {RAW: bound}, {})

    memory.row(1, 9)
    memory.things = {} if shown < 0 else {"1": {"id": 1, "a": shown}}
    return memory.settle("1", wait=wait)


@pytest.mark.parametrize("shown", [11, 12])
def test_a_row_that_never_stands_still_is_equal_where_the_store_has_a_state_as_new_as_the_mark(shown: int) -> None:
    work = hot(Memory(), shown)

    assert (work.settled_equal, work.moving, work.differences) == (1, 1, [])


@pytest.mark.parametrize("shown", [9, 10, 101, 7, -1])
def test_a_moving_row_is_not_equal_to_a_state_before_the_mark_or_to_none_that_it_had(shown: int) -> None:
    work = hot(Memory(), shown)

    assert [(entry.kind, entry.key) for entry in work.differences] == [("unsettled", "1")]
    assert (work.settled_equal, work.moving) == (0, 0)


def test_a_row_that_had_no_change_before_the_mark_may_still_be_what_the_source_had() -> None:
    assert hot(Memory(), 101, bound=0).moving == 1  # as it was read before the second wait
    assert hot(Memory(), 101, bound=1).moving == 0


def test_a_row_that_is_deleted_and_comes_back_all_the_time_may_be_absent() -> None:
    work = hot(Memory(), -1, states=(10, None, 12))

    assert (work.settled_equal, work.differences) == (0, [])


def test_a_truncate_or_a_message_that_cannot_be_read_leaves_a_moving_row_unsettled() -> None:
    spoils: list[tuple[bytes | None, bytes]] = [(None, event(1, 1, "t")), (b'{"id":1}', b"nonsense")]
    for spoil in spoils:
        assert [entry.kind for entry in hot(Memory(spoil=spoil), 12).differences] == ["unsettled"]


def test_a_value_that_was_not_sent_is_that_of_the_state_before_or_makes_the_state_unknown() -> None:
    told = iter([Told(("1",), {"id": 1, "a": None}, ("a",)), Told(("1",), {"id": 1, "a": 5}),
                 Told(("1",), {"id": 1, "a": None}, ("a",))])  # fmt: skip

    class Scripted(Messages):
        def read(self, _key: bytes, _value: bytes | None) -> Told:
            return next(told)

    window = Window(Scripted(THING, Placeholder()))
    for offset in range(3):
        window.add(RAW, offset, b"k", b"v")

    assert window.candidates(("1",), {RAW: 1}, None) == [{"id": 1, "a": 5}, {"id": 1, "a": 5}]
    assert window.candidates(("2",), {RAW: 1}, None) == [None]


def test_a_store_that_has_what_the_row_was_at_the_version_it_names_is_stale_and_any_other_is_different() -> None:
    memory = Memory(past={7: Told(("1",), {"id": 1, "a": 4})})
    memory.row(1, 5)
    kinds = []
    for shown in (4, 3):
        memory.things = {"1": {"id": 1, "a": shown}}
        kinds.append([(entry.kind, entry.fields) for entry in memory.settle("1").differences])

    assert kinds == [[("stale", ("a",))], [("different", ("a",))]]


def test_what_is_there_though_its_newest_record_is_a_delete_is_resurrected_and_anything_else_extra() -> None:
    memory = Memory(deletes={"1"}, things={"1": {"id": 1, "a": 1}, "2": {"id": 2, "a": 1}})

    assert [(entry.kind, entry.key) for entry in memory.settle("1", "2").differences] == [
        ("resurrected", "1"),
        ("extra", "2"),
    ]
