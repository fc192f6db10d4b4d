"""What a drill decides without servers: what strikes when, when the pipeline is live again, what counts as good."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.control.verify import Check, Report
from tailrace.control.verify.report import Difference
from tailrace.drill import schedule
from tailrace.drill.page import page, picture
from tailrace.drill.report import Found, Quiet, Struck
from tailrace.drill.schedule import Fault, draw, may_overlap, rests
from tailrace.drill.watch import Sample, recovered
from tailrace.errors import UsageError

WORKERS, SERVERS = ["conform", "dynamodb"], ["kafka", "s3"]
kinds = st.sets(st.sampled_from(schedule.KINDS), min_size=1).map(sorted)


@given(st.integers(), st.floats(30, 3600), kinds)
def test_a_seed_draws_the_same_faults_again_and_none_in_the_last_seconds(
    seed: int, seconds: float, kinds: list[str]
) -> None:
    def again() -> list[Fault]:
        return draw(seed, seconds, kinds=kinds, workers=WORKERS, servers=SERVERS)

    found = again()
    assert found == again()
    assert sum(fault.expected for fault in found) <= seconds - schedule.FIRST - schedule.LAST
    assert {fault.kind for fault in found} <= set(kinds)
    assert {fault.target for fault in found} <= {*WORKERS, *SERVERS, schedule.CONNECTOR, schedule.EVERYBODY}


def test_another_seed_draws_other_faults() -> None:
    one, other = (draw(seed, 600, kinds=schedule.KINDS, workers=WORKERS) for seed in (1, 2))
    assert one != other


@given(st.integers(), st.integers(1, 4), kinds)
def test_a_round_kills_every_worker_and_every_server_and_has_every_other_kind_once(
    seed: int, rounds: int, kinds: list[str]
) -> None:
    found = draw(seed, 0, kinds=kinds, workers=WORKERS, rounds=rounds)
    struck = [(fault.kind, fault.target) for fault in found]
    for kind, targets in ((schedule.KILL_WORKER, WORKERS), (schedule.KILL_SERVER, schedule.SERVERS)):
        for target in targets:
            assert struck.count((kind, target)) == (rounds if kind in kinds else 0)
    for kind in set(kinds) - set(schedule.EACH):
        assert [each for each, _ in struck].count(kind) == rounds


@given(st.integers())
def test_no_target_is_struck_twice_by_a_kind_before_every_target_was(seed: int) -> None:
    found = draw(seed, 0, kinds=[schedule.SILENT], workers=WORKERS, rounds=len(schedule.CARRIED))
    assert {fault.target for fault in found} == set(schedule.CARRIED)


@given(st.integers(), kinds)
def test_only_the_targets_that_are_named_are_struck(seed: int, kinds: list[str]) -> None:
    found = draw(seed, 0, kinds=kinds, workers=WORKERS, servers=SERVERS, rounds=4, only=["dynamodb", "s3"])
    assert {fault.target for fault in found} <= {"dynamodb", "s3"}
    for fault in (schedule.KILL_WORKER, schedule.ZOMBIE, schedule.KILL_SERVER):
        assert (fault in {each.kind for each in found}) is (fault in kinds)


def test_a_target_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError) as caught:
        draw(1, 60, kinds=schedule.KINDS, workers=WORKERS, servers=SERVERS, only=["mongodb"])
    assert caught.value.hint == "Known: conform, dynamodb, kafka, s3."


@given(st.integers(), kinds)
def test_two_faults_at_once_have_different_targets_and_neither_needs_the_other_to_end(
    seed: int, kinds: list[str]
) -> None:
    found = draw(seed, 0, kinds=kinds, workers=WORKERS, rounds=3)
    assert not found or found[-1].then != schedule.BESIDE
    for one, other in pairwise(found):
        if one.then == schedule.BESIDE:
            assert may_overlap(one, other)
            assert other.then != schedule.BESIDE


def test_servers_that_are_somebody_elses_are_never_struck() -> None:
    found = draw(1, 3600, kinds=schedule.KINDS, workers=WORKERS, servers=())
    assert {fault.kind for fault in found} == set(schedule.OF_WORKERS)


def test_an_unknown_fault_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        draw(1, 60, kinds=["earthquake"], workers=WORKERS)
    assert schedule.KILL_WORKER in caught.value.hint


@pytest.mark.parametrize(
    ("fault", "halves"),
    [
        (Fault(schedule.KILL_SERVER, "kafka"), True),
        (Fault(schedule.KILL_SERVER, "postgres"), True),
        (Fault(schedule.RESTART_CONNECTOR, schedule.CONNECTOR), True),
        (Fault(schedule.CUT, "postgres"), True),
        (Fault(schedule.CUT, "kafka"), False),
        (Fault(schedule.KILL_SERVER, "s3"), False),
        (Fault(schedule.KILL_WORKER, "conform"), False),
    ],
)
def test_a_fault_that_reaches_debezium_can_make_it_lose_half_of_a_key_change(fault: Fault, *, halves: bool) -> None:
    assert fault.halves is halves


def test_the_workload_rests_twice_in_a_drill_that_is_long_enough() -> None:
    assert [len(rests(count)) for count in (0, 1, 2, 5, 6, 60)] == [0, 0, 1, 1, 2, 2]
    assert rests(30) == {10, 20}


def test_live_again_is_two_samples_below_the_limit_after_the_fault_and_before_the_next() -> None:
    samples = [Sample(9, 0.1, 0), Sample(11, 0.1, 0), Sample(12, 30, 900), Sample(14, 1, 3), Sample(15, 0.2, 0)]
    assert recovered(samples, since=10, until=99) == 4
    assert recovered(samples, since=10, until=14.5) is None
    assert recovered(samples, since=14.5, until=99) is None


def test_a_worker_that_died_a_second_ago_is_not_live_because_it_is_not_far_behind_yet() -> None:
    dead = [Sample(11, 1.1, 9), Sample(12, 2.1, 99), Sample(13, 3.1, 300)]
    assert recovered([*dead[:1], Sample(11.8, 1.9, 50)], since=10, until=99) is None
    assert recovered([*dead, Sample(20, 0.4, 0), Sample(21, 0.4, 0)], since=10, until=99) == 10


def good() -> Found:
    money = {"Postgres": "10.00", "DynamoDB": "10.00", "lake": "10.00"}
    return Found(
        1, 60, "change", "static",
        struck=[Struck("kill-worker conform", 5, 5, 3.0), Struck("cut kafka", 20, 30, None, 12)],
        samples=[Sample(1, 0.0, 0), Sample(6, 12.5, 300), Sample(59, 0.5, 1)],
        quiet=[Quiet(12, 3, money)],
        counted={"lake": {"lives": 2, "records": 100, "stale": 3}},
        duplicates={"raw records": 100, "sent again by Debezium": 7},
        balances=money,
        verified=Report([Check("public.accounts", "lake", "l", 7)]),
    )  # fmt: skip


def test_only_a_drill_in_which_nothing_went_wrong_is_good() -> None:
    assert good().ok
    found = good()
    found.balances = {**found.balances, "lake": "9.99"}
    assert not found.ok
    found = good()
    found.quiet = [*found.quiet, Quiet(20, 3, {"Postgres": "10.00", "lake": "9.99"})]
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
    assert not Found(1, 60, "change").ok


def test_a_project_that_is_no_bank_is_judged_without_money() -> None:
    found = good()
    found.balances, found.quiet = {}, []
    assert found.ok


def test_the_recovery_counts_the_faults_that_the_next_one_overtook() -> None:
    assert good().recovery() == {"p50": 3.0, "max": 3.0, "overtaken": 1}
    assert Found(1, 60, "change").recovery() == {"p50": None, "max": None, "overtaken": 0}


def test_the_picture_is_well_formed_and_names_every_fault() -> None:
    found = good()
    found.struck = [*found.struck, Struck("<odd> & name", 40, 41, 1.0)]
    drawn = ET.fromstring(picture(found))
    texts = [element.text or "" for element in drawn.iter() if element.tag == "text"]
    assert any("kill-worker conform, live again after 3 s" in text for text in texts)
    assert any("<odd> & name" in text for text in texts)
    assert "quiet" in texts


def test_the_page_says_what_came_twice_what_each_worker_counted_and_what_met_a_fault() -> None:
    said = page(good())
    assert "not equal" not in said
    for words in ("sent again by Debezium", "<td>lake</td><td>2</td><td>100</td><td>3</td>", "<td>12</td>"):
        assert words in said
    assert "not equal" in page(Found(1, 60, "change"))
