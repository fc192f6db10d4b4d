"""Stores that were damaged behind Tailrace's back, mended by one command while the bank goes on."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from opensearchpy import OpenSearch

from tailrace import aws
from tests import bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bank import Bank
    from tests.providers import RunningStack

CUSTOMERS = 200
DAMAGED = 4


@pytest.fixture(scope="module")
def running(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    made = bank.copy(stack, tmp_path_factory.mktemp("repair"), "mend")
    made.must("demo", "seed", "--customers", str(CUSTOMERS))
    made.must("apply", "--yes")
    with made.running("run", "all"):
        assert made.json("verify", timeout=180)["ok"]
        yield made
    made.remove()


def damage(made: Bank) -> None:
    """Take a row out of each store, change one, bring one back that is gone, and add one that never was."""
    endpoints = made.load().endpoints
    with closing(aws.client("dynamodb", endpoints.dynamodb)) as client:
        first, second, gone = (key(number) for number in (1, 2, CUSTOMERS))
        item = client.get_item(TableName=made.name, Key=second)["Item"]
        ghost = client.get_item(TableName=made.name, Key=key(3))["Item"]
        client.delete_item(TableName=made.name, Key=first)
        client.put_item(TableName=made.name, Item={**item, "name": {"S": "Somebody Else"}})
        client.put_item(TableName=made.name, Item={**ghost, **gone, "id": {"N": str(CUSTOMERS)}})
    with closing(OpenSearch(endpoints.opensearch)) as client:
        index = f"{made.name}-customers"
        client.delete(index=index, id="4", refresh=True)
        found = client.get(index=index, id="5")
        client.index(
            index=index, id="5", body={**found["_source"], "name": "Nobody"}, refresh=True, version_type="external",
            version=found["_version"] + 1,
        )  # fmt: skip


def key(number: int) -> dict[str, Any]:
    return {"pk": {"S": f"CUSTOMER#{number}"}, "sk": {"S": "PROFILE"}}


def kinds(report: Any) -> dict[str, dict[str, int]]:
    """Return how many differences of which kind there are, by sink."""
    found: dict[str, dict[str, int]] = {}
    for check in report["checks"]:
        for kind in ("missing", "extra", "different", "rejected", "unsettled"):
            if check[kind]:
                found.setdefault(check["sink"], {})[kind] = check[kind]
    return found


def test_what_differs_is_sent_again_and_nothing_else_while_traffic_goes_on(running: Bank) -> None:
    running.query(f"delete from accounts where customer_id = {CUSTOMERS} returning 1")
    running.query(f"delete from customers where id = {CUSTOMERS} returning 1")
    assert running.json("verify", timeout=180)["ok"]
    damage(running)
    found = running.tailrace("verify", "--json", timeout=180)
    assert found.returncode == 1
    with running.running("demo", "traffic", "--rate", "20", "--seed", "7") as traffic:
        repaired = running.json("verify", "--repair", timeout=300)
        assert traffic.poll() is None
    assert repaired["ok"], kinds(repaired)
    done = {each["table"]: each for each in repaired["repaired"]}
    assert set(done) == {"public.customers"}
    assert done["public.customers"]["deleted"] == 1
    assert 1 <= done["public.customers"]["again"] <= DAMAGED  # a row that traffic has changed meanwhile is right again
    assert not done["public.customers"]["whole"]
    assert running.json("verify", timeout=180)["ok"]
