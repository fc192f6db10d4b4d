"""A writer or compactor of the lake, and a processor's images, that die at a point: nothing is lost, nothing is twice.

The bucket and the topics are in memory. A death is an exception that no handler sees; what the process had in memory is
gone with it, because whoever goes on is made anew.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tailrace import crashpoint
from tailrace.control.lake_compact import Compactor
from tailrace.crashpoint import Lake, Processor
from tailrace.sink.lake_log import CHECKPOINT_EVERY, HINT
from tailrace.testing import PARCEL, Tape, parcel
from tests.cluster import RAW, STAND_IN, Cluster, Record, Worker
from tests.lakebucket import FOLDER, Killed, MemoryBucket, writer
from tests.raw import message, payload, reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailrace.change import Change
    from tailrace.crashpoint import CrashPoint

A_DAY_US = 86_400_000_000
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@contextmanager
def dies_at(point: CrashPoint) -> Iterator[None]:
    """Run to a point and no further."""

    def die(number: signal.Signals) -> None:
        assert number is signal.SIGKILL
        raise Killed

    with pytest.raises(Killed), crashpoint.armed(point.spelled, die):
        yield


def changes(count: int) -> list[Change]:
    """Return changes of two dates."""
    tape = Tape()
    made = [tape.put(parcel(number)) for number in range(count)]
    return [replace(each, committed_us=each.committed_us + (each.offset % 3 == 2) * A_DAY_US) for each in made]


def write(bucket: MemoryBucket, *batches: Sequence[Change]) -> None:
    """Write batches as a worker that has just been started."""
    worker = writer(bucket.user())
    for batch in batches:
        assert list(worker.write(batch, timeout=30)) == []


def assert_whole(bucket: MemoryBucket, batch: Sequence[Change]) -> None:
    """Fail where a change is missing or there twice, for a reader of the log and in the objects."""
    expected = sorted((each.partition, each.offset, each.version) for each in batch)
    assert bucket.logged() == bucket.stored() == expected


@pytest.mark.parametrize("point", [Lake.OBJECTS_PUT, Lake.ENTRY_PUT])
def test_a_batch_whose_writer_died_is_in_the_table_once(point: CrashPoint) -> None:
    bucket, batch = MemoryBucket(), changes(9)
    write(bucket, batch[:3])

    with dies_at(point):
        write(bucket, batch[3:6])
    seen = bucket.globbed()
    write(bucket, batch[3:5], batch[5:])

    assert set(seen) <= set(bucket.globbed())
    assert_whole(bucket, batch)


def test_a_checkpoint_that_nothing_points_to_is_no_harm() -> None:
    bucket, batch = MemoryBucket(), changes(CHECKPOINT_EVERY + 3)
    write(bucket, *([each] for each in batch[: CHECKPOINT_EVERY - 1]))

    with dies_at(Lake.CHECKPOINT_PUT):
        write(bucket, batch[CHECKPOINT_EVERY - 1 : CHECKPOINT_EVERY])
    assert FOLDER + HINT not in bucket.objects
    write(bucket, batch[CHECKPOINT_EVERY - 1 :])

    assert_whole(bucket, batch)
    assert bucket.objects[FOLDER + HINT][0].body == b"%d\n" % (CHECKPOINT_EVERY + 1)


def test_orphans_whose_taking_in_was_cut_off_are_in_the_table_once() -> None:
    bucket, batch = MemoryBucket(), changes(8)

    with dies_at(Lake.OBJECTS_PUT):
        write(bucket, batch[:5])
    with dies_at(Lake.ORPHANS_LOGGED):
        write(bucket, batch[:4])
    write(bucket, batch[:4], batch[4:])

    assert_whole(bucket, batch)


@pytest.mark.parametrize("point", [Lake.ORPHAN_CUT, Lake.ORPHAN_LOGGED])
def test_an_orphan_half_of_which_is_news_is_taken_in_by_half_wherever_that_stops(point: CrashPoint) -> None:
    bucket, batch = MemoryBucket(), changes(12)
    zombie, dying = writer(bucket.user()), writer(bucket.user())
    for worker in (zombie, dying):
        worker.write(batch[:1], timeout=30)
    with dies_at(Lake.OBJECTS_PUT):
        dying.write(batch[1:7], timeout=30)
    zombie.write(batch[4:9], timeout=30)

    with dies_at(point):
        write(bucket, batch[1:4])
    write(bucket, batch[1:4], batch[4:])

    assert_whole(bucket, batch)


def compact(bucket: MemoryBucket, *, vacuum: bool = True) -> None:
    compactor = Compactor(bucket.user(), FOLDER, PARCEL.key)
    compactor.run(compactor.bins(date(2100, 1, 1), 10**6), lambda *_: None)
    if vacuum:
        compactor.vacuum(timedelta(0), LATER)


@pytest.mark.parametrize("point", [Lake.MERGED_PUT, Lake.MERGED_LOGGED, Lake.INPUTS_REMOVED])
def test_a_compaction_that_died_loses_no_row_and_its_next_run_ends_it(point: CrashPoint) -> None:
    bucket, batch = MemoryBucket(), changes(12)
    write(bucket, *(batch[start : start + 3] for start in range(0, 12, 3)))
    expected = bucket.logged()

    with dies_at(point):
        compact(bucket)
    assert bucket.logged() == bucket.globbed() == expected
    compact(bucket)

    assert_whole(bucket, batch)
    assert len(bucket.names()) == 2
    assert bucket.state().gone == {}


def records(*notes: str) -> list[Record]:
    """Return an insert and updates of one row."""
    rows = [reading(1, note=note, value=f"{offset}.0000") for offset, note in enumerate(notes)]
    ops = ["c", *["u"] * (len(rows) - 1)]
    return [
        Record(offset, b'{"id":1}', message(payload(op, after=row)))
        for offset, (op, row) in enumerate(zip(ops, rows, strict=True))
    ]


def test_images_of_a_process_that_had_lost_its_partition_stay_out_wherever_their_removal_stops() -> None:
    cluster, old, new = Cluster(), "a" * 3000, "b" * 3000
    zombie = Worker(cluster)
    zombie.work(records(old), 1)
    Worker(cluster).work(records(old, new), 1)
    zombie.effect.give(RAW, 0, records(old))  # it wakes up and does not know

    with dies_at(Processor.STRAY_IMAGES_REMOVED):
        Worker(cluster).work(records(old, new, STAND_IN), 1)
    Worker(cluster).work(records(old, new, STAND_IN), 1)

    assert cluster.committed == 3
    assert len(cluster.topics["parked"]) == 1  # nobody knows the value for certain, so nobody guesses it
