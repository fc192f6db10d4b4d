"""A store that stands still: what the worker holds is bounded, partitions come and go, and a stop is a stop."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import health
from tailrace.deadline import wait_for
from tailrace.errors import Retryable
from tailrace.testing import FailBefore, Faults, Hold, MemorySink, Tape, parcel
from tests.conformed import Conformed, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailrace.project import Project
    from tests.providers import RunningStack

FAULTY = 'from tailrace.testing import Faults, MemorySink\nsink = Faults(MemorySink("parcel"))\n'
SETTINGS = "[workers.faulty]\nbuffer_mb = 4\nbatch_rows = 100\n"
MIB = 1024 * 1024
RECORDS, NOTE = 3000, "x" * 10_000


@pytest.fixture
def pipeline(stack: RunningStack, tmp_path: Path) -> Iterator[Conformed]:
    made = Conformed(tmp_path / "project", stack.endpoints, {"faulty": FAULTY}, SETTINGS)
    yield made
    made.remove()


def faults(loaded: Project) -> Faults:
    sink: Any = loaded.sinks["faulty"][0]
    assert isinstance(sink, Faults)
    return sink


def ids(loaded: Project) -> set[int]:
    inner = faults(loaded).sink
    assert isinstance(inner, MemorySink)
    return {value["id"] for value in inner.items.values()}


def held_bytes(loaded: Project) -> int:
    port = health.RunFile(loaded.folder, "faulty").read().get("port", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            found = re.search(r'tailrace_held_bytes\{worker="faulty"\} (\S+)', answer.read().decode())
    except urllib.error.URLError:  # the worker is not that far yet
        return 0
    return int(float(found[1])) if found else 0


def test_a_worker_holds_no_more_than_it_may_while_its_store_stands_still_and_then_catches_up(
    pipeline: Conformed,
) -> None:
    loaded = pipeline.load()
    holds = [Hold(at_most=120) for _ in range(3)]
    faults(loaded).queue.extend(holds)
    tape = Tape()
    pipeline.send(tape.put(parcel(number, note=NOTE)) for number in range(RECORDS))
    seen: list[int] = []

    def settled() -> bool:
        """Say whether what is held stays what it is: everything is paused."""
        seen.append(held_bytes(loaded))
        return len(seen) > 10 and seen[-1] > MIB and len(set(seen[-10:])) == 1

    with running(loaded, "faulty"):
        wait_for(settled, timeout=60, what="the worker to hold all it may")
        for hold in holds:
            hold.release.set()
        pipeline.wait_until_committed("faulty")

    assert max(seen) <= 5 * MIB
    assert ids(loaded) == set(range(RECORDS))


def test_a_paused_partition_that_goes_and_comes_back_flows_again(pipeline: Conformed) -> None:
    first, second = pipeline.load(), pipeline.load()
    faults(first).queue.extend([FailBefore(Retryable("The shelf is full.", after=4))] * 100)
    tape = Tape()
    pipeline.send(tape.put(parcel(number, note=NOTE)) for number in range(RECORDS))

    with running(first, "faulty"):
        wait_for(lambda: held_bytes(first) > 2 * MIB, timeout=60, what="the first worker to be full")
        with running(second, "faulty"):
            wait_for(lambda: ids(second), timeout=60, what="the second worker to have a partition")
        faults(first).queue.clear()
        pipeline.send(tape.put(parcel(RECORDS + number)) for number in range(30))
        pipeline.wait_until_committed("faulty", timeout=90)

    assert ids(first) | ids(second) == set(range(RECORDS + 30))
