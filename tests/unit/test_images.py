"""What is restored, refused and passed over, one case each; and what a changelog says when it is read back."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace import deadletter, version
from tailrace.errors import Rejected
from tailrace.source.envelope import Sent as Event
from tailrace.source.envelope import Shape
from tailrace.source.unchanged import Placeholder
from tailrace.stream.changelog import CLAIM, Rebuild, entries
from tailrace.stream.images import OLD_KEY, Images
from tailrace.stream.state import Moved, States
from tests.cluster import (
    CHANGELOG,
    CONTRACT,
    LETTERS,
    OUT,
    PARKED,
    RAW,
    STAND_IN,
    Cluster,
    DictStore,
    ListLibrary,
    ListOutbox,
    Record,
    Worker,
)
from tests.raw import READING_COLUMNS, connect_schema, message, payload, reading

LONG, OTHER = "a" * 3000, "b" * 3000
KEY = b'{"id":1}'


def records(*changes: tuple[str, str | None]) -> list[Record]:
    """Return raw records of the row 1: each is an op and the note after it."""
    made = []
    for offset, (op, note) in enumerate(changes):
        after = None if op == "d" else reading(1, note=note, value=f"{offset}.0000")
        before = {**dict.fromkeys(reading(1)), "id": 1} if op == "d" else None
        made.append(Record(offset, KEY, message(payload(op, before=before, after=after))))
    return made


def notes(cluster: Cluster) -> list[str | None]:
    """Return what was sent: the note of each output, None for a delete."""
    return [None if found.value is None else CONTRACT.decode(found.value)["note"] for found in cluster.topics[OUT]]


def reasons(cluster: Cluster) -> list[str]:
    return [
        deadletter.read(found.key, found.value, list(found.headers.items())).reason for found in cluster.topics[PARKED]
    ]


def test_an_unchanged_value_is_the_last_one_that_was_sent() -> None:
    cluster = Cluster()
    given = records(("c", LONG), ("u", STAND_IN), ("u", OTHER), ("u", STAND_IN), ("d", None), ("c", LONG))
    Worker(cluster).work(given, 100)
    assert notes(cluster) == [LONG, LONG, OTHER, OTHER, None, LONG]
    assert not cluster.topics[PARKED]


def test_without_an_image_a_row_is_parked_with_what_to_do_and_the_next_whole_one_heals() -> None:
    cluster = Cluster()
    Worker(cluster).work(records(("u", STAND_IN), ("r", LONG), ("u", STAND_IN)), 1)
    assert notes(cluster) == [LONG, LONG]
    (reason,) = reasons(cluster)
    assert "The column note was not sent" in reason
    assert "snapshot" in reason
    assert "REPLICA IDENTITY FULL" in reason


def test_a_table_that_keeps_no_images_parks_what_was_not_sent() -> None:
    cluster = Cluster()
    Worker(cluster, keeps=False).work(records(("c", LONG), ("u", STAND_IN)), 100)
    assert notes(cluster) == [LONG]
    assert "tailrace apply" in reasons(cluster)[0]


def test_a_row_that_became_short_or_could_not_be_read_leaves_no_image_behind() -> None:
    for between in (records(("u", "short"))[0], Record(0, KEY, b"not json")):
        cluster = Cluster()
        given = [*records(("c", LONG)), between, *records(("u", STAND_IN))]
        Worker(cluster).work([Record(at, found.key, found.value) for at, found in enumerate(given)], 100)
        assert "was not sent" in reasons(cluster)[-1]
        assert LONG not in notes(cluster)[1:]


def test_a_row_that_is_refused_for_another_reason_still_leaves_its_image() -> None:
    cluster = Cluster()
    given = records(("c", LONG), ("u", OTHER), ("u", STAND_IN))
    assert given[1].value is not None
    given[1].value = given[1].value.replace(b'"1.0000"', b'"1.00000000"')
    Worker(cluster).work(given, 100)
    assert notes(cluster) == [LONG, OTHER]
    assert len(cluster.topics[PARKED]) == 1


def test_a_record_processed_again_never_gets_a_value_from_its_future() -> None:
    cluster = Cluster()
    given = records(("c", LONG), ("u", STAND_IN), ("u", OTHER), ("u", "short"), ("d", None))
    Worker(cluster).work(given, 1)
    for back in range(len(given)):
        cluster.topics[OUT].clear()
        cluster.committed = back
        Worker(cluster).work(given, 2)
        assert (
            notes(cluster)
            == ([LONG, LONG, OTHER, "short", None] if back == 0 else [OTHER, "short", None])[-(len(given) - back) :]
        )
    assert not cluster.topics[PARKED]


def test_a_change_of_the_primary_key_with_an_unsent_value_is_parked_and_a_whole_one_is_not() -> None:
    cluster = Cluster()
    moved = records(("c", STAND_IN), ("c", LONG), ("u", STAND_IN))
    moved[0].headers = [(OLD_KEY, b"Struct{id=9}")]
    Worker(cluster).work(moved, 100)
    assert notes(cluster) == [LONG, LONG]
    assert len(reasons(cluster)) == 1


def test_images_of_another_epoch_are_not_used() -> None:
    cluster = Cluster()
    Worker(cluster).work(records(("c", LONG)), 1)
    Worker(cluster, epoch=2).work(records(("c", LONG), ("u", STAND_IN)), 1)
    assert notes(cluster) == [LONG]
    assert len(reasons(cluster)) == 1


def test_a_short_table_costs_no_message_in_the_changelog() -> None:
    cluster = Cluster()
    Worker(cluster).work(records(("c", "short"), ("u", "other"), ("d", None)), 1)
    assert [found.key for found in cluster.topics[CHANGELOG]] == [CLAIM]


def test_what_a_process_writes_after_it_lost_its_partition_is_never_restored() -> None:
    cluster = Cluster()
    old = Worker(cluster)
    old.work(records(("c", LONG)), 1)
    new = Worker(cluster)
    new.work(records(("c", LONG), ("u", OTHER)), 1)
    old.effect.give(RAW, 0, records(("c", LONG)))  # the old one wakes up and does not know
    for _ in range(2):
        cluster.compact()
        Worker(cluster).work([*records(("c", LONG), ("u", OTHER), ("u", STAND_IN))], 1)
        assert OTHER not in notes(cluster)[-1:]
        assert LONG not in notes(cluster)[4:]
        assert "was not sent" in reasons(cluster)[-1]
        cluster.committed = 2


def test_a_partition_that_comes_back_is_read_on_from_where_it_was_taken() -> None:
    cluster = Cluster()
    first, second = Worker(cluster), Worker(cluster)
    given = records(("c", LONG), ("u", OTHER), ("u", STAND_IN), ("u", LONG), ("u", STAND_IN))
    for worker, until in ((first, 1), (second, 2), (first, 3), (second, 4), (first, 5)):
        worker.states.own([(RAW, 0)])
        worker.work(given[:until], 1)
        worker.states.own(())
        worker.states.release()
    assert notes(cluster) == [LONG, OTHER, OTHER, LONG, LONG]
    with pytest.raises(Moved):
        first.effect.give(RAW, 0, given)


def test_all_partitions_are_claimed_before_any_is_read_and_each_is_there_when_its_last_part_was() -> None:
    cluster, log = Cluster(), []

    class Logged(ListOutbox):
        def send(self, topic: str, **given: Any) -> None:
            log.append(("claim", given["partition"]))
            super().send(topic, **{**given, "partition": 0})

    class Many(ListLibrary):
        def store(self, place: tuple[str, int]) -> DictStore:
            assert place[0] == RAW
            return DictStore(self._cluster)

        def read(self, begins: Any) -> Any:
            for number, (place, _) in enumerate(begins.items()):
                log.append(("read", place[1]))
                found = cluster.topics[CHANGELOG][number]
                yield place, [(found.offset, found.key, found.value)], True

    states = States({RAW: CHANGELOG}, Many(cluster), Logged(cluster))
    states.own([(RAW, 0), (RAW, 1), (RAW, 2)])
    assert states.of(RAW, 1) is not None
    assert log == [*(("claim", each) for each in range(3)), ("read", 0), ("read", 1)]
    assert not states.ready
    states.restore()
    assert states.ready
    assert log[5:] == [("read", 2)]


def test_a_process_is_ready_when_every_partition_of_its_own_is_restored() -> None:
    worker = Worker(Cluster())
    assert not worker.states.ready
    assert worker.states.own([(RAW, 0), ("another", 4)]) == [(RAW, 0)]
    worker.states.of(RAW, 0)
    assert worker.states.ready
    assert worker.states.of("another", 4) is None


def test_a_changelog_tells_the_last_image_of_each_key_and_how_far_all_is_done() -> None:
    rebuild = Rebuild(b"mine")
    written = [
        (CLAIM, b"mine"),
        *entries(0, 9, {b"k": b"old", b"l": b"there"}),
        *entries(0, 7, {b"k": b"new", b"l": None}),
    ]
    rebuild.take([(offset, key, value) for offset, (key, value) in enumerate(written)])
    assert rebuild.changes == {b"k": b"new", b"l": None}
    assert (rebuild.mine, rebuild.through, rebuild.next, rebuild.lost) == (0, 9, len(written), set())


def test_a_column_that_changed_its_kind_is_not_restored_from_the_old_one() -> None:
    images, cluster = Images(DictStore(Cluster())), Placeholder(LETTERS)
    text = Shape.of_schema(connect_schema(READING_COLUMNS), cluster)
    columns = [{**found, "type": "bytes"} if found["field"] == "note" else found for found in READING_COLUMNS]
    data = Shape.of_schema(connect_schema(columns), cluster)
    images.settle(KEY, version.pack(1, 0), Event("c", reading(1, note=LONG), (), text, 4000))
    row: dict[str, Any] = reading(1, note="?")
    with pytest.raises(Rejected, match="note"):
        images.settle(KEY, version.pack(1, 1), Event("u", row, ("note",), data, 900))
