"""What a drill counts: over the lives of workers that were killed, and in topics where something came twice."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from tailrace.change import VERSION
from tailrace.drill.counters import Tally, counted
from tailrace.drill.duplicates import conformed_identity, raw_identity, repeated
from tailrace.health import Health


class Message:
    """What the counting asks a Kafka message for."""

    def __init__(self, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]] | None = None) -> None:
        self._key, self._value, self._headers = key, value, headers

    def topic(self) -> str:
        return "bank.raw.public.customers"

    def partition(self) -> int:
        return 0

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self._headers


def envelope(lsn: int | None = 7, op: str = "u", **after: Any) -> bytes:
    source = {"db": "bank", "lsn": lsn, "txId": 12}
    payload = {"before": None, "after": after, "source": source, "transaction": None, "op": op, "ts_ms": 1}
    return json.dumps({"schema": {"fields": [{"field": "lsn"}]}, "payload": payload}, separators=(",", ":")).encode()


def test_counts_of_a_killed_worker_stay_in_the_sum_of_its_lives() -> None:
    tally = Tally()
    tally.note(("lake", 1), {"records": 10, "stale": 1})
    tally.note(("lake", 1), {"records": 25, "stale": 1})
    tally.note(("lake", 2), {"records": 5, "retries": 2})
    tally.note(("search", 3), {"records": 7})
    assert tally.sums() == {
        "lake": {"lives": 2, "records": 30, "stale": 1, "retries": 2, "dead letters": 0},
        "search": {"lives": 1, "records": 7, "stale": 0, "retries": 0, "dead letters": 0},
    }


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 100))))
def test_a_sum_is_that_of_the_largest_count_of_each_life(samples: list[tuple[int, int]]) -> None:
    tally = Tally()
    for pid, count in samples:
        tally.note(("lake", pid), {"records": count})
    largest = {pid: max(count for each, count in samples if each == pid) for pid, _ in samples}
    assert sum(counts["records"] for counts in tally.sums().values()) == sum(largest.values())


def test_the_counters_of_a_workers_metrics_are_added_up_over_its_topics() -> None:
    health = Health("lake")
    health.records.labels("lake", "one").inc(3)
    health.records.labels("lake", "two").inc(4)
    health.stale.labels("lake", "one").inc(2)
    health.retries.labels("lake").inc()
    assert counted(generate_latest(health.registry).decode()) == {"records": 7, "stale": 2, "retries": 1}


def test_a_change_that_debezium_sends_again_is_known_again_and_other_changes_are_not() -> None:
    one = Message(b"1", envelope(name="Ada"))
    again = Message(b"1", envelope(name="Ada"))
    others = [Message(b"2", envelope()), Message(b"1", envelope(lsn=8)), Message(b"1", envelope(op="d"))]
    assert repeated(map(raw_identity, [one, again, *others])) == (5, 1)


def test_a_value_that_looks_like_a_source_block_is_not_taken_for_one() -> None:
    odd = '"source":{"lsn":1,"txId":1},"op":"c"'
    one, other = (Message(b"1", envelope(lsn, note=odd, txId=3)) for lsn in (7, 8))
    assert raw_identity(one) != raw_identity(other)
    assert repeated(map(raw_identity, [one, other])) == (2, 0)


def test_snapshots_and_tombstones_are_no_duplicates_of_anything() -> None:
    nothing = [Message(b"1", None), Message(b"1", b""), Message(b"1", envelope(lsn=None, op="r"))]
    assert repeated(map(raw_identity, nothing * 2)) == (0, 0)


def test_a_record_that_was_conformed_again_has_the_version_it_had() -> None:
    one, other = (Message(b"1", b"", [(VERSION, version)]) for version in (b"5", b"6"))
    assert repeated(map(conformed_identity, [one, other, one])) == (3, 1)
    assert conformed_identity(Message(b"1", b"")) is None
