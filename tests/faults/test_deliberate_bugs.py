"""The proof can fail: with a deliberate bug the same crash and the same comparison end in differences.

Each bug is one function of the engine, changed in the worker's process alone (tests/bugs). The scenes are those in
which the engine as it is comes out equal, here or in test_crash_points.py.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tailrace.crashpoint import Processor, SinkWorker
from tailrace.deadline import wait_for
from tailrace.testing import parcel
from tests.conformed import PARTITIONS
from tests.mortal import Mortal, Parcels, Readings, with_bug

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.providers import RunningStack


@contextmanager
def parcels_with(bug: str, stack: RunningStack, folder: Path, *only: str) -> Iterator[Parcels]:
    """Give sink workers that have a bug."""
    made = Parcels(folder / "project", stack.endpoints, only, bug)
    try:
        for worker in made.workers.values():
            worker.start()
        yield made
    finally:
        made.remove()


@contextmanager
def readings_with(bug: str, stack: RunningStack, folder: Path) -> Iterator[Readings]:
    """Give a processor that has a bug."""
    made = Readings(folder / "project", stack.endpoints, bug)
    made.apply()
    try:
        made.worker.start()
        yield made
    finally:
        made.remove()


def test_an_offset_committed_before_its_batch_is_written_is_a_difference_in_every_store(
    stack: RunningStack, tmp_path: Path
) -> None:
    with parcels_with("offset-before-write", stack, tmp_path, "dynamodb", "search", "lake") as parcels:
        for worker in parcels.workers.values():
            worker.order(SinkWorker.BATCH_TAKEN)
        parcels.traffic()
        for worker in parcels.workers.values():
            worker.wait_until_dead()
            worker.start()
        parcels.settle()
        found = parcels.differences()
    assert {line.partition(":")[0] for line in found if line.endswith("is missing")} == {"dynamodb", "search", "lake"}


def test_a_letter_that_nobody_waits_for_is_a_difference_after_a_kill(stack: RunningStack, tmp_path: Path) -> None:
    with parcels_with("letter-not-awaited", stack, tmp_path, "search") as parcels:
        parcels.traffic()
        parcels.settle()
        parcels.workers["search"].end()
        parcels.workers["search"].start()
        parcels.settle()
        assert parcels.differences() == ["search: not parked: poison 300"]


@pytest.mark.parametrize("bug", ["", "unguarded-put"])
def test_a_put_without_its_guard_is_a_difference_after_a_zombie_has_woken_up(
    stack: RunningStack, tmp_path: Path, bug: str
) -> None:
    numbers = range(0, 20 * PARTITIONS, PARTITIONS)
    with parcels_with(bug, stack, tmp_path, "dynamodb") as parcels:
        zombie = parcels.workers["dynamodb"]
        zombie.order(SinkWorker.BATCH_TAKEN, "stop")
        parcels.send([parcels.put(parcel(number, note="old")) for number in numbers])
        sleeping = zombie.wait_until_stopped()
        successor = Mortal(parcels.folder, "sink", "dynamodb", **with_bug(bug))
        try:
            successor.start()  # the same static member: the group is its at once
            parcels.send([parcels.put(parcel(number, note="new"), before=parcels.rows[number]) for number in numbers])
            parcels.settle()
            assert parcels.differences() == []
            sleeping.resume()
            wait_for(lambda: zombie.process and zombie.process.poll() is not None, timeout=60, what="the zombie's end")
            found = parcels.differences()
        finally:
            successor.end()
    assert bool(found) is bool(bug), found
    assert all(line.endswith("is different") for line in found)


def test_images_that_are_not_in_the_changelog_are_a_difference_after_a_kill(
    stack: RunningStack, tmp_path: Path
) -> None:
    with readings_with("state-without-changelog", stack, tmp_path) as readings:
        readings.worker.order(Processor.OFFSETS_COMMITTED)
        readings.traffic()
        readings.worker.wait_until_dead()
        readings.worker.start()
        readings.touch()
        readings.settle()
        found = readings.differences()
    assert any("was not sent: its TOAST value is unchanged" in line for line in found), found
    assert any("is different" in line for line in found), found
