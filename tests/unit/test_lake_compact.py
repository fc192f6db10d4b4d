"""Compaction: what is merged, and that no reader misses or repeats a row, whoever dies where."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tailrace.control.lake_compact import Compactor, plan
from tailrace.errors import Refused
from tailrace.sink.lake_log import Span, Stored
from tailrace.testing import PARCEL, Tape, parcel
from tests.lakebucket import FOLDER, Killed, MemoryBucket, writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.change import Change
    from tailrace.control.lake_compact import Bin, Compacted

A_DAY_US = 86_400_000_000
FOREVER, TARGET = date(2100, 1, 1), 10**9
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def changes(count: int, partition: int = 0) -> list[Change]:
    """Return updates of five keys, on two dates, the newest offset with the smallest key."""
    tape = Tape(partition)
    made = [tape.put(parcel(-number % 5)) for number in range(count)]
    return [replace(each, committed_us=each.committed_us + (each.offset % 2) * A_DAY_US) for each in made]


def marks(batch: Sequence[Change]) -> list[tuple[int, int, int]]:
    return sorted((each.partition, each.offset, each.version) for each in batch)


def write(bucket: MemoryBucket, batch: Sequence[Change], size: int = 4) -> None:
    worker = writer(bucket.user())
    for start in range(0, len(batch), size):
        assert list(worker.write(batch[start : start + size], timeout=30)) == []


def compact(bucket: MemoryBucket, through: date = FOREVER) -> Compacted:
    compactor = Compactor(bucket, FOLDER, PARCEL.key)
    return compactor.run(compactor.bins(through, TARGET), quiet)


def quiet(*_: object) -> None:
    """Say nothing."""


def stored(key: str, size: int, schema: int = 1) -> Stored:
    number = int(key.rpartition("-")[2].partition(".")[0])
    return Stored(key, "e", size, schema, (Span(0, number, number, 1, number, number),))


def shown(bins: Sequence[Bin]) -> list[list[str]]:
    return [[each.key for each in one.inputs] for one in bins]


def test_small_objects_of_closed_dates_fill_bins_and_one_alone_stays() -> None:
    live = [stored(f"dt=2026-01-01/p0-{number}.parquet", 40) for number in range(5)]
    alone = stored("dt=2026-01-02/p0-7.parquet", 1)
    large, fresh = stored("dt=2026-01-01/p0-8.parquet", 51), stored("dt=2026-01-03/p0-9.parquet", 1)

    bins = plan([large, alone, fresh, replace(fresh, key="dt=2026-01-03/p0-10.parquet"), *live], date(2026, 1, 2), 100)

    assert shown(bins) == [[each.key for each in live[:3]], [each.key for each in live[3:]]]


def test_objects_of_two_schemas_are_not_mixed_and_the_name_comes_from_the_inputs() -> None:
    live = [stored(f"dt=2026-01-01/p0-{number}.parquet", 1, schema=number % 2) for number in range(4)]

    one, two = plan(live, FOREVER, 100)

    assert [{each.schema for each in made.inputs} for made in (one, two)] == [{0}, {1}]
    assert one.key != two.key
    assert one.key == plan(reversed(live), FOREVER, 100)[0].key
    assert one.key != plan([replace(each, etag="other") for each in live], FOREVER, 100)[0].key


def test_a_date_becomes_one_object_sorted_by_key_and_old_ones_go_after_the_grace_time() -> None:
    bucket, batch, other = MemoryBucket(), changes(20), changes(9, partition=1)
    write(bucket, batch)
    write(bucket, other)

    done = compact(bucket)

    assert [len(done.made), done.inputs, done.lost] == [2, 15, 0]
    assert bucket.logged() == bucket.globbed() == marks([*batch, *other])
    assert len(bucket.names()) == 17
    vacuum = Compactor(bucket, FOLDER, PARCEL.key)
    assert [vacuum.vacuum(timedelta(hours=1)), vacuum.vacuum(timedelta(0)), vacuum.vacuum(timedelta(0))] == [0, 15, 0]
    assert bucket.logged() == bucket.stored() == marks([*batch, *other])
    for name in bucket.names():
        rows = bucket.table(name)
        assert rows["id"].to_pylist() == sorted(rows["id"].to_pylist())
        assert rows.schema.names == bucket.table(bucket.names()[0]).schema.names
    assert bucket.state().gone == {}


def test_what_is_compacted_is_the_same_rows_to_the_last_bit() -> None:
    bucket, batch = MemoryBucket(), changes(12)
    write(bucket, batch)
    before = sorted((row for name in bucket.names() for row in bucket.table(name).to_pylist()), key=repr)

    compact(bucket)
    Compactor(bucket, FOLDER, PARCEL.key).vacuum(timedelta(0))

    assert sorted((row for name in bucket.names() for row in bucket.table(name).to_pylist()), key=repr) == before
    assert len(bucket.names()) == 2


def test_late_data_of_a_compacted_date_is_there_at_once_and_compacted_by_the_next_run() -> None:
    bucket, batch = MemoryBucket(), changes(16)
    write(bucket, batch[:12])
    compact(bucket)
    write(bucket, batch[12:])
    assert bucket.logged() == bucket.globbed() == marks(batch)

    compact(bucket)

    assert len(bucket.state().live) == 2
    assert bucket.logged() == bucket.globbed() == marks(batch)
    assert compact(bucket).made == []


def test_a_date_that_is_not_closed_is_left_alone() -> None:
    bucket = MemoryBucket()
    write(bucket, changes(12))

    done = compact(bucket, through=date(2026, 1, 1))

    assert [each.date for each in done.made] == ["2026-01-01"]


@pytest.mark.parametrize("late", [False, True])
def test_a_compactor_killed_at_any_call_loses_nothing_and_its_next_run_ends_the_work(late: bool) -> None:
    whole, batch, dead = MemoryBucket(), changes(12), 0
    write(whole, batch)
    for call in range(1, 60):
        bucket = MemoryBucket(dict(whole.objects))
        with suppress(Killed):
            dying = bucket.user((call, late))
            compact(dying)
            Compactor(dying, FOLDER, PARCEL.key).vacuum(timedelta(0))
            break
        dead += 1
        assert bucket.logged() == bucket.globbed() == marks(batch), call
        compact(bucket)
        Compactor(bucket, FOLDER, PARCEL.key).vacuum(timedelta(0), LATER)
        assert bucket.logged() == bucket.stored() == marks(batch), call
        assert len(bucket.names()) == 2
    assert dead >= 15


def test_a_second_compactor_of_the_same_objects_finds_the_work_done() -> None:
    bucket, batch = MemoryBucket(), changes(12)
    write(bucket, batch)
    slow = Compactor(bucket.user(), FOLDER, PARCEL.key)
    bins = slow.bins(FOREVER, TARGET)
    compact(bucket)
    before = dict(bucket.objects)

    done = slow.run(bins, quiet)

    assert [len(done.made), done.lost] == [2, 0]
    assert bucket.objects == before


def test_a_second_compactor_with_other_bins_loses_and_leaves_nothing_behind() -> None:
    bucket, batch = MemoryBucket(), changes(12)
    write(bucket, batch[:8])
    slow = Compactor(bucket.user(), FOLDER, PARCEL.key)
    bins = slow.bins(FOREVER, TARGET)
    write(bucket, batch[8:])
    compact(bucket)
    names = bucket.names()

    assert slow.run(bins, quiet).lost == 2
    assert bucket.names() == names


def test_a_worker_whose_batch_was_compacted_before_its_commit_adds_nothing_again() -> None:
    bucket, batch = MemoryBucket(), changes(12)
    write(bucket, batch)
    compact(bucket)
    Compactor(bucket, FOLDER, PARCEL.key).vacuum(timedelta(0))

    write(bucket, batch[4:], size=3)  # the committed offset was 4

    assert bucket.logged() == bucket.stored() == marks(batch)


def test_a_worker_that_writes_while_a_compactor_does_loses_nothing() -> None:
    bucket, batch = MemoryBucket(), changes(16)
    write(bucket, batch[:8])
    compactor = Compactor(bucket.user(), FOLDER, PARCEL.key)
    bins = compactor.bins(FOREVER, TARGET)
    worker = writer(bucket.user())
    worker.write(batch[8:12], timeout=30)

    done = compactor.run(bins, lambda *_: worker.write(batch[12:16], timeout=30))  # type: ignore[arg-type]  # its answer is nobody's

    assert len(done.made) == 2
    assert bucket.logged() == bucket.globbed() == marks(batch)


def test_a_table_without_a_log_and_an_object_that_is_gone_are_refused() -> None:
    bucket = MemoryBucket()
    with pytest.raises(Refused, match="no commit log"):
        compact(bucket)
    write(bucket, changes(12))
    del bucket.objects[bucket.names()[0]]
    before = dict(bucket.objects)

    with pytest.raises(Refused, match="not in the bucket"):
        compact(bucket)

    assert bucket.objects == before
