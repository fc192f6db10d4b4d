"""Epochs: which one an offset belongs to, what the next one begins with, and when a worker may not go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import contract, version
from tailrace.change import VERSION
from tailrace.epoch import RESETTING, Ages, Epoch
from tailrace.errors import Refused, Unreachable
from tailrace.health import Health
from tailrace.stream.conform import Conformer, TablePlan
from tailrace.stream.handler import ConformHandler
from tests.raw import READING_SCHEMA, message, payload, reading
from tests.unit.test_conform_handler import Record, TroubledOutbox

FIRST = Epoch(1, "slot", "7", {"raw": "a", "out": "b"}, {"raw": 2, "out": 2}, timeline=1)


def test_a_topic_without_a_boundary_is_of_the_first_epoch() -> None:
    assert FIRST.ages("raw").at(1, 10**9) == 1


def test_offsets_below_the_bump_keep_their_epoch_and_those_from_it_on_get_the_new_one() -> None:
    second = FIRST.followed(FIRST, {"raw": [100, 7]})
    ages = second.ages("raw")
    assert (second.epoch, second.phase) == (2, RESETTING)
    assert [ages.at(0, offset) for offset in (0, 99, 100, 101)] == [1, 1, 2, 2]
    assert [ages.at(1, offset) for offset in (6, 7)] == [1, 2]


def test_each_of_several_epochs_keeps_its_offsets() -> None:
    third = FIRST.followed(FIRST, {"raw": [100, 7]}).followed(FIRST, {"raw": [150, 7]})
    ages = third.ages("raw")
    assert [ages.at(0, offset) for offset in (99, 100, 149, 150)] == [1, 2, 2, 3]
    assert [ages.at(1, offset) for offset in (6, 7)] == [1, 3]


def test_a_recreated_topic_begins_anew_at_its_first_record() -> None:
    second = FIRST.followed(FIRST, {"raw": [100, 7]})
    fresh = replace(second, topics={"raw": "another", "out": "b"})
    third = second.followed(fresh, {"raw": [5, 0]})
    assert third.begins["3"] == {"raw": [0, 0]}
    assert "raw" not in third.begins["2"]
    assert [third.ages("raw").at(0, offset) for offset in (0, 4, 5)] == [3, 3, 3]


def test_partitions_that_were_added_are_of_the_epoch_they_came_with() -> None:
    second = FIRST.followed(replace(FIRST, partitions={"raw": 4, "out": 4}), {"raw": [100, 7, 0, 0]})
    assert second.partitions == {"raw": 4, "out": 4}
    assert [second.ages("raw").at(partition, 0) for partition in range(4)] == [1, 1, 2, 2]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6), st.integers(0, 1100), st.integers(0, 1100))
def test_versions_of_a_partition_never_go_backwards(bumps: list[int], one: int, other: int) -> None:
    ages = Ages([(number + 2, [offset]) for number, offset in enumerate(sorted(bumps))])
    low, high = sorted((one, other))
    assert version.pack(ages.at(0, low), low) <= version.pack(ages.at(0, high), high)


def test_a_conformed_record_has_the_version_of_its_raw_records_epoch() -> None:
    plan = TablePlan("raw", "out", contract.build("reading", READING_SCHEMA, where="reading"), 7)
    conformer = Conformer([plan], epoch=2, worker="conform", ages={"raw": Ages([(2, [1])])})
    records: list[Any] = [Record(number, message(payload("c", after=reading(number)))) for number in range(3)]
    versions = [int(dict(output.headers)[VERSION] or b"") for output in conformer.batch("raw", 0, records).outputs]
    assert versions == [version.pack(1, 0), version.pack(2, 1), version.pack(2, 2)]


@pytest.mark.parametrize(
    ("ids", "counts", "said"),
    [
        ({"raw": "a"}, {"raw": 2}, ["out is gone"]),
        ({"raw": "x", "out": "b"}, {"raw": 2, "out": 2}, ["raw was recreated"]),
        ({"raw": "a", "out": "b"}, {"raw": 2, "out": 3}, ["out has 3 partitions instead of 2"]),
        ({"raw": "a", "out": "b"}, {"raw": 2, "out": 2}, []),
    ],
)
def test_what_is_not_as_recorded_is_named(ids: dict[str, str], counts: dict[str, int], said: list[str]) -> None:
    assert FIRST.differences(ids, counts) == said


def test_a_processor_asks_once_per_assignment_whether_its_epoch_still_is_the_one() -> None:
    answers: list[Exception | None] = [Unreachable("away"), None, Refused("a new epoch")]
    outbox = TroubledOutbox(None, None)

    def confirm() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    async def give() -> None:
        plan = TablePlan("raw", "out", contract.build("reading", READING_SCHEMA, where="reading"), 7)
        conformer = Conformer([plan], epoch=1, worker="conform")
        stop = asyncio.Event()
        handler = ConformHandler(
            conformer, outbox, health=Health("conform"), letters_to="dlq", stop=stop, confirm=confirm
        )
        records = [Record(0, message(payload("c", after=reading(0))))]
        handler.turn(3)
        assert await handler.batch("raw", 0, records)  # the first answer did not come: it asked again
        assert await handler.batch("raw", 0, records)
        assert len(answers) == 1
        handler.turn(0)  # revoked
        handler.turn(3)
        with pytest.raises(Refused, match="a new epoch"):
            await handler.batch("raw", 0, records)

    asyncio.run(give())
    assert [topic for topic, _ in outbox.sent] == ["out", "out"]
