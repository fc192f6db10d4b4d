"""The reference project from migrations to verify, by its commands, on real servers and live traffic."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import aws
from tailrace.control import barrier
from tailrace.control.verify import verify
from tailrace.deadline import wait_for
from tailrace.demo import lookups
from tailrace.demo.probe import Probe
from tailrace.targets import SearchIndex
from tests import bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bank import Bank
    from tests.providers import RunningStack

CUSTOMERS = 300
WAIT = 120.0


@pytest.fixture(scope="module")
def running(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    made = bank.copy(stack, tmp_path_factory.mktemp("bank"), "shore")
    made.must("demo", "seed", "--customers", str(CUSTOMERS))
    made.must("apply", "--yes")
    with made.running("run", "all"):
        yield made
    made.remove()


def test_traffic_arrives_in_every_store_and_verify_finds_all_equal(running: Bank) -> None:
    traffic = running.json("demo", "traffic", "--seconds", "10", "--rate", "150", "--seed", "7")
    assert traffic["balance_before"] == traffic["balance_after"]
    assert traffic["changes"] > 700
    report = running.json("verify", timeout=WAIT + 60)
    assert report["ok"], report
    assert equal(report, "customers") == dict.fromkeys(("dynamodb", "lake", "search"), count(running, "customers"))
    assert equal(report, "accounts") == dict.fromkeys(("dynamodb", "lake"), count(running, "accounts"))
    assert equal(report, "transfers") == {"lake": count(running, "transfers")}


def test_verify_finds_all_equal_while_the_traffic_goes_on(running: Bank) -> None:
    loaded = running.load()
    with running.running("demo", "traffic", "--rate", "100", "--seed", "8") as traffic:
        report = verify(loaded, wait=lambda: barrier.cross(loaded, timeout=WAIT))
        assert traffic.poll() is None
    assert report.ok, report.as_dict()
    assert traffic.returncode == 0


def test_a_probe_sees_its_marks_in_every_store(running: Bank) -> None:
    probe = Probe(running.load())
    probe.start()
    barrier.cross(running.load(), timeout=WAIT)
    for measured in probe.finish():
        assert measured.missed == 0, measured.store
        assert len(measured.seconds) >= 3, measured.store
        assert 0 < measured.percentile(0.5) <= measured.percentile(0.99)
    assert running.query("select from customers where name like 'probe%'") == []


def test_a_customer_with_all_accounts_is_one_query(running: Bank) -> None:
    barrier.cross(running.load(), timeout=WAIT)
    ((customer, accounts),) = running.query(
        "select customer_id, count(*) from accounts group by customer_id order by 2 desc, 1 limit 1"
    )
    answer = lookups.customer_with_accounts(running.load(), customer).answer
    assert answer[0].startswith("PROFILE")
    assert len(answer) == 1 + accounts


def test_the_preferred_customers_are_one_query_on_an_index(running: Bank) -> None:
    loaded = running.load()
    barrier.cross(loaded, timeout=WAIT)
    with closing(aws.client("dynamodb", loaded.endpoints.dynamodb)) as client:
        pages = client.get_paginator("query").paginate(
            TableName=running.name,
            IndexName="preferred",
            KeyConditionExpression="preferred_pk = :all",
            ExpressionAttributeValues={":all": {"S": "PREFERRED"}},
        )
        found = {int(item["id"]["N"]) for page in pages for item in page["Items"]}
    assert found == {key for (key,) in running.query("select id from customers where preferred")}
    assert found


def test_a_search_by_city_finds_those_who_live_there(running: Bank) -> None:
    barrier.cross(running.load(), timeout=WAIT)
    ((city, living),) = running.query(
        "select address ->> 'city', count(*) from customers where address ->> 'city' is not null"
        " group by 1 order by 2 desc, 1 limit 1"
    )
    assert lookups.customers_in(running.load(), city).answer[0] == f"{living} hits, the first:"


def test_a_query_on_the_lake_adds_up_to_what_the_bank_booked(running: Bank) -> None:
    barrier.cross(running.load(), timeout=WAIT)
    answer = lookups.turnover(running.load()).answer
    booked = running.query(
        "select to_char(date_trunc('minute', booked_at at time zone 'utc'), 'HH24:MI'), count(*), sum(amount)"
        " from transfers group by date_trunc('minute', booked_at at time zone 'utc')"
        " order by date_trunc('minute', booked_at at time zone 'utc') desc limit 5"
    )
    assert answer == tuple(f"{at} UTC  {rows:>6,} transfers  {moved:>14,} moved" for at, rows, moved in booked)


def test_a_second_apply_changes_nothing(running: Bank) -> None:
    assert running.json("apply", "--yes")["applied"] == 0


def test_traffic_that_is_asked_to_stop_says_what_it_did(running: Bank) -> None:
    before = count(running, "transfers")
    with running.running("demo", "traffic", "--rate", "100", "--json") as traffic:
        wait_for(lambda: count(running, "transfers") > before + 20, timeout=60, what="some transfers")
    assert traffic.returncode == 0
    log = (running.folder / ".tailrace/logs/test-demo-traffic---rate.log").read_text()
    report = json.loads(log[log.rindex('{\n  "seconds"') :])
    assert report["balance_before"] == report["balance_after"]


def test_a_search_index_is_rebuilt_under_traffic_proved_and_switched(running: Bank) -> None:
    (alias,) = (target.alias for target in running.load().sink("search") if isinstance(target, SearchIndex))
    with running.running("demo", "traffic", "--rate", "50", "--seed", "9"):
        done = running.json("search", "rebuild", alias, timeout=WAIT + 60)
    assert (done["old"], done["new"], done["rejected"]) == (f"{alias}-000001", f"{alias}-000002", 0)
    assert running.json("verify", timeout=WAIT + 60)["ok"]
    assert running.json("search", "drop-old", alias, "--yes")["dropped"] == [f"{alias}-000001"]


def equal(report: dict[str, Any], table: str) -> dict[str, int]:
    return {check["sink"]: check["equal"] for check in report["checks"] if check["table"] == f"public.{table}"}


def count(made: Bank, table: str) -> int:
    return int(made.query(f"select count(*) from {table}")[0][0])
