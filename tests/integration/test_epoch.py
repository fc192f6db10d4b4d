"""The way out of every kind of ending, on real servers: one command, then every store equals the source again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tailrace import epoch, topics
from tailrace.control import check, status
from tailrace.control.services import Services
from tailrace.crashpoint import Command
from tailrace.deadline import wait_for
from tailrace.kafka import KafkaAdmin
from tests import bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bank import Bank
    from tests.providers import RunningStack

CUSTOMERS = 40
RAW = '\nfrom tailrace import RawLakeTable\n\nraw = RawLakeTable("customers", table="public.customers")\n'
LOST = "select customer_id from accounts order by id limit 1"


@pytest.fixture(scope="module")
def running(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    made = bank.copy(stack, tmp_path_factory.mktemp("epoch"), "tide")
    with (made.folder / "sinks" / "lake.py").open("a") as lake:
        lake.write(RAW)
    made.must("demo", "seed", "--customers", str(CUSTOMERS))
    made.must("apply", "--yes")
    with made.running("run", "all"):
        yield made
    made.remove()


def sql(made: Bank, *statements: str) -> None:
    for statement in statements:
        made.query(f"{statement} returning 1")


def record(made: Bank) -> epoch.Epoch:
    found = epoch.read(KafkaAdmin(made.load().endpoints.kafka), made.name)
    assert found is not None
    return found


def drop_slot(made: Bank) -> None:
    """Stop the connector, as a long maintenance would, and lose the slot."""
    with Services(made.load()) as services:
        services.connect.stop(made.name)
    slot = f"tailrace_{made.name}"
    free = f"from pg_replication_slots where slot_name = '{slot}' and not active"
    drop = f"select pg_drop_replication_slot(slot_name) {free}"
    wait_for(lambda: made.query(drop), timeout=30, what="the slot to be free")


def test_a_table_is_read_again_beside_the_stream_and_every_store_stays_equal(running: Bank) -> None:
    with running.running("demo", "traffic", "--rate", "60", "--seed", "5") as traffic:
        read = running.json("snapshot", "public.customers", "public.accounts")
        assert traffic.poll() is None
    assert read["complete"]
    assert not read["attached"]
    assert read["done"]["public.customers"] > 0
    assert running.json("verify", timeout=180)["ok"]


def test_after_a_lost_slot_one_command_brings_every_store_back_to_the_source(running: Bank) -> None:
    drop_slot(running)
    ((lost,),) = running.query(LOST)
    sql(
        running,
        f"delete from accounts where customer_id = {lost}",
        f"delete from customers where id = {lost}",
        "update customers set name = 'Renamed' where id % 3 = 0",
        "insert into customers (name, email) values ('New', 'new@example.org')",
    )
    said = running.tailrace("epoch", "show")
    assert (said.returncode, "is gone" in said.stdout) == (1, True)
    refused = running.tailrace("apply", "--yes")
    assert (refused.returncode, "`tailrace epoch bump`" in refused.stderr) == (5, True)
    assert any("is gone" in line for line in status.snapshot(running.load()).source.ended)
    running.query(f"select pg_create_logical_replication_slot('tailrace_{running.name}', 'pgoutput')")
    assert any("it was recreated" in finding.detail for finding in check.check(running.load()))

    for point in (Command.EPOCH_WRITTEN, Command.SLOT_DROPPED, Command.SNAPSHOT_AWAITED):  # each another epoch
        running.dies(point, "epoch", "bump", "--yes")
    bumped = running.json("epoch", "bump", "--yes", timeout=180)

    assert (bumped["from"], bumped["to"]) == (4, 4)
    deleted = {each["record"]: each["deleted"] for each in bumped["swept"]}
    assert deleted["customers"] == 1
    assert deleted["accounts"] >= 1
    running.must("replay", "processor", "conform", "--to", "beginning", "--yes")  # over the boundary: changes nothing
    report = running.json("verify", timeout=180)
    assert report["ok"], report
    assert "1 keys are rows there that the source no longer has" in report["notes"][0]  # nobody saw that delete
    versions = running.json("lake", "query", "raw/customers", "select distinct _version >> 48 as epoch from history")
    assert sorted(each["epoch"] for each in versions) == [1, bumped["to"]]
    assert record(running).phase == epoch.SETTLED
    assert running.must("epoch", "show").strip() == "epoch 4"
    assert running.must("plan", "--exit-code").startswith("No changes.")


def test_more_partitions_come_with_a_new_epoch_and_every_store_stays_equal(running: Bank) -> None:
    toml = running.folder / "tailrace.toml"
    toml.write_text(toml.read_text().replace("partitions = 3", "partitions = 4"))
    assert "`tailrace epoch bump` adds them" in running.tailrace("apply", "--yes").stderr
    sql(running, "delete from transfers where id = (select min(id) from transfers)")
    before = record(running).epoch
    running.dies(Command.EPOCH_SWEPT, "epoch", "bump", "--yes")
    bumped = running.json("epoch", "bump", "--yes", timeout=180)
    assert bumped["from"] == bumped["to"] == record(running).epoch == before + 1
    assert {each["deleted"] for each in bumped["swept"]} == {0}
    counts = KafkaAdmin(running.load().endpoints.kafka).partitions()
    for table in ("customers", "accounts", "transfers"):
        assert counts[topics.raw(running.name, f"public.{table}")] == counts[topics.conformed(running.name, table)] == 4
    assert running.must("plan", "--exit-code").startswith("No changes.")
    assert running.json("verify", timeout=180)["ok"]
