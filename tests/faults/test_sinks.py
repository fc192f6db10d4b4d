"""What a sink worker survives: kill -9 under load, a store that goes away or hangs, its own death taken for granted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tailrace import topics
from tailrace.deadline import wait_for
from tailrace.errors import Fatal
from tailrace.targets import DynamoDBTable
from tailrace.testing import Proxy, Tape, parcel
from tests.conformed import Conformed, running
from tests.contract.test_dynamodb_contract import DynamoDBStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.providers import RunningStack

SINK = """
from tailrace import DynamoDBTable
parcels = DynamoDBTable("{table}", record="parcel", pk="OWNER#{{owner}}", sk="PARCEL#{{id}}")
"""
HANGING = """
import pathlib
import threading

class Hanging:
    records = ("parcel",)

    def write(self, batch, *, timeout):
        (pathlib.Path(__file__).parent.parent / "arrived").touch()
        threading.Event().wait()

    def close(self):
        pass

sink = Hanging()
"""
KILLS = 4


@pytest.fixture
def store(stack: RunningStack) -> Iterator[DynamoDBStore]:
    made = DynamoDBStore(stack.endpoints)
    yield made
    made.client.delete_table(TableName=made.target.table)
    made.client.close()


@pytest.fixture
def proxy(store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Stand between the workers of a test and DynamoDB."""
    with Proxy(store.endpoints.dynamodb) as made:
        monkeypatch.setenv("TAILRACE_DYNAMODB", made.url)
        yield made


@contextmanager
def pipeline_to(store: DynamoDBStore, folder: Path) -> Iterator[Conformed]:
    """Give a pipeline whose sink writes to the store's table."""
    made = Conformed(folder / "project", store.endpoints, {"dynamodb": SINK.format(table=store.target.table)})
    yield made
    made.remove()


def traffic(tape: Tape, start: int, count: int) -> tuple[list[Any], dict[int, dict[str, Any]]]:
    """Return changes of ``count`` parcels, each written, moved, some deleted, and what must be left of them."""
    changes, left = [], {}
    for number in range(start, start + count):
        first, moved = parcel(number), parcel(number, owner=f"owner {number % 5}", note="moved")
        changes += [tape.put(first), tape.put(moved, before=first)]
        if number % 4:
            left[number] = moved
        else:
            changes.append(tape.delete(moved))
    return changes, left


class Process:
    """The worker as a process of its own, as people run it."""

    def __init__(self, pipeline: Conformed, sink: str = "dynamodb", instance: str = "0") -> None:
        command = [sys.executable, "-m", "tailrace", "run", "sink", sink, "--project", str(pipeline.folder)]
        self._log = (pipeline.folder / "worker.log").open("ab")
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=self._log, env={**os.environ, "TAILRACE_INSTANCE": instance}
        )

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def signal(self, number: int, timeout: float = 30) -> int:
        self._process.send_signal(number)
        code = self._process.wait(timeout)
        self._log.close()
        return code


def progress(pipeline: Conformed) -> int:
    return sum(offset for offset in pipeline.committed("dynamodb").values() if offset > 0)


def wait_until_past(pipeline: Conformed, before: int) -> None:
    wait_for(lambda: progress(pipeline) > before, timeout=60, what="the worker to commit something", every=0.02)


def test_a_worker_killed_again_and_again_under_load_leaves_the_store_equal(
    store: DynamoDBStore, tmp_path: Path
) -> None:
    tape = Tape()
    left: dict[int, dict[str, Any]] = {}
    with pipeline_to(store, tmp_path) as pipeline:
        for attempt in range(KILLS + 1):
            process = Process(pipeline)
            before = progress(pipeline)
            changes, more = traffic(tape, attempt * 800, 800)
            left |= more
            pipeline.send(changes)
            wait_until_past(pipeline, before)
            if attempt < KILLS:
                assert process.signal(signal.SIGKILL) == -signal.SIGKILL

        pipeline.wait_until_committed("dynamodb", timeout=90)
        assert process.signal(signal.SIGTERM) == 0
        assert pipeline.dead_letters("dynamodb") == []
    assert {item["id"]: item for item in store.current()} == left


def test_a_worker_that_wakes_up_after_others_took_its_partitions_commits_nothing_of_them(
    store: DynamoDBStore, tmp_path: Path
) -> None:
    tape = Tape()
    left: dict[int, dict[str, Any]] = {}
    seen: list[dict[int, int]] = []

    with pipeline_to(store, tmp_path) as pipeline:

        def send(start: int, count: int) -> None:
            changes, more = traffic(tape, start, count)
            left.update(more)
            pipeline.send(changes)

        def back() -> bool:
            """Say whether both are members; look at the offsets meanwhile."""
            seen.append(pipeline.committed("dynamodb"))
            return pipeline.admin.members(topics.group(pipeline.name, "dynamodb")) == 2

        zombie = Process(pipeline, instance="")
        send(0, 1500)
        wait_until_past(pipeline, 0)
        zombie.freeze()  # in the middle of its batches
        with running(pipeline.load(), "dynamodb"):
            send(1500, 300)
            pipeline.wait_until_committed("dynamodb")
            zombie.wake()
            wait_for(back, timeout=60, what="the worker to come back", every=0.05)
            send(1800, 300)
            pipeline.wait_until_committed("dynamodb")
        assert zombie.signal(signal.SIGTERM) == 0
        assert pipeline.dead_letters("dynamodb") == []

    assert all(later[each] >= offset for now, later in pairwise(seen) for each, offset in now.items())
    assert {item["id"]: item for item in store.current()} == left


def test_a_worker_whose_store_hangs_ends_within_thirty_seconds_of_a_sigterm(
    stack: RunningStack, tmp_path: Path
) -> None:
    settings = (
        "[workers.hanging]\nwrite_timeout_seconds = 3\n"  # a write that was given so long is not waited for longer
    )
    pipeline = Conformed(tmp_path / "project", stack.endpoints, {"hanging": HANGING}, settings)
    pipeline.send([Tape().put(parcel(number)) for number in range(6)])
    worker = Process(pipeline, "hanging")
    wait_for((pipeline.folder / "arrived").exists, timeout=60, what="a batch to hang")

    assert worker.signal(signal.SIGTERM, timeout=30) == 0
    assert set(pipeline.committed("hanging").values()) == {-1001}
    pipeline.remove()


def test_a_store_that_goes_away_in_mid_run_pauses_the_worker_and_loses_nothing(
    store: DynamoDBStore, proxy: Proxy, tmp_path: Path
) -> None:
    tape = Tape()
    with pipeline_to(store, tmp_path) as pipeline:
        with running(pipeline.load(), "dynamodb") as worker:
            first, left = traffic(tape, 0, 300)
            pipeline.send(first)
            pipeline.wait_until_committed("dynamodb")
            committed = pipeline.committed("dynamodb")

            proxy.cut()
            second, more = traffic(tape, 300, 1000)
            pipeline.send(second)
            wait_for(lambda: proxy.refused >= 3, timeout=60, what="the worker to try in vain")
            assert not worker.ended()
            assert pipeline.committed("dynamodb") == committed

            proxy.mend()
            pipeline.wait_until_committed("dynamodb")
        assert worker.result == 0
        assert pipeline.dead_letters("dynamodb") == []
    assert {item["id"]: item for item in store.current()} == left | more


def test_a_store_that_is_away_at_start_is_waited_for(store: DynamoDBStore, proxy: Proxy, tmp_path: Path) -> None:
    changes, left = traffic(Tape(), 0, 30)
    with pipeline_to(store, tmp_path) as pipeline:
        proxy.cut()
        pipeline.send(changes)
        with running(pipeline.load(), "dynamodb") as worker:
            wait_for(lambda: proxy.refused >= 2, timeout=60, what="the worker to knock")
            assert not worker.ended()

            proxy.mend()
            pipeline.wait_until_committed("dynamodb")
    assert {item["id"]: item for item in store.current()} == left


def test_a_worker_that_waits_for_a_store_still_stops_at_once(
    store: DynamoDBStore, proxy: Proxy, tmp_path: Path
) -> None:
    with pipeline_to(store, tmp_path) as pipeline:
        proxy.cut()
        with running(pipeline.load(), "dynamodb") as worker:
            wait_for(lambda: proxy.refused >= 1, timeout=60, what="the worker to knock")
            worker.stop.set()
            wait_for(worker.ended, timeout=5, what="the worker to end")
    assert worker.result == 0


def test_a_table_that_does_not_exist_is_said_with_what_to_do(store: DynamoDBStore, tmp_path: Path) -> None:
    store.target, kept = DynamoDBTable(f"none-{uuid4().hex[:8]}", "parcel", pk="{id}", sk="{id}"), store.target
    with pipeline_to(store, tmp_path) as pipeline, running(pipeline.load(), "dynamodb") as worker:
        wait_for(worker.ended, timeout=60, what="the worker to end")
    store.target = kept

    assert isinstance(worker.error, Fatal)
    assert "tailrace apply" in worker.error.hint
