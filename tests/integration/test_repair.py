"""Stores that were damaged behind Tailrace's back: each damage is called what it is, and one command mends it all."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from opensearchpy import OpenSearch

from tailrace import aws
from tailrace.control import barrier
from tailrace.control.verify import verify
from tailrace.demo import database
from tests import bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bank import Bank
    from tests.providers import RunningStack

CUSTOMERS = 200
DAMAGED = 5
HOT = 8  # a customer that changes all the time
KINDS = ("missing", "extra", "resurrected", "stale", "different", "rejected", "unsettled")


@pytest.fixture(scope="module")
def running(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    made = bank.copy(stack, tmp_path_factory.mktemp("repair"), "mend")
    made.must("demo", "seed", "--customers", str(CUSTOMERS))
    made.must("apply", "--yes")
    with made.running("run", "all"):
        barrier.cross(made.load())
        yield made
    made.remove()


def change(made: Bank, client: Any) -> dict[str, Any]:
    """Change a customer and take one away; return the item that the first one was before."""
    old: dict[str, Any] = client.get_item(TableName=made.name, Key=key(6))["Item"]
    made.query("update customers set name = 'Somebody New' where id = 6 returning 1")
    made.query(f"delete from accounts where customer_id = {CUSTOMERS} returning 1")
    made.query(f"delete from customers where id = {CUSTOMERS} returning 1")
    barrier.cross(made.load())
    return old


def damage(made: Bank, client: Any, old: dict[str, Any]) -> None:
    """Take a row out of each store, change one, put one back as it was, one that is gone, and one where it was."""
    item = client.get_item(TableName=made.name, Key=key(2))["Item"]
    ghost = client.get_item(TableName=made.name, Key=key(3))["Item"]
    client.delete_item(TableName=made.name, Key=key(1))
    client.put_item(TableName=made.name, Item={**item, "name": {"S": "Somebody Else"}})
    client.put_item(TableName=made.name, Item=old)
    client.put_item(TableName=made.name, Item={**ghost, **key(CUSTOMERS), "id": {"N": str(CUSTOMERS)}})
    left_behind(made, client)
    with closing(OpenSearch(made.load().endpoints.opensearch)) as search:
        index = f"{made.name}-customers"
        search.delete(index=index, id="4", refresh=True)
        found = search.get(index=index, id="5")
        search.index(
            index=index, id="5", body={**found["_source"], "name": "Nobody"}, refresh=True, version_type="external",
            version=found["_version"] + 1,
        )  # fmt: skip


def left_behind(made: Bank, client: Any) -> None:
    """Put an item where an account was before it went to another customer, as if that change had lost its half."""
    [(account, owner)] = made.query("select id, customer_id from accounts where customer_id > 9 order by id limit 1")
    there = {"pk": {"S": f"CUSTOMER#{owner}"}, "sk": {"S": f"ACCOUNT#{account}"}}
    item = client.get_item(TableName=made.name, Key=there)["Item"]
    left = {**item, "pk": {"S": "CUSTOMER#7"}, "customer_id": {"N": "7"}}
    client.put_item(TableName=made.name, Item=left)


def key(number: int) -> dict[str, Any]:
    return {"pk": {"S": f"CUSTOMER#{number}"}, "sk": {"S": "PROFILE"}}


def kinds(report: Any) -> dict[str, dict[str, int]]:
    """Return how many differences of which kind there are, by sink."""
    found: dict[str, dict[str, int]] = {}
    for check in report["checks"]:
        for kind in KINDS:
            if check[kind]:
                found.setdefault(check["sink"], {})[kind] = check[kind]
    return found


@contextmanager
def never_still(made: Bank) -> Iterator[None]:
    """Change one customer over and over."""
    over = threading.Event()
    loaded = made.load()
    url = loaded.endpoints.database(loaded.connector.database)

    def change() -> None:
        turn = 0
        with closing(database.connect(url, autocommit=True)) as opened, opened.cursor() as cursor:
            while not over.wait(0.05):
                turn += 1
                cursor.execute("update customers set phone = %s where id = %s", (str(turn), HOT))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        yield
    finally:
        over.set()
        changing.join(30)


def test_damage_is_called_what_it_is_and_exactly_that_is_mended_while_traffic_goes_on(running: Bank) -> None:
    with closing(aws.client("dynamodb", running.load().endpoints.dynamodb)) as client:
        damage(running, client, change(running, client))
    loaded = running.load()
    found = verify(loaded, wait=lambda: barrier.cross(loaded)).as_dict()
    assert kinds(found) == {
        "dynamodb": dict.fromkeys(("missing", "extra", "resurrected", "stale", "different"), 1),
        "search": dict.fromkeys(("missing", "different"), 1),
    }
    with never_still(running), running.running("demo", "traffic", "--rate", "20", "--seed", "7") as traffic:
        repaired = running.json("verify", "--repair", timeout=300)
        assert traffic.poll() is None
    assert (repaired["found"]["ok"], repaired["ok"]) == (False, True), kinds(repaired)
    assert sum(check["moving"] for check in repaired["checks"]) > 0
    done = {each["table"]: each for each in repaired["repaired"]}
    assert set(done) == {"public.customers", "public.accounts"}
    assert [done["public.accounts"][name] for name in ("again", "deleted", "moved")] == [0, 0, 1]
    assert done["public.customers"]["deleted"] == 1
    assert done["public.customers"]["again"] <= DAMAGED  # a row that traffic has changed meanwhile is right again
    assert not done["public.customers"]["whole"]
