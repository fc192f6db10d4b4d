"""The place in the raw log is the only order: LSNs, times, transactions and snapshots may say whatever they like."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import version
from tailrace.change import OP, VERSION, Change
from tailrace.epoch import Ages
from tailrace.stream.conform import Conformer, TablePlan
from tailrace.testing import MemorySink
from tests.cluster import CONTRACT, RAW, Record
from tests.raw import message, payload, reading

LSNS = st.none() | st.integers(0, 2**63 - 1)
TIMES = st.integers(0, 2**52)
SEQUENCES = st.sampled_from([None, '[null,"26384712"]', '["82593648","82591784"]', '["9","9"]', "[]"])
SOURCE = st.fixed_dictionaries({
    "lsn": LSNS, "ts_us": TIMES, "ts_ms": TIMES, "sequence": SEQUENCES, "txId": LSNS,
    "snapshot": st.sampled_from(["false", "true", "incremental", "last"]),
})  # fmt: skip
CHANGES = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from("crud"), st.integers(1, 5), SOURCE), min_size=1, max_size=12
)


def log(changes: list[tuple[int, str, int, dict[str, Any]]]) -> list[Record]:
    """Return the raw records of some changes; offsets have gaps, as compaction and transactions leave them."""
    records, offset = [], 0
    for number, op, gap, source in changes:
        offset += gap
        after = None if op == "d" else reading(number, note=f"at {offset}")
        before = {**dict.fromkeys(reading(number)), "id": number} if op == "d" else None
        raw = message(payload(op, before=before, after=after, **source))
        records.append(Record(offset, b'{"id":%d}' % number, raw))
    return records


def conformed(records: list[Record], conformer: Conformer) -> list[Change]:
    """Return the changes that a sink gets."""
    made = conformer.batch(RAW, 0, records)
    assert made.letters == []
    found = []
    for place, output in enumerate(made.outputs):
        headers = dict(output.headers)
        found.append(
            Change(
                record="reading",
                key=CONTRACT.decode_key(output.key or b""),
                value=None if output.value is None else CONTRACT.decode(output.value),
                before=None,
                version=int(headers[VERSION] or b""),
                op=(headers[OP] or b"").decode(),
                lsn=None,
                committed_us=0,
                tx="",
                origin="",
                topic="out",
                partition=0,
                offset=place,
                raw_key=output.key or b"",
                raw_value=output.value,
            )
        )
    return found


def conformer(*, epochs: Ages | None = None) -> Conformer:
    return Conformer([TablePlan(RAW, "out", CONTRACT, 7)], epoch=1, worker="conform", ages={RAW: epochs or Ages()})


def shown(sink: MemorySink) -> dict[int, str]:
    return {row["id"]: row["note"] for row in sink.items.values()}


@given(CHANGES, st.integers(0, 2**32))
def test_a_store_ends_with_the_last_change_in_the_log_whatever_lsn_time_and_snapshot_say(
    changes: list[tuple[int, str, int, dict[str, Any]]], seed: int
) -> None:
    records, sink, draw = log(changes), MemorySink("reading"), random.Random(seed)
    delivered = [change for change in conformed(records, conformer()) for _ in range(draw.randint(1, 2))]
    draw.shuffle(delivered)
    sink.write(delivered, timeout=1)
    last = {number: None if op == "d" else f"at {record.offset}"
            for (number, op, _, _), record in zip(changes, records, strict=True)}  # fmt: skip
    assert shown(sink) == {number: note for number, note in last.items() if note is not None}


@given(CHANGES, st.integers(0, 12))
def test_events_that_are_sent_again_behind_a_restart_end_in_the_same_rows(
    changes: list[tuple[int, str, int, dict[str, Any]]], back: int
) -> None:
    once, twice = MemorySink("reading"), MemorySink("reading")
    records = log(changes)
    again = [
        Record(records[-1].offset + 1 + number, record.key, record.value)
        for number, record in enumerate(records[-back:] if back else [])
    ]
    once.write(conformed(records, conformer()), timeout=1)
    twice.write(conformed([*records, *again], conformer()), timeout=1)
    assert shown(twice) == shown(once)


def test_rows_that_share_one_lsn_and_one_time_are_all_there() -> None:
    records = log([(number, "c", 1, {"lsn": 4711, "ts_us": 5}) for number in range(1, 13)])
    sink = MemorySink("reading")
    sink.write(conformed(records, conformer()), timeout=1)
    assert set(shown(sink)) == set(range(1, 13))


def test_a_straggler_of_an_older_epoch_loses_to_the_newer_one_though_its_offset_is_greater() -> None:
    old = conformed(log([(1, "u", 900, {})]), conformer())
    new = conformed(log([(1, "r", 3, {"lsn": None})]), conformer(epochs=Ages([(2, [0])])))
    sink = MemorySink("reading")
    sink.write(new, timeout=1)
    assert sink.write(old, timeout=1).stale == 1
    assert shown(sink) == {1: "at 3"}
    assert version.unpack(new[0].version) == (2, 3)


@pytest.mark.parametrize("lsn", [2**53 + 1, 2**63 - 1])
def test_an_lsn_keeps_every_digit(lsn: int) -> None:
    (output,) = conformer().batch(RAW, 0, log([(1, "c", 1, {"lsn": lsn})])).outputs
    assert dict(output.headers)["tailrace.lsn"] == str(lsn).encode()


@pytest.mark.parametrize("lsn", ["9007199254740993", 9007199254740993.0, 2**64])
def test_an_lsn_that_is_no_whole_number_of_64_bits_is_parked_and_not_read_by_half(lsn: Any) -> None:
    made = conformer().batch(RAW, 0, log([(1, "c", 1, {"lsn": lsn})]))
    assert made.outputs == []
    (letter,) = made.letters
    assert "lsn has a wrong type" in letter.reason
