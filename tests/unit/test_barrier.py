"""The pure parts of the barrier: what has to be passed, what lacks, what a source offset covers."""

from __future__ import annotations

from tailrace.control.barrier import in_the_way, lacking, needs, position, to_go
from tailrace.control.local import Held, LocalWorker


def test_a_partition_that_holds_nothing_asks_for_nothing() -> None:
    ends = {("t", 0): 0, ("t", 1): 5, ("t", 2): 7}
    starts = {("t", 0): 0, ("t", 1): 5, ("t", 2): 0}

    assert needs(ends, starts) == {("t", 2): 7}


def test_a_group_lacks_what_it_has_not_committed_or_not_far_enough() -> None:
    needed = {("t", 0): 3, ("t", 1): 3, ("t", 2): 3}

    assert lacking(needed, {("t", 0): 3, ("t", 1): 2, ("t", 2): -1001}) == {("t", 1): 3, ("t", 2): 3}
    assert lacking(needed, dict.fromkeys(needed, 4)) == {}


def test_what_is_to_go_is_counted_from_the_committed_offset_or_the_first_that_is_kept() -> None:
    left, starts = {("t", 0): 10, ("t", 1): 10, ("t", 2): 10}, {("t", 0): 0, ("t", 1): 4, ("t", 2): 4}

    assert to_go(left, {("t", 0): 7, ("t", 1): -1001}, starts) == 3 + 6 + 6


def test_an_offset_covers_the_further_of_its_two_positions() -> None:
    assert position({"lsn": 10, "lsn_proc": 8}) == 10
    assert position({"lsn": "7", "lsn_proc": 8}) == 8
    assert position({}) == -1


def test_the_offset_of_a_running_snapshot_covers_nothing() -> None:
    assert position({"lsn": 10, "lsn_proc": 10, "snapshot": "INITIAL"}) == -1


def test_a_held_table_is_in_the_way_only_of_a_partition_of_its_own_that_was_not_passed() -> None:
    held = Held("public.orders", "problem", "hint", "why", (1,))
    worker = LocalWorker("conform", 7, ready=True, doing="", supervised=False, held={"raw": held})

    assert in_the_way(worker, {("raw", 1): 5}) is held
    assert in_the_way(worker, {("raw", 0): 5, ("other", 1): 5}) is None
    assert in_the_way(None, {("raw", 1): 5}) is None
