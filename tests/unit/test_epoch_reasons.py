"""What ends an epoch, and what casts doubt on it: one judgement for `check`, `plan`, `status` and `epoch bump`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tailrace import epoch
from tailrace.control.checks import epochs as checks
from tailrace.control.epochs import Facts, Reason, Verdict, reasons
from tailrace.epoch import Epoch
from tailrace.source.lineage import Lineage, SlotPosition
from tailrace.source.signals import COMPLETED, INCREMENTAL, INITIAL, SKIPPED, STARTED, Notice

RECORDED = Epoch(2, "slot", "7", {"raw": "a", "out": "b", "old": "c"}, {"raw": 3, "out": 3, "old": 1}, timeline=1)
SLOT = SlotPosition(active=True, wal_status="reserved", confirmed=900, failover=False)
SERVER = Lineage("7", 1, 2000, SLOT)
GOOD = Facts(
    RECORDED, RECORDED, SERVER, {"lsn_proc": 1000, "lsn": 990}, known=True, streamed=True, needed=("raw", "out")
)


def only(facts: Facts) -> Reason:
    (found,) = reasons(facts)
    return found


def notice(kind: str, aggregate: str = INITIAL) -> Notice:
    return Notice("id", aggregate, kind)


def test_an_epoch_that_holds_has_nothing_against_it() -> None:
    assert reasons(GOOD) == []


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(GOOD, now=replace(RECORDED, topics={**RECORDED.topics, "raw": "x"})), "raw was recreated"),
        (replace(GOOD, now=replace(RECORDED, topics={"raw": "a"})), "out is gone"),
        (replace(GOOD, now=replace(RECORDED, partitions={**RECORDED.partitions, "raw": 6})), "raw has 6 partitions"),
        (replace(GOOD, now=replace(RECORDED, slot="other")), "slot: slot -> other"),
        (replace(GOOD, server=replace(SERVER, system_identifier="8")), "another one"),
        (replace(GOOD, server=replace(SERVER, timeline=2)), "timeline 2, this epoch began on 1"),
        (replace(GOOD, server=replace(SERVER, slot=None)), "is gone"),
        (replace(GOOD, server=replace(SERVER, slot=replace(SLOT, wal_status="lost"))), "is lost"),
        (replace(GOOD, server=replace(SERVER, slot=replace(SLOT, confirmed=1001))), "begins 1 bytes after"),
        (replace(GOOD, server=replace(SERVER, position=999)), "restored"),
        (replace(GOOD, offset=None, notices=[notice(STARTED), notice(COMPLETED)]), "has no offset"),
    ],
)
def test_what_makes_versions_lie_or_changes_missing_ends_the_epoch(facts: Facts, said: str) -> None:
    found = only(facts)
    assert found.hard
    assert said in found.said


@pytest.mark.parametrize(
    "facts",
    [
        replace(GOOD, now=replace(RECORDED, topics={"raw": "a", "out": "b"})),  # a table left the project
        replace(GOOD, recorded=replace(RECORDED, timeline=0)),  # written by a release that did not know timelines
        replace(GOOD, server=replace(SERVER, timeline=2, slot=replace(SLOT, failover=True))),  # standby with the slot
        replace(GOOD, offset={"lsn": 5, "snapshot": "INITIAL"}),  # a snapshot is running
        replace(GOOD, offset=None),  # the first snapshot has begun and nothing is committed yet
        replace(GOOD, offset=None, streamed=False, server=replace(SERVER, slot=None)),  # nothing began yet
        replace(GOOD, offset=None, known=False, notices=[notice(STARTED), notice(COMPLETED)]),  # apply puts it back
        replace(GOOD, notices=[notice(STARTED), notice(COMPLETED), notice(SKIPPED), notice(STARTED, INCREMENTAL)]),
    ],
)
def test_what_loses_nothing_does_not_end_the_epoch(facts: Facts) -> None:
    assert reasons(facts) == []


def test_a_snapshot_that_was_taken_again_casts_doubt_and_forbids_nothing() -> None:
    found = only(replace(GOOD, notices=[notice(STARTED), notice(STARTED), notice(COMPLETED)]))
    assert not found.hard
    assert "2 times" in found.said


def test_an_epoch_without_its_sweep_is_not_finished() -> None:
    found = only(replace(GOOD, recorded=replace(RECORDED, phase=epoch.SNAPSHOT)))
    assert (found.hard, found.said) == (False, "epoch 2 has begun and is not finished: no sweep yet")


def test_check_names_the_one_command_that_mends_it() -> None:
    verdict = Verdict(2, (Reason("the slot is gone"), Reason("doubt", hard=False)))
    error, warning = checks.check(verdict)
    assert (error.severity, error.what) == ("error", "Epoch 2 of the pipeline has ended.")
    assert (error.detail, warning.severity) == ("the slot is gone.", "warning")
    assert "`tailrace epoch bump`" in error.hint
    assert [finding.severity for finding in checks.check(None)] == ["note"]
    assert list(checks.check(Verdict(1))) == []


@pytest.mark.parametrize("offset", [{"lsn": 5}, {}, None])
def test_a_slot_that_is_gone_ends_the_epoch_whatever_connect_says(offset: Any) -> None:
    assert only(replace(GOOD, offset=offset, server=replace(SERVER, slot=None))).hard
