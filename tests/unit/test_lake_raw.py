"""The lake's raw zone on a bucket in memory: exact bytes, each offset once, whatever crashed or began anew."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from tailrace.control.lake_compact import Compactor
from tailrace.control.verify.raw import Run, gaps
from tailrace.endpoints import Endpoints
from tailrace.epoch import Ages, Epoch
from tailrace.errors import Fatal, Refused
from tailrace.settings import LakeSettings
from tailrace.sink import lake_log
from tailrace.sink.lake_raw import RawLakeWriter, skipped
from tailrace.sink.rawtopic import RawChange, RawReader
from tailrace.source.origin import NOTHING, Origin, Origins
from tailrace.targets import RawLakeTable
from tests.lakebucket import Killed, MemoryBucket
from tests.raw import message, payload, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE = RawLakeTable("readings", table="public.reading")
TOPIC = "t.raw.public.reading"
COMMITTED_US = 1_767_322_800_123_456  # 2026-01-02, as ``payload`` says it
KAFKA_MS = 1_767_225_600_000  # 2026-01-01


@dataclass(frozen=True)
class Message:
    """A message as the broker gave it."""

    at: int
    raw_key: bytes | None
    raw_value: bytes | None
    time: tuple[int, int] = (1, KAFKA_MS)
    raw_headers: list[tuple[str, bytes | None]] | None = None

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes | None:
        return self.raw_key

    def value(self) -> bytes | None:
        return self.raw_value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self.raw_headers

    def timestamp(self) -> tuple[int, int]:
        return self.time


@dataclass
class StillThere:
    """A pipeline whose epoch is what it was, or is not; ``first`` is the oldest offset of its topic."""

    first: int = 0
    ended: bool = False
    confirmed: list[None] = field(default_factory=list)

    def confirm(self) -> None:
        if self.ended:
            raise Refused("A new epoch began.")
        self.confirmed.append(None)

    def oldest(self, topic: str, partition: int) -> int:
        assert (topic, partition) == (TOPIC, 0)
        return self.first


def change(given: Message, ages: Ages | None = None) -> RawChange:
    return RawReader("public.reading", ages or Ages()).change(given, given)


def row(at: int, op: str = "c", **source: Any) -> Message:
    return Message(at, b'{"id":%d}' % at, message(payload(op, after=reading(at), **source)))


def rows(first: int, last: int, ages: Ages | None = None) -> list[RawChange]:
    return [change(row(at), ages) for at in range(first, last + 1)]


def writer(bucket: MemoryBucket, life: StillThere | None = None) -> RawLakeWriter:
    return RawLakeWriter(TABLE, Endpoints(*[""] * 7), LakeSettings(), life or StillThere(), bucket)


def write(to: RawLakeWriter, batch: Sequence[RawChange]) -> None:
    assert list(to.write(batch, timeout=30)) == []


def logged(bucket: MemoryBucket) -> list[tuple[int, int]]:
    """Return offset and epoch of every record that a reader of the log sees, in order."""
    state = lake_log.State()
    while (name := f"{TABLE.folder}/{lake_log.entry_name(state.sequence + 1)}") in bucket.objects:
        state.apply(lake_log.decode(bucket.objects[name][0].body))
    tables = [bucket.table(f"{TABLE.folder}/{key}") for key in state.live]
    return sorted((each["_offset"], each["_version"] >> 48) for table in tables for each in table.to_pylist())


def stored(bucket: MemoryBucket) -> list[dict[str, Any]]:
    found = [each for key in bucket.names() for each in bucket.table(key).to_pylist()]
    return sorted(found, key=lambda each: int(each["_offset"]))


# What is stored


def test_every_byte_of_a_record_is_stored_and_what_its_envelope_tells_beside_it() -> None:
    bucket, value = MemoryBucket(), message(payload("u", after=reading(7)))
    headers: list[tuple[str, bytes | None]] = [("a", b"\xff\x00"), ("a", None), ("b", b"")]
    given = [
        Message(0, b"\x00\xfe key", value, raw_headers=headers),
        Message(1, b'{"id":7}', None),
        Message(2, None, b""),
        Message(3, b"k", b"\x00no envelope\xff"),
    ]

    write(writer(bucket), [change(each, Ages(first=3)) for each in given])

    found = stored(bucket)
    assert [(each["key"], each["value"]) for each in found] == [(each.raw_key, each.raw_value) for each in given]
    assert [(part["key"], part["value"]) for part in found[0]["headers"]] == headers
    assert [each["headers"] for each in found[1:]] == [[], [], []]
    assert [each["_version"] for each in found] == [3 << 48 | offset for offset in range(4)]
    told = datetime(2026, 1, 2, 3, 0, 0, 123456, tzinfo=UTC)
    assert [found[0][name] for name in ("_op", "_lsn", "_committed_at")] == ["u", 4711, told]
    assert [found[at][name] for at in (1, 2, 3) for name in ("_op", "_lsn", "_committed_at")] == [None] * 9
    assert {each["_timestamp"] for each in found} == {datetime(2026, 1, 1, tzinfo=UTC)}


def test_the_date_is_the_source_commits_and_kafkas_where_the_envelope_tells_none() -> None:
    bucket = MemoryBucket()
    given = [row(0), Message(1, b"k", None), Message(2, b"k", b"?"), Message(3, b"k", None, (0, -1)), row(4)]
    far = [row(5, ts_us=10**18), row(6, ts_us=None, ts_ms=-5)]

    write(writer(bucket), [change(each) for each in (*given, *far)])

    assert bucket.names() == [
        "raw/readings/dt=1970-01-01/p0-000000000003.parquet",
        "raw/readings/dt=2026-01-01/p0-000000000001.parquet",
        "raw/readings/dt=2026-01-02/p0-000000000000.parquet",
    ]
    offsets = [bucket.table(name)["_offset"].to_pylist() for name in bucket.names()]
    assert offsets == [[3], [1, 2, 5, 6], [0, 4]]


def test_an_envelope_is_read_the_same_with_and_without_its_schema_known() -> None:
    origins, plain = Origins(), json.dumps(payload("r", after=reading(1), lsn=None)).encode()
    value = message(payload("c", after=reading(1)))
    more = value[:-1] + b',"more":1}'

    assert [origins.read(each) for each in (value, value, more, value)] == [Origin("c", 4711, COMMITTED_US)] * 4
    assert origins.read(plain) == Origin("r", None, COMMITTED_US)
    assert origins.read(message(payload("c", ts_us=None))).committed_us == COMMITTED_US // 1000 * 1000
    for nothing in (None, b"", b"?", b"[]", b"7", b'{"payload":null,"schema":null}', value[:-2]):
        assert origins.read(nothing) == NOTHING
    odd = {"op": 7, "source": {"lsn": 1 << 63, "ts_us": "now", "ts_ms": True}}
    assert origins.read(json.dumps(odd).encode()) == NOTHING
    assert origins.read(b'{"op":"d","source":[]}') == Origin("d")


# Exactly once


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("call", range(1, 12))
def test_a_worker_that_dies_at_any_call_of_the_bucket_leaves_each_record_once(call: int, *, late: bool) -> None:
    bucket = MemoryBucket()
    with suppress(Killed):
        dying = writer(bucket.user((call, late)))
        write(dying, rows(0, 2))
        write(dying, [*rows(3, 4), change(Message(5, b"k", None))])

    successor = writer(bucket.user())
    successor.assigned(TOPIC, 0, 0)
    for first, last in ((0, 1), (2, 4)):  # cut anew
        write(successor, rows(first, last))
    write(successor, [change(Message(5, b"k", None)), *rows(6, 7)])

    assert logged(bucket) == [(offset, 1) for offset in range(8)]
    assert [each["_offset"] for each in stored(bucket)] == list(range(8))


def test_a_topic_that_was_recreated_begins_its_offsets_anew_beside_those_of_its_former_life() -> None:
    bucket = MemoryBucket()
    write(writer(bucket), rows(0, 3, Ages(first=1)))
    again = Ages([(2, [0])])
    anew = writer(bucket)
    write(anew, rows(0, 1, again))
    write(writer(bucket), rows(0, 2, again))

    assert logged(bucket) == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]


def test_a_worker_gives_no_version_under_an_epoch_that_is_over() -> None:
    life = StillThere()
    worker = writer(MemoryBucket(), life)
    worker.assigned(TOPIC, 0, 0)
    assert len(life.confirmed) == 1
    life.ended = True
    with pytest.raises(Refused):
        worker.assigned(TOPIC, 0, 0)


def test_records_that_retention_took_first_stop_the_worker_and_holes_of_the_log_do_not() -> None:
    bucket, life = MemoryBucket(), StillThere()
    worker = writer(bucket, life)
    worker.assigned(TOPIC, 0, 5)
    write(worker, rows(7, 8))  # 5 and 6 are still within what Kafka keeps: nobody ever wrote them
    write(worker, rows(7, 9))  # the same batch again, larger

    life.first = 11
    with pytest.raises(Fatal) as stopped:
        worker.write(rows(12, 13), timeout=30)

    assert "10 was next, the oldest one left is 11" in stopped.value.detail
    assert "--to beginning" in stopped.value.hint
    assert [offset for offset, _ in logged(bucket)] == [7, 8, 9]


def test_gaps_are_found_before_and_inside_a_batch() -> None:
    assert list(skipped(3, [3, 4, 5])) == []
    assert list(skipped(3, [1, 2, 3])) == []
    assert list(skipped(3, [5, 6, 9])) == [(3, 5), (7, 9)]


def test_compaction_keeps_every_byte_of_raw_records_and_sorts_them_by_key() -> None:
    bucket = MemoryBucket()
    worker = writer(bucket)
    headers: list[tuple[str, bytes | None]] = [("a", b"\xff"), ("b", None)]
    first = [change(Message(at, b"\xfek%d" % (9 - at), b"\x00%d" % at, raw_headers=headers)) for at in range(3)]
    write(worker, first)
    write(worker, [change(Message(3, None, None)), change(Message(4, b"", b""))])
    before = stored(bucket)

    compactor = Compactor(bucket, f"{TABLE.folder}/", ("key",))
    done = compactor.run(compactor.bins(date(2100, 1, 1), 10**9), lambda *_: None)
    compactor.vacuum(datetime(2100, 1, 1, tzinfo=UTC) - datetime(2100, 1, 1, tzinfo=UTC))

    assert (done.inputs, len(done.made), len(bucket.names())) == (2, 1, 1)
    assert stored(bucket) == before
    merged: pa.Table = bucket.table(bucket.names()[0])
    assert [key for key in merged["key"].to_pylist() if key] == [b"\xfek7", b"\xfek8", b"\xfek9"]


# What verify says of offsets


def run(epoch: int, first: int, last: int) -> Run:
    return Run(0, epoch, first, last, last - first + 1)


@pytest.mark.parametrize(
    ("runs", "start", "end", "missing", "twice"),
    [
        ([], 0, 0, [], []),
        ([], 3, 7, [(3, 6)], []),
        ([run(1, 0, 6)], 0, 7, [], []),
        ([run(1, 2, 6)], 4, 7, [], []),  # older than what Kafka has
        ([run(1, 2, 6)], 0, 9, [(0, 1), (7, 8)], []),
        ([run(1, 0, 1), run(1, 4, 6), run(1, 8, 20)], 3, 9, [(2, 3), (7, 7)], []),
        ([run(1, 0, 3), run(2, 4, 9)], 0, 10, [], []),
        ([run(1, 0, 5), run(2, 4, 9)], 0, 10, [], [(4, 5)]),
    ],
)
def test_a_hole_and_an_offset_of_two_epochs_are_named(
    runs: list[Run], start: int, end: int, missing: list[tuple[int, int]], twice: list[tuple[int, int]]
) -> None:
    assert gaps(runs, start, end) == (missing, twice)


def test_the_life_of_a_topic_begins_with_the_epoch_that_recreated_it() -> None:
    first = Epoch(1, "s", "7", {TOPIC: "a"}, {TOPIC: 2})
    second = first.followed(first, {TOPIC: [5, 0]})
    third = second.followed(Epoch(2, "s", "7", {TOPIC: "b"}, {TOPIC: 2}), {TOPIC: [9, 9]})
    fourth = third.followed(third, {TOPIC: [3, 4]})

    assert [each.born(TOPIC) for each in (first, second, third, fourth)] == [1, 1, 3, 3]
    assert fourth.ages(TOPIC).at(0, 2) == 3
