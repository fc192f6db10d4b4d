"""The log of a lake table: each change once, whoever dies where, whoever wakes up when."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pytest

from tailrace.control import lake_log as lake_reading
from tailrace.control.lake_compact import Compactor
from tailrace.deadline import Deadline, wait_for
from tailrace.sink import lake_log
from tailrace.sink.lake_commits import Commits
from tailrace.sink.lake_log import Entry, Part, Span, State, Stored
from tailrace.testing import PARCEL, Tape, parcel
from tests.lakebucket import FOLDER, Killed, MemoryBucket, writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.change import Change
    from tailrace.sink.lake import LakeWriter

A_DAY_US = 86_400_000_000


def changes(count: int, partition: int = 0) -> list[Change]:
    tape = Tape(partition)
    made = [tape.put(parcel(number)) for number in range(count)]
    return [replace(each, committed_us=each.committed_us + (each.offset % 3 == 2) * A_DAY_US) for each in made]


def marks(batch: Sequence[Change]) -> list[tuple[int, int, int]]:
    return sorted((each.partition, each.offset, each.version) for each in batch)


def write(to: LakeWriter, batch: Sequence[Change]) -> None:
    assert list(to.write(batch, timeout=120)) == []


def read(bucket: MemoryBucket, seen: list[str], name: str) -> bytes | None:
    """Return a file of the table's folder, as readers do, and note that it was read."""
    seen.append(name)
    found = bucket.objects.get(FOLDER + name)
    return found[0].body if found else None


def stored(key: str, first: int, last: int, *, partition: int = 0, epoch: int = 1) -> Stored:
    return Stored(
        key, f'"{key}"', 1, 1, (Span(partition, first, last, last - first + 1, epoch * 1000, epoch * 1000 + 99),)
    )


def test_an_entry_and_a_checkpoint_read_back_as_they_were() -> None:
    entry = Entry(
        7, "2026-01-01T00:00:00", "me", "append", (stored("dt=2026-01-01/a", 0, 4),), (stored("b", 5, 6),), ("c",)
    )
    assert lake_log.decode(entry.encode()) == entry
    state = State()
    state.apply(replace(entry, sequence=1))
    assert lake_log.state(state.encode()) == state
    assert [each.date for each in state.live.values()] == ["2026-01-01"]
    assert [each.rows for each in state.live.values()] == [5]


def test_numbers_sort_as_text_and_a_checkpoint_lies_beside_its_entry() -> None:
    names = [lake_log.entry_name(number) for number in (9, 10, 100)]
    assert names == sorted(names)
    assert names[0] == "_log/00000000000000000009.json"
    assert lake_log.checkpoint_name(9).startswith(names[0].removesuffix(".json"))


def test_a_part_that_may_hold_a_change_twice_does_not_fit() -> None:
    state = State()
    state.apply(Entry(1, "", "", "append", (stored("a", 0, 9),)))

    assert not state.fits(Part("append", (stored("b", 9, 12),)))
    assert state.fits(Part("append", (stored("b", 10, 12),)))
    assert state.fits(Part("append", (stored("b", 0, 9, partition=1),)))
    assert state.fits(Part("append", (stored("b", 0, 9, epoch=2),)))  # the topic was made anew
    assert state.fits(Part("append", (stored("b", 5, 12),), seen=frozenset({"a"})))
    assert not state.fits(Part("append", (stored("a", 20, 21),)))


def test_what_is_removed_must_be_live_and_what_is_there_already_is_no_second_entry() -> None:
    state = State()
    state.apply(Entry(1, "", "", "append", (stored("a", 0, 4), stored("b", 5, 9))))
    compact = Part("compact", (stored("c", 0, 9),), ("a", "b"), exact=True)

    assert state.fits(compact)
    assert not state.has(compact)
    state.apply(Entry(2, "t", "", "compact", compact.added, (state.live["a"], state.live["b"])))
    assert not state.fits(compact)
    assert state.has(compact)
    assert sorted(state.gone) == ["a", "b"]


def test_each_change_is_logged_once_and_both_readers_agree() -> None:
    bucket, batch = MemoryBucket(), changes(12)
    worker = writer(bucket)

    for start in range(0, 12, 4):
        write(worker, batch[start : start + 4])

    assert bucket.logged() == bucket.globbed() == bucket.stored() == marks(batch)
    assert [each.schema for each in bucket.state().live.values()] == [None] * 6
    assert bucket.state().sequence == 3  # one entry a batch, whatever its dates


@pytest.mark.parametrize("late", [False, True])
def test_a_worker_killed_at_any_call_leaves_nothing_out_and_nothing_twice(late: bool) -> None:
    batch, dead = changes(12), 0
    for call in range(1, 100):
        bucket = MemoryBucket()
        write(writer(bucket), batch[:3])
        with suppress(Killed):
            dying = writer(bucket.user((call, late)))
            write(dying, batch[3:8])
            write(dying, batch[8:10])
            break
        dead += 1
        seen = bucket.globbed()
        again = writer(bucket.user())
        write(again, batch[3:5])  # the committed offset was 3; the batches are cut in another way
        assert set(seen) <= set(bucket.globbed())  # what a reader has seen, it sees on
        write(again, batch[5:])
        assert bucket.logged() == bucket.stored() == marks(batch), call
    assert dead >= 10


def test_a_worker_killed_again_and_again_at_the_same_place_comes_through() -> None:
    bucket, batch = MemoryBucket(), changes(9)
    for call in range(1, 14):
        with suppress(Killed):
            write(writer(bucket.user((call, call % 2 == 0))), batch[: 3 + call % 6])
        assert len(bucket.logged()) == len(set(bucket.logged()))
    write(writer(bucket.user()), batch)

    assert bucket.logged() == bucket.stored() == marks(batch)


def test_a_zombie_adds_nothing_that_its_successor_has() -> None:
    bucket, batch = MemoryBucket(), changes(8)
    old = writer(bucket)
    write(old, batch[:2])  # it has looked; then it is paused with 2..5 in hand
    write(writer(bucket.user()), batch[2:8])

    write(old, batch[2:5])

    assert bucket.logged() == bucket.stored() == marks(batch)


def test_a_zombie_between_its_objects_and_its_entry_adds_nothing_either() -> None:
    bucket, batch = MemoryBucket(), changes(8)
    old = writer(bucket.user((7, False)))
    with suppress(Killed):
        write(old, batch[:4])
    orphans = bucket.names()
    successor = writer(bucket.user())
    write(successor, batch[:2])
    write(successor, batch[2:])

    assert orphans
    assert bucket.logged() == bucket.stored() == marks(batch)


def test_objects_from_before_there_was_a_log_are_taken_in_with_the_first_entry() -> None:
    bucket, batch, other = MemoryBucket(), changes(6), changes(6, partition=1)
    write(writer(bucket), batch)
    write(writer(bucket), other)
    for name in [key for key in bucket.objects if "/_log/" in key]:
        del bucket.objects[name]

    write(writer(bucket.user()), changes(9)[6:])

    assert bucket.logged() == bucket.stored() == marks([*changes(9), *other])
    assert bucket.state().sequence == 2


def test_an_object_that_somebody_deleted_is_written_anew_by_a_replay() -> None:
    bucket, batch = MemoryBucket(), changes(6)
    worker = writer(bucket)
    write(worker, batch[:3])
    write(worker, batch[3:])
    del bucket.objects[bucket.names()[0]]

    write(writer(bucket.user()), batch)

    assert bucket.logged() == bucket.stored() == marks(batch)


def test_a_replay_changes_nothing_and_keeps_what_kafka_has_compacted_away() -> None:
    bucket, batch = MemoryBucket(), changes(6)
    write(writer(bucket), batch)
    before = dict(bucket.objects)

    write(writer(bucket.user()), [batch[0], *batch[2:]])

    assert bucket.objects == before


def test_a_replay_reads_each_large_object_once() -> None:
    bucket, batch = MemoryBucket(), changes(40)
    for start in range(0, 40, 8):
        write(writer(bucket), batch[start : start + 8])
    compactor = Compactor(bucket, FOLDER, PARCEL.key)
    compactor.run(compactor.bins(date(2100, 1, 1), 10**9), lambda *_: None)
    compactor.vacuum(timedelta(0))
    replayed = bucket.user()
    again = writer(replayed)
    write(again, batch[:4])
    calls = replayed.calls

    for start in range(4, 40, 4):
        write(again, batch[start : start + 4])

    assert replayed.calls == calls
    assert bucket.logged() == bucket.stored() == marks(batch)


def test_a_topic_made_anew_begins_at_the_same_offsets_and_everything_is_kept() -> None:
    bucket, batch = MemoryBucket(), changes(6)
    anew = [replace(each, version=each.version + (1 << 48)) for each in batch]
    write(writer(bucket), batch)

    write(writer(bucket.user()), anew)

    assert bucket.logged() == bucket.stored() == marks([*batch, *anew])


def test_a_new_schema_id_closes_the_object_and_a_delete_follows_the_change_before() -> None:
    bucket, tape = MemoryBucket(), Tape()
    frames = [b"\0\0\0\0\x01x", b"\0\0\0\0\x02x", None, b"\0\0\0\0\x01x", b"\0\0\0\0\x02x"]
    batch = [
        tape.delete(parcel(number)) if frame is None else replace(tape.put(parcel(number)), raw_value=frame)
        for number, frame in enumerate(frames)
    ]

    write(writer(bucket), batch)

    assert {each.schema: each.rows for each in bucket.state().live.values()} == {1: 2, 2: 3}
    assert [bucket.table(name)["_offset"].to_pylist() for name in bucket.names()] == [[0, 3], [1, 2, 4]]


def test_the_lanes_of_many_workers_at_once_lose_no_number_and_no_part() -> None:
    bucket = MemoryBucket()
    workers = [writer(bucket.user()) for _ in range(3)]
    batches = {number: changes(20, number) for number in range(12)}

    def lane(number: int) -> None:
        for start in range(0, 20, 5):
            write(workers[number % 3], batches[number][start : start + 5])

    threads = [threading.Thread(target=lane, args=(number,)) for number in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert bucket.logged() == bucket.stored() == marks([each for batch in batches.values() for each in batch])


class Slow(MemoryBucket):
    """A bucket that holds its first new object until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.go = threading.Event(), threading.Event()

    def put_new(self, key: str, body: bytes | IO[bytes], metadata: Mapping[str, str] | None = None) -> str:
        self.held.set()
        assert self.go.wait(30)
        return super().put_new(key, body, metadata)


def test_all_that_wait_for_the_log_go_into_one_entry() -> None:
    bucket, answers = Slow(), []
    commits = Commits(bucket, FOLDER, "me")
    parts = [Part("append", (stored(f"dt=2026-01-01/p{number}", 0, 4, partition=number),)) for number in range(6)]
    parts[5] = Part("append", (stored("dt=2026-01-01/other", 4, 8, partition=4),))  # meets the one before

    def append(part: Part) -> None:
        answers.append(commits.append(part, Deadline.after(30)))

    threads = [threading.Thread(target=append, args=(part,)) for part in parts]
    threads[0].start()
    assert bucket.held.wait(30)
    for number, thread in enumerate(threads[1:], 1):
        thread.start()
        wait_for(lambda n=number: len(commits._waiting) == n, timeout=30, what="a part to wait")  # type: ignore[misc]
    bucket.go.set()
    for thread in threads:
        thread.join(30)

    assert sorted(answers) == [False, True, True, True, True, True]
    assert [bucket.state().sequence, len(bucket.state().live)] == [2, 5]


def test_a_checkpoint_every_hundred_entries_is_where_the_next_writer_begins() -> None:
    bucket, batch = MemoryBucket(), changes(203)
    worker = writer(bucket)
    for each in batch[:202]:
        write(worker, [each])

    late = bucket.user()
    write(writer(late), batch[202:])

    assert bucket.objects[FOLDER + lake_log.HINT][0].body == b"200\n"
    checkpoint = lake_log.state(bucket.objects[FOLDER + lake_log.checkpoint_name(200)][0].body)
    assert len(checkpoint.live) == 200
    assert late.calls < 15
    seen: list[str] = []
    assert lake_reading.follow(partial(read, bucket, seen)).objects.keys() == bucket.state().live.keys()
    assert len(seen) == 6  # the hint, its checkpoint, three entries and the end
    assert bucket.logged() == marks(batch)
    del bucket.objects[FOLDER + lake_log.checkpoint_name(200)]
    write(writer(bucket.user()), batch)  # every entry is there still
    assert bucket.logged() == bucket.stored() == marks(batch)


class Scale(MemoryBucket):
    """A bucket that watches how much memory Arrow has while objects are put."""

    most = 0

    def put_new(self, key: str, body: bytes | IO[bytes], metadata: Mapping[str, str] | None = None) -> str:
        self.most = max(self.most, pa.total_allocated_bytes())
        return super().put_new(key, body, metadata)


def test_two_thousand_dates_in_one_batch_are_two_thousand_objects_of_one_entry_in_little_memory() -> None:
    bucket, tape = Scale(), Tape()
    batch = [tape.put(parcel(number)) for number in range(4000)]
    batch = [replace(each, committed_us=(each.offset % 2000) * A_DAY_US) for each in batch]

    write(writer(bucket), batch)

    assert [len(bucket.names()), len(bucket.state().live), bucket.state().sequence] == [2000, 2000, 1]
    assert {each.rows for each in bucket.state().live.values()} == {2}
    assert bucket.most < 32 * 1024 * 1024


def test_a_reader_that_knows_a_state_reads_what_follows_it_and_sees_what_the_writer_has() -> None:
    bucket, batch = MemoryBucket(), changes(12)
    write(writer(bucket), batch[:6])
    seen: list[str] = []
    known = lake_reading.follow(partial(read, bucket, seen))
    write(writer(bucket), batch[6:])
    compactor = Compactor(bucket, FOLDER, PARCEL.key)
    compactor.run(compactor.bins(date(2100, 1, 1), 10**9), lambda *_: None)
    del seen[:]

    now = lake_reading.follow(partial(read, bucket, seen), known)

    assert now.objects == {key: each.rows for key, each in bucket.state().live.items()}
    assert seen == [lake_log.entry_name(number) for number in range(known.sequence + 1, now.sequence + 2)]
    assert lake_reading.follow(partial(read, bucket, seen)) == now


def test_a_rejected_change_is_in_no_object_and_the_others_are_logged() -> None:
    bucket, batch = MemoryBucket(), changes(3)
    batch[1] = replace(batch[1], value={**parcel(1), "id": 1.5})

    rejections = writer(bucket).write(batch, timeout=30)

    assert [each.position for each in rejections] == [1]
    assert bucket.logged() == marks([batch[0], batch[2]])


def test_a_change_that_was_parked_and_is_put_back_beside_a_running_worker_is_there_once() -> None:
    bucket, batch = MemoryBucket(), changes(9)
    worker = writer(bucket.user())
    write(worker, [*batch[:2], *batch[3:5]])  # 2 was refused

    back = [writer(bucket.user()).write([batch[2]], timeout=30) for _ in range(2)]
    write(worker, batch[5:])
    again = writer(bucket.user()).write(batch, timeout=30)  # a replay, from before it

    assert [getattr(each, "stale", None) for each in (*back, again)] == [0, 1, 9]
    assert bucket.logged() == bucket.stored() == marks(batch)
