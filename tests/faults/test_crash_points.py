"""Every crash point of the workers, on the real stack: the worker dies there, is started again, and nothing differs.

One pipeline serves all points of the processor, one all points of the sinks, whose three workers die at the same time
at different places. What a round writes is there in all rounds after it, and all of it is compared each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tailrace.crashpoint import Lake, Processor, SinkWorker
from tests.mortal import Parcels, Readings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.crashpoint import CrashPoint
    from tests.providers import RunningStack

WHILE_IT_WORKS = [
    Processor.OUTPUTS_SENT, Processor.OUTPUTS_ACKNOWLEDGED, Processor.LETTERS_ACKNOWLEDGED, Processor.CHANGELOG_SENT,
    Processor.IMAGES_LOGGED, Processor.BATCH_DONE, Processor.OFFSETS_COMMITTED,
]  # fmt: skip
WHILE_IT_STARTS = [Processor.CLAIMS_WRITTEN, Processor.IMAGES_HALF_RESTORED]
ROUNDS: dict[str, dict[str, CrashPoint]] = {
    "half a batch": {
        "dynamodb": SinkWorker.PUTS_HALF_WRITTEN, "search": SinkWorker.BATCH_TAKEN, "lake": Lake.OBJECTS_PUT,
    },
    "between two stores": {
        "dynamodb": SinkWorker.MOVED_NOT_LEFT, "search": SinkWorker.PARKED_SENT, "lake": Lake.ENTRY_PUT,
    },
    "before the offset": {
        "dynamodb": SinkWorker.PARKED_ACKNOWLEDGED, "search": SinkWorker.OFFSET_STORED,
        "lake": SinkWorker.BATCH_WRITTEN,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def readings(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readings]:
    made = Readings(tmp_path_factory.mktemp("readings") / "project", stack.endpoints)
    made.apply()
    made.worker.start()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def parcels(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parcels]:
    made = Parcels(tmp_path_factory.mktemp("parcels") / "project", stack.endpoints)
    for worker in made.workers.values():
        worker.start()
    yield made
    made.remove()


def assert_made_good(readings: Readings) -> None:
    """Start the processor again, use what it knew, and compare."""
    readings.worker.start()
    readings.touch()
    readings.settle()
    assert readings.differences() == []


@pytest.mark.parametrize("point", WHILE_IT_WORKS, ids=lambda point: point.spelled)
def test_a_processor_that_dies_at_a_point_of_a_batch_is_made_good_by_its_next_start(
    readings: Readings, point: CrashPoint
) -> None:
    readings.worker.order(point)
    readings.traffic()
    readings.worker.wait_until_dead()
    assert_made_good(readings)


def test_a_processor_that_dies_twice_while_it_restores_its_images_has_them_all_the_third_time(
    readings: Readings,
) -> None:
    readings.traffic()
    readings.settle()
    readings.worker.end()
    for point in WHILE_IT_STARTS:
        readings.worker.start(point)
        readings.worker.wait_until_dead()
    assert_made_good(readings)


def test_a_processor_that_dies_while_it_leaves_is_made_good_by_its_next_start(readings: Readings) -> None:
    readings.worker.order(Processor.SETTLING)
    readings.traffic()
    readings.worker.ask_to_stop()
    readings.worker.wait_until_dead()
    assert_made_good(readings)


@pytest.mark.parametrize(
    ("point", "name"), [(Processor.TABLE_HELD, "place"), (Processor.CONTRACT_REGISTERED, "spot")], ids=["held", "grown"]
)
def test_a_processor_that_dies_while_a_table_waits_for_its_contract_goes_on_with_it(
    readings: Readings, point: CrashPoint, name: str
) -> None:
    readings.worker.order(point)
    readings.widen(name)
    readings.worker.wait_until_dead()
    assert_made_good(readings)


def crash(parcels: Parcels, points: dict[str, CrashPoint]) -> None:
    """Wait for the death of some workers, start them again, and compare every store."""
    for name in points:
        parcels.workers[name].wait_until_dead()
    for name in points:
        parcels.workers[name].start()
    parcels.settle()
    assert parcels.differences() == []


@pytest.mark.parametrize("points", ROUNDS.values(), ids=ROUNDS)
def test_sinks_that_die_at_a_point_of_a_batch_are_made_good_by_their_next_start(
    parcels: Parcels, points: dict[str, CrashPoint]
) -> None:
    late = [name for name, point in points.items() if point is SinkWorker.PUTS_HALF_WRITTEN]
    for name, point in points.items():
        parcels.workers[name].order(point)
    for name in late:  # it takes a batch of many: they have to be there when it begins
        parcels.workers[name].end()
    parcels.traffic()
    for name in late:
        parcels.workers[name].start(points[name])
    crash(parcels, points)


def test_sinks_that_die_in_the_middle_of_large_values_are_made_good_by_their_next_start(parcels: Parcels) -> None:
    points: dict[str, CrashPoint] = {
        "dynamodb": SinkWorker.VALUE_SPILLED, "search": SinkWorker.BULK_HALF_LANDED, "lake": SinkWorker.BATCH_DURABLE,
    }  # fmt: skip
    for name, point in points.items():
        parcels.workers[name].order(point)
    parcels.large()
    crash(parcels, points)


def test_sinks_that_die_while_they_leave_or_follow_a_contract_are_made_good_by_their_next_start(
    parcels: Parcels,
) -> None:
    points: dict[str, CrashPoint] = {"dynamodb": SinkWorker.DRAINED, "search": SinkWorker.FIELDS_ADDED}
    parcels.workers["search"].order(SinkWorker.FIELDS_ADDED)
    parcels.traffic()
    parcels.settle()
    parcels.workers["dynamodb"].order(SinkWorker.DRAINED)
    parcels.workers["dynamodb"].ask_to_stop()
    parcels.workers["dynamodb"].wait_until_dead()
    parcels.widen()
    crash(parcels, points)
