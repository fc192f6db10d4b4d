"""A table that leaves out unchanged long values ends as one that sends them all, wherever processes die on the way."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.change import VERSION
from tests.cluster import CONTRACT, OUT, PARKED, STAND_IN, Cluster, Crash, Record, Worker
from tests.raw import message, payload, reading

LONG = 2_500  # letters from which Postgres would keep a text out of its row
TEXTS = st.sampled_from(["short", "__debezium_unavailable_value", "a" * LONG, "b" * LONG, "c" * 3 * LONG])
KEYS = st.integers(1, 2)
CHANGES = st.one_of(
    st.tuples(st.just("write"), KEYS, TEXTS), st.tuples(st.just("touch"), KEYS, st.integers(0, 99)),
    st.tuples(st.just("touch"), KEYS, st.integers(0, 99)), st.tuples(st.just("delete"), KEYS, st.none()),
    st.tuples(st.just("snapshot"), KEYS, st.none()),
)  # fmt: skip


class Source:
    """A table: what each change makes of it, as messages with every value and as Postgres sends them."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.whole: list[Record] = []
        self.lean: list[Record] = []

    def change(self, kind: str, number: int, value: Any) -> None:
        row = self.rows.get(number)
        if kind == "delete" and row is not None:
            del self.rows[number]
            self._send("d", number, None)
            self._tombstone(number)
        elif kind == "snapshot" and row is not None:
            self._send("r", number, row)
        elif kind == "write":
            self.rows[number] = {**(row or reading(number)), "note": value}
            self._send("u" if row else "c", number, self.rows[number], unchanged=bool(row) and row["note"] == value)  # type: ignore[index]  # there is a row
        elif kind == "touch" and row is not None:
            self.rows[number] = {**row, "value": f"{value}.5000", "sensor": f"s{value}"}
            self._send("u", number, self.rows[number], unchanged=True)

    def _send(self, op: str, number: int, row: dict[str, Any] | None, *, unchanged: bool = False) -> None:
        left_out = {"note": STAND_IN} if row and unchanged and len(row["note"]) >= LONG else {}
        for log, after in ((self.whole, row), (self.lean, row and {**row, **left_out})):
            before = {**dict.fromkeys(reading(number)), "id": number} if op == "d" else None
            log.append(Record(len(log), b'{"id":%d}' % number, message(payload(op, before=before, after=after))))

    def _tombstone(self, number: int) -> None:
        for log in (self.whole, self.lean):
            log.append(Record(len(log), b'{"id":%d}' % number, None))


def newest(cluster: Cluster) -> dict[bytes | None, Any]:
    """Return what a sink ends with: of each key the output with the newest version."""
    found: dict[bytes | None, tuple[int, Any]] = {}
    every: dict[int, Any] = {}
    for output in cluster.topics[OUT]:
        at = int(output.headers[VERSION] or 0)
        value = None if output.value is None else CONTRACT.decode(output.value)
        assert every.setdefault(at, value) == value, "one version, two values"
        if output.key not in found or found[output.key][0] <= at:
            found[output.key] = at, value
    return {key: value for key, (_, value) in found.items()}


def settle(cluster: Cluster, records: list[Record], size: int, crashes: list[int]) -> None:
    """Process everything; after each crash a new process goes on."""
    left = list(crashes)
    while True:
        cluster.until_crash = left.pop(0) if left else -1
        try:
            Worker(cluster).work(records, size)
        except Crash:
            continue
        cluster.until_crash = -1
        if not left:
            return


@settings(max_examples=200, deadline=None)
@given(
    st.lists(CHANGES, min_size=1, max_size=14), st.integers(1, 7), st.lists(st.integers(1, 60), max_size=6),
    st.tuples(st.booleans(), st.integers(0, 12), st.lists(st.integers(1, 40), max_size=2)),
)  # fmt: skip
def test_crashes_at_any_step_and_replays_end_as_if_every_value_had_been_sent(
    changes: list[Any], size: int, crashes: list[int], replay: tuple[bool, int, list[int]]
) -> None:
    compacted, back, more = replay
    source, whole, lean = Source(), Cluster(), Cluster()
    for change in changes:
        source.change(*change)
    settle(whole, source.whole, size, [])
    settle(lean, source.lean, size, crashes)
    assert newest(lean) == newest(whole)
    if compacted:
        lean.compact()
    lean.committed = min(back, len(source.lean))  # a replay
    settle(lean, source.lean, size, more)
    assert newest(lean) == newest(whole)
    assert not lean.topics[PARKED]
    rows = {value["id"]: value for value in newest(lean).values() if value is not None}
    assert {number: row["note"] for number, row in rows.items()} == {
        number: row["note"] for number, row in source.rows.items()
    }
    assert all(rows[number]["value"] == Decimal(row["value"]) for number, row in source.rows.items())
