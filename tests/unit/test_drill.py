"""What a drill decides without servers: what strikes when, when the pipeline is live again, what counts as good."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.control.verify import Check, Report
from tailrace.control.verify.report import Difference
from tailrace.drill import schedule
from tailrace.drill.page import page, picture
from tailrace.drill.report import Found, Struck
from tailrace.drill.schedule import Fault, draw, may_halve_keys
from tailrace.drill.watch import Sample, recovered
from tailrace.errors import UsageError

WORKERS, SERVERS = ["conform", "dynamodb"], ["kafka", "s3"]


@given(st.integers(), st.floats(30, 3600), st.sets(st.sampled_from(schedule.KINDS), min_size=1))
def test_a_seed_draws_the_same_faults_again_and_none_in_the_last_seconds(
    seed: int, seconds: float, kinds: set[str]
) -> None:
    def again() -> list[Fault]:
        return draw(seed, seconds, kinds=sorted(kinds), workers=WORKERS, servers=SERVERS)

    found = again()
    assert found == again()
    assert sum(fault.pause + fault.lasts for fault in found) <= seconds - schedule.FIRST - schedule.LAST
    assert {fault.kind for fault in found} <= kinds
    assert {fault.target for fault in found} <= {*WORKERS, *SERVERS, "connector"}


def test_another_seed_draws_other_faults() -> None:
    one, other = (draw(seed, 600, kinds=schedule.KINDS, workers=WORKERS, servers=SERVERS) for seed in (1, 2))
    assert one != other


def test_a_long_drill_strikes_with_every_kind() -> None:
    found = draw(1, 3600, kinds=schedule.KINDS, workers=WORKERS, servers=SERVERS)
    assert {fault.kind for fault in found} == set(schedule.KINDS)


def test_an_unknown_fault_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        draw(1, 60, kinds=["earthquake"], workers=WORKERS, servers=SERVERS)
    assert schedule.KILL_WORKER in caught.value.hint


@pytest.mark.parametrize(
    ("fault", "halves"),
    [
        (Fault(1, schedule.KILL_SERVER, "kafka", 0), True),
        (Fault(1, schedule.KILL_SERVER, "postgres", 0), True),
        (Fault(1, schedule.RESTART_CONNECTOR, "connector", 0), True),
        (Fault(1, schedule.KILL_SERVER, "s3", 0), False),
        (Fault(1, schedule.KILL_WORKER, "conform", 0), False),
    ],
)
def test_keys_stay_as_they_are_where_a_fault_can_make_debezium_lose_half_of_a_change(
    fault: Fault, *, halves: bool
) -> None:
    assert may_halve_keys([fault]) is halves


def test_live_again_is_two_samples_below_the_limit_after_the_fault_and_before_the_next() -> None:
    samples = [Sample(9, 0.1, 0), Sample(11, 0.1, 0), Sample(12, 30, 900), Sample(14, 1, 3), Sample(15, 0.2, 0)]
    assert recovered(samples, since=10, until=99) == 4
    assert recovered(samples, since=10, until=14.5) is None
    assert recovered(samples, since=14.5, until=99) is None


def good() -> Found:
    return Found(
        1, 60, True,
        struck=[Struck("kill-worker conform", 5, 5, 3.0), Struck("kill-server kafka", 20, 30, None)],
        samples=[Sample(1, 0.0, 0), Sample(6, 12.5, 300), Sample(59, 0.5, 1)],
        balances={"Postgres": "10.00", "DynamoDB": "10.00", "lake": "10.00"},
        verified=Report([Check("public.accounts", "lake", "l", 7)]),
    )  # fmt: skip


def test_only_a_drill_in_which_nothing_went_wrong_is_good() -> None:
    assert good().ok
    found = good()
    found.balances = {**found.balances, "lake": "9.99"}
    assert not found.ok
    found = good()
    found.verified = Report([Check("public.accounts", "lake", "l", 7, [Difference("missing", "1")])])
    found.repaired = Report([Check("public.accounts", "lake", "l", 8)])
    assert not found.ok
    found = good()
    found.parked = {"lake: no reason": 1}
    assert not found.ok
    found = good()
    found.trouble = ["OSError"]
    assert not found.ok
    assert not Found(1, 60, True).ok


def test_the_recovery_counts_the_faults_that_the_next_one_overtook() -> None:
    assert good().recovery() == {"p50": 3.0, "max": 3.0, "overtaken": 1}
    assert Found(1, 60, True).recovery() == {"p50": None, "max": None, "overtaken": 0}


def test_the_picture_is_well_formed_and_names_every_fault() -> None:
    found = good()
    found.struck = [*found.struck, Struck("<odd> & name", 40, 41, 1.0)]
    drawn = ET.fromstring(picture(found))
    texts = [element.text or "" for element in drawn.iter() if element.tag == "text"]
    assert any("kill-worker conform, live again after 3 s" in text for text in texts)
    assert any("<odd> & name" in text for text in texts)
    assert "not equal" not in page(found)
    assert "not equal" in page(Found(1, 60, True))
