"""The lake on a real bucket: crashes between upload and commit, old workers that wake up, and what a reader sees."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import aws
from tailrace.control.lake import LakeFolder, LakeReader
from tailrace.control.verify.lake import Lake as Verified
from tailrace.control.verify.store import Pair
from tailrace.errors import Fatal, Retryable
from tailrace.settings import LakeSettings
from tailrace.sink import lake_log
from tailrace.sink.lake import LakeWriter
from tailrace.sink.lake_log import Entry, Span, Stored
from tailrace.targets import LakeTable
from tailrace.testing import PARCEL, Tape, parcel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailrace.change import Change
    from tailrace.endpoints import Endpoints
    from tests.providers import RunningStack

TABLE = LakeTable("parcels", record="parcel")
A_DAY_US = 86_400_000_000


@dataclass
class Lake:
    """One bucket of its own."""

    endpoints: Endpoints
    bucket: str
    s3: Any

    def writer(self, *, start: int, partition: int = 0) -> LakeWriter:
        """Return a worker's writer whose partition was assigned at the committed offset ``start``."""
        writer = LakeWriter(TABLE, PARCEL, self.endpoints, LakeSettings(bucket=self.bucket))
        writer.assigned("testing.conformed.parcel", partition, start)
        return writer

    def write(self, writer: LakeWriter, batch: Sequence[Change]) -> None:
        """Write one batch that no change of which is rejected."""
        assert list(writer.write(batch, timeout=30)) == []

    def keys(self) -> list[str]:
        """Return the keys of all Parquet objects."""
        return [key for key in self.everything() if key.endswith(".parquet")]

    def everything(self) -> list[str]:
        """Return the keys of all objects, those of the log too."""
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())]

    def seen(self) -> list[int]:
        """Return the offsets that a reader without the log sees who counts every change once, in order."""
        return [row["_offset"] for row in self.reader(log=False).rows("SELECT _offset FROM history ORDER BY 1")]

    def raw(self) -> list[int]:
        """Return the offsets that are stored, repeated ones repeated."""
        return [row["_offset"] for row in self.reader(log=False).rows("SELECT _offset FROM objects ORDER BY 1")]

    def logged(self) -> list[int]:
        """Return the offsets that a reader sees who follows the log."""
        return [row["_offset"] for row in self.reader().rows("SELECT _offset FROM objects ORDER BY 1")]

    def reader(self, *, log: bool = True) -> LakeReader:
        """Return a new reader."""
        return LakeReader(LakeFolder(self.endpoints.s3, self.bucket, "conformed", "parcels", PARCEL.key), log=log)


@pytest.fixture
def lake(stack: RunningStack) -> Iterator[Lake]:
    made = Lake(stack.endpoints, f"lake-{uuid.uuid4().hex[:8]}", aws.client("s3", stack.endpoints.s3))
    made.s3.create_bucket(Bucket=made.bucket)
    yield made
    for key in made.everything():
        made.s3.delete_object(Bucket=made.bucket, Key=key)
    made.s3.delete_bucket(Bucket=made.bucket)
    made.s3.close()


def changes(count: int, tape: Tape | None = None) -> list[Change]:
    """Return ``count`` inserts, offsets from 0."""
    tape = tape or Tape()
    return [tape.put(parcel(number)) for number in range(count)]


def test_an_object_is_named_by_table_source_commit_date_partition_and_first_offset(lake: Lake) -> None:
    batch = changes(4)
    late = [replace(change, committed_us=change.committed_us + A_DAY_US) for change in batch[2:]]

    lake.write(lake.writer(start=0), [*batch[:2], *late])

    assert lake.keys() == [
        "conformed/parcels/dt=2026-01-01/p0-000000000000.parquet",
        "conformed/parcels/dt=2026-01-02/p0-000000000002.parquet",
    ]
    head = lake.s3.head_object(Bucket=lake.bucket, Key=lake.keys()[1])
    assert head["Metadata"].items() >= {"first-offset": "2", "last-offset": "3", "rows": "2"}.items()


def test_the_same_batch_after_a_crash_gives_the_same_object(lake: Lake) -> None:
    batch = changes(10)
    lake.write(lake.writer(start=0), batch)
    before = lake.s3.head_object(Bucket=lake.bucket, Key=lake.keys()[0])["ETag"]

    lake.write(lake.writer(start=0), batch)

    assert len(lake.keys()) == 1
    assert lake.s3.head_object(Bucket=lake.bucket, Key=lake.keys()[0])["ETag"] == before


def test_a_crash_before_the_commit_hides_and_repeats_nothing_however_the_batches_are_cut_anew(lake: Lake) -> None:
    batch = changes(12)
    lake.write(lake.writer(start=0), batch[:4])
    first = lake.writer(start=4)
    lake.write(first, batch[4:8])
    lake.write(first, batch[8:10])  # crash: the committed offset is still 4

    successor = lake.writer(start=4)
    for begin, end in ((4, 5), (5, 12)):
        lake.write(successor, batch[begin:end])
        assert lake.seen() == lake.raw() == lake.logged() == list(range(max(10, end)))


def test_an_object_that_a_dead_worker_put_and_never_logged_is_taken_in(lake: Lake) -> None:
    batch = changes(9)
    lake.write(lake.writer(start=0), batch[:3])
    lake.write(lake.writer(start=3), batch[3:6])
    lake.s3.delete_object(Bucket=lake.bucket, Key=sorted(lake.everything())[1])  # dead before its entry was there
    assert [lake.logged(), lake.seen()] == [list(range(3)), list(range(6))]

    lake.write(lake.writer(start=3), [batch[3], *batch[5:]])  # Kafka has compacted offset 4 away

    assert lake.seen() == lake.raw() == lake.logged() == list(range(9))


def test_objects_of_another_partition_and_below_the_committed_offset_stay(lake: Lake) -> None:
    batch = changes(6)
    other = [replace(change, partition=1) for change in batch]
    lake.write(lake.writer(start=0, partition=1), other)
    lake.write(lake.writer(start=0), batch[:3])
    kept = set(lake.keys())

    lake.write(lake.writer(start=3), batch[3:])

    assert kept < set(lake.keys())


def test_a_replay_keeps_the_history_that_kafka_has_compacted_away(lake: Lake) -> None:
    batch = changes(6)
    lake.write(lake.writer(start=0), batch[:3])
    lake.write(lake.writer(start=3), batch[3:])

    replay = lake.writer(start=0)
    lake.write(replay, [batch[0], batch[2]])  # offset 1 is gone from the topic
    lake.write(replay, batch[3:])

    assert lake.seen() == lake.logged() == list(range(6))


def test_an_old_worker_that_wakes_up_cannot_add_what_its_successor_wrote(lake: Lake) -> None:
    batch = changes(8)
    old = lake.writer(start=0)
    lake.write(old, batch[:2])  # it has looked; then it is paused with 2..5 in hand
    lake.write(lake.writer(start=2), batch[2:8])

    lake.write(old, batch[2:5])

    assert lake.raw() == lake.logged() == list(range(8))


def test_an_answer_that_was_lost_is_no_conflict(lake: Lake) -> None:
    batch = changes(4)
    writer = lake.writer(start=0)
    writer.write(batch[:1], timeout=30)
    stranger = lake.writer(start=1)
    lake.write(stranger, batch[1:])

    lake.write(writer, batch[1:])  # the same bytes are there already

    assert lake.raw() == lake.logged() == list(range(4))


def test_a_deleted_row_has_its_key_and_nothing_else(lake: Lake) -> None:
    tape = Tape()
    batch = [tape.put(parcel(1)), tape.delete(parcel(1)), tape.put(parcel(2))]
    lake.write(lake.writer(start=0), batch)

    deleted = lake.reader().rows("SELECT * FROM history WHERE _offset = 1")[0]
    assert {name: value for name, value in deleted.items() if not name.startswith("_")} == {
        **dict.fromkeys(PARCEL.by_name),
        "id": 1,
    }
    assert [deleted["_op"], deleted["_partition"], deleted["_lsn"]] == ["d", 0, batch[1].lsn]
    assert [row["id"] for row in lake.reader().rows("SELECT id FROM current")] == [2]


def test_a_row_that_left_its_filter_is_deleted_whatever_the_source_did(lake: Lake) -> None:
    tape = Tape()
    there = tape.put(parcel(1))
    left = replace(tape.put(parcel(1), before=parcel(1)), value=None)

    lake.write(lake.writer(start=0), [there, left])

    assert lake.reader().rows("SELECT * FROM current") == []


def test_a_missing_bucket_stops_the_worker_with_the_command_that_makes_it(stack: RunningStack) -> None:
    writer = LakeWriter(TABLE, PARCEL, stack.endpoints, LakeSettings(bucket="never-made"))

    with pytest.raises(Fatal) as at_start:
        writer.connect()
    with pytest.raises(Fatal) as at_write:
        writer.write(changes(1), timeout=30)

    assert "tailrace apply" in at_start.value.hint
    assert "tailrace apply" in at_write.value.hint


def test_a_store_that_is_down_is_a_pause(stack: RunningStack) -> None:
    down = replace(stack.endpoints, s3="http://127.0.0.1:1")
    writer = LakeWriter(TABLE, PARCEL, down, LakeSettings())

    with pytest.raises(Retryable):
        writer.connect()
    with pytest.raises(Retryable):
        writer.write(changes(1), timeout=5)


def test_verify_reads_what_the_log_names_and_says_where_its_promises_do_not_hold(lake: Lake) -> None:
    batch = changes(6)
    lake.write(lake.writer(start=0), batch[:3])
    lake.write(lake.writer(start=3), batch[3:])
    pair = Pair("public.parcels", "lake", PARCEL, TABLE)
    with closing(Verified(pair, lake.bucket, lake.endpoints.s3)) as store:
        assert [len(list(store.scan())), store.faults()] == [6, []]

        first, second = lake.keys()
        again = first.replace(".parquet", "-00000000.parquet")
        lake.s3.copy_object(Bucket=lake.bucket, Key=again, CopySource={"Bucket": lake.bucket, "Key": first})
        assert [len(list(store.scan())), store.faults()] == [6, []]  # nobody logged it

        held = Stored(again.removeprefix("conformed/parcels/"), "", 1, None, (Span(0, 0, 2, 3, 1, 3),))
        entry = Entry(3, "2026-01-01T00:00:00+00:00", "somebody", "append", (held,))
        name = f"conformed/parcels/{lake_log.entry_name(3)}"
        lake.s3.put_object(Bucket=lake.bucket, Key=name, Body=entry.encode())
        lake.s3.delete_object(Bucket=lake.bucket, Key=second)
    with closing(Verified(pair, lake.bucket, lake.endpoints.s3)) as store:
        assert len(list(store.scan())) == 3
        assert store.faults() == [
            f"{lake.bucket}/{second} is in the log and not in the bucket",
            f"{lake.bucket}/conformed/parcels: 3 changes are in two objects that the log names",
        ]
