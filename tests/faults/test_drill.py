"""A whole drill as `tailrace drill` runs it, of one round: everything is killed, stopped, cut off and scaled once.

It strikes the servers of the tests' stack and workers of its own. The schedule is drawn from a seed as any other; what
it has to contain is asserted, so that no part can fall out unseen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tailrace.cli.drill import write
from tailrace.drill import schedule
from tailrace.drill.ground import behind_proxies
from tailrace.drill.live import SETTLES_WITHIN
from tailrace.drill.run import Drill, Options
from tests import bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.drill.report import Found
    from tests.providers import RunningStack

pytestmark = pytest.mark.timeout(900)  # the first test waits for the whole drill
SEED = 81256  # a schedule that is soon through, with no fault on the way to the registry, which next to nobody calls
WORKERS = ("conform", "dynamodb", "lake", "search")
RATE = 25.0  # changes of the traffic a second; the rough ones add half of that
LARGE = 5_000  # rows of one transaction


@pytest.fixture(scope="module")
def found(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    assert stack.embedded is not None, "only servers of our own can be killed"
    made = bank.copy(stack, tmp_path_factory.mktemp("bank"), "drill")
    made.must("demo", "seed", "--customers", "200")
    drill = Drill(Options(made.folder, SEED, 0.0, RATE, large=LARGE, rounds=1, patience=10.0), print)
    with behind_proxies(made.load(), stack.embedded, number=SEED) as ground:
        done = drill.run(ground)
        write(done, made.folder / "report")
        yield done
    made.remove()


def test_every_worker_and_server_was_killed_and_every_other_fault_struck(found: Found) -> None:
    struck = {fault.name for fault in found.struck}
    assert {f"{schedule.KILL_WORKER} {worker}" for worker in WORKERS} <= struck
    assert {f"{schedule.KILL_SERVER} {server}" for server in schedule.SERVERS} <= struck
    assert {name.split()[0] for name in struck} == set(schedule.KINDS)


def test_every_store_is_equal_row_for_row_after_all_of_it(found: Found) -> None:
    assert found.trouble == []
    assert found.verified is not None
    assert found.verified.ok, found.verified.as_dict()
    assert found.parked == {}
    assert found.ok


def test_no_money_came_or_went_in_any_store_while_it_lasted(found: Found) -> None:
    assert [sorted(moment.balances) for moment in found.quiet] == [["DynamoDB", "Postgres", "lake"]] * 2
    assert all(moment.ok for moment in found.quiet), found.quiet


def test_the_workload_was_as_rough_as_it_says(found: Found) -> None:
    rough, traffic = found.committed["rough"], found.committed["traffic"]
    assert rough["rows in one transaction"] == LARGE
    assert {"hot key", "delete and insert again", "long value", "beside a long value", "COPY"} <= set(rough)
    assert {"change customer key", "change account key", "transfer", "delete customer"} <= set(traffic)


def test_the_lag_was_watched_and_everything_arrived_in_time_whenever_the_workload_rested(found: Found) -> None:
    assert len(found.samples) > len(found.struck)
    assert all(moment.seconds < SETTLES_WITHIN for moment in found.quiet)
    assert found.quiet_seconds < SETTLES_WITHIN


def test_every_bad_way_was_met_by_somebody(found: Found) -> None:
    assert [fault.name for fault in found.struck if fault.met == 0] == []


def test_what_the_workers_counted_is_known_over_all_their_lives(found: Found) -> None:
    assert set(found.counted) == set(WORKERS)
    for worker, counts in found.counted.items():
        assert counts["lives"] >= 2, worker  # killed alone and with all others, which may be within one second
        assert counts["records"] > 0, worker
        assert counts["dead letters"] == 0, worker
    assert found.duplicates["conformed records"] > LARGE
