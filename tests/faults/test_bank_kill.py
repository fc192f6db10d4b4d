"""What the whole pipeline survives under live traffic: kill -9 of every worker and of every server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tailrace import topics
from tailrace.deadline import wait_for
from tailrace.kafka import KafkaAdmin
from tests import bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bank import Bank
    from tests.providers import RunningStack

WORKERS = ("conform", "dynamodb", "lake", "search")
TRAFFIC = ("demo", "traffic", "--rate", "150", "--seed", "11")


@pytest.fixture(scope="module")
def running(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    made = bank.copy(stack, tmp_path_factory.mktemp("bank"), "storm")
    made.must("demo", "seed", "--customers", "200")
    made.must("apply", "--yes")
    with made.running("run", "all"):
        yield made
    made.remove()


def test_every_worker_killed_once_under_traffic_leaves_all_stores_equal(running: Bank) -> None:
    with running.running(*TRAFFIC) as traffic:
        for worker in WORKERS:
            old = running.kill(worker)
            came_back(running, worker, old)
            wait_until_all_work(running)
        assert traffic.poll() is None
    assert traffic.returncode == 0
    assert_all_equal(running)


def test_all_workers_killed_at_once_leave_all_stores_equal(running: Bank) -> None:
    with running.running(*TRAFFIC):
        wait_until_all_work(running)
        killed = {worker: running.kill(worker) for worker in WORKERS}
        for worker, old in killed.items():
            came_back(running, worker, old)
        wait_until_all_work(running)
    assert_all_equal(running)


@pytest.mark.parametrize("servers", ["connect", "kafka", "registry dynamodb s3 opensearch"])
def test_servers_killed_under_traffic_leave_all_stores_equal(running: Bank, stack: RunningStack, servers: str) -> None:
    """Keys stay as they are here: a hard stop in the middle of one key change can lose its second half in Debezium."""
    assert stack.embedded is not None, "only servers of our own can be killed"
    with running.running(*TRAFFIC, "--no-key-changes"):
        wait_until_all_work(running)
        for server in servers.split():
            stack.embedded.kill(server)
        stack.embedded.up()
        wait_until_all_work(running)
    assert_all_equal(running)


def came_back(running: Bank, worker: str, old: int) -> None:
    wait_for(lambda: running.pid(worker) != old, timeout=90, what=f"{worker} to come back")


def wait_until_all_work(running: Bank) -> None:
    """Return once every worker has committed more than it had when this was called, while traffic goes on."""
    loaded = running.load()
    admin = KafkaAdmin(loaded.endpoints.kafka)
    names = {"conform": [topics.raw(loaded.name, table) for table in loaded.connector.tables]} | {
        sink: [topics.conformed(loaded.name, record) for record in loaded.records_of(sink)] for sink in loaded.sinks
    }
    before = {worker: done(admin, loaded.name, worker, listed) for worker, listed in names.items()}
    idle = set(names)

    def moved() -> bool:
        idle.difference_update(
            [worker for worker in idle if done(admin, loaded.name, worker, names[worker]) > before[worker]]
        )
        return not idle

    wait_for(moved, timeout=120, what="every worker to commit something")


def done(admin: KafkaAdmin, pipeline: str, worker: str, names: list[str]) -> int:
    """Return the sum of a worker's committed offsets."""
    committed = admin.committed(topics.group(pipeline, worker), names)
    return sum(max(offset, 0) for offset in committed.values())


def assert_all_equal(running: Bank) -> None:
    report = running.json("verify", "--timeout", "150", timeout=240)
    assert report["ok"], report
    assert running.json("dlq", "list") == []
