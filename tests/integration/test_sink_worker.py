"""The sink worker on a real broker and registry; the store is the shipped fake, so that faults come on demand."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import epoch, health
from tailrace.deadline import wait_for
from tailrace.errors import Fatal, Refused, Retryable
from tailrace.testing import FailAfter, FailBefore, Faults, Hold, MemorySink, Tape, parcel
from tests.conformed import PARTITIONS, Conformed, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailrace.project import Project
    from tests.providers import RunningStack

MEMORY = 'from tailrace.testing import MemorySink\nsink = MemorySink("parcel", key="{owner}/{id}")\n'
FAULTY = 'from tailrace.testing import Faults, MemorySink\nsink = Faults(MemorySink("parcel"))\n'
PICKY = """
from tailrace.testing import MemorySink
sink = MemorySink("parcel", reject=lambda change: "too heavy" if change.key["id"] % 10 == 3 else "")
"""
TWO = 'from tailrace.testing import MemorySink\none = MemorySink("parcel")\ntwo = MemorySink("parcel")\n'


@pytest.fixture
def pipeline(stack: RunningStack, tmp_path: Path) -> Iterator[Conformed]:
    sinks = {"memory": MEMORY, "faulty": FAULTY, "picky": PICKY, "two": TWO}
    made = Conformed(tmp_path / "project", stack.endpoints, sinks)
    yield made
    made.remove()


def sink_of(loaded: Project, name: str) -> Any:
    return loaded.sinks[name][0]


def ids(sink: MemorySink) -> list[int]:
    return sorted(value["id"] for value in sink.items.values())


def probe(loaded: Project, sink: str, path: str) -> tuple[int, str]:
    port = health.RunFile(loaded.folder, sink).read().get("port", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except urllib.error.URLError:  # the worker is not that far yet
        return 0, ""


def test_everything_written_arrives_and_is_committed(pipeline: Conformed) -> None:
    loaded, tape = pipeline.load(), Tape()
    records = [parcel(number) for number in range(2000)]
    pipeline.send(tape.put(record) for record in records)
    pipeline.send([tape.put(parcel(7, owner="bob"), before=parcel(7)), tape.delete(parcel(8))])

    with running(loaded, "memory") as worker:
        pipeline.wait_until_committed("memory")

    assert worker.result == 0
    found = {value["id"]: value for value in sink_of(loaded, "memory").items.values()}
    assert found == {record["id"]: record for record in records if record["id"] not in (7, 8)} | {
        7: parcel(7, owner="bob")
    }


def test_a_change_that_arrives_while_idle_is_written_within_a_quarter_of_a_second(pipeline: Conformed) -> None:
    loaded, tape = pipeline.load(), Tape()
    sink = sink_of(loaded, "memory")
    with running(loaded, "memory"):
        pipeline.send([tape.put(parcel(1))])
        wait_for(lambda: ids(sink) == [1], timeout=30, what="the first record", every=0.005)

        pipeline.send([tape.put(parcel(2))])

        wait_for(lambda: ids(sink) == [1, 2], timeout=0.25, what="the second record", every=0.005)


def test_probes_and_metrics_tell_where_the_worker_is(pipeline: Conformed) -> None:
    loaded = pipeline.load()
    pipeline.send([Tape().put(parcel(number)) for number in range(50)])
    with running(loaded, "memory"):
        pipeline.wait_until_committed("memory")
        assert probe(loaded, "memory", "/live")[0] == 200
        assert json.loads(probe(loaded, "memory", "/ready")[1]) == {
            "worker": "memory",
            "ready": True,
            "doing": "running",
            "held": {},
            "notes": {},
        }
        metrics = probe(loaded, "memory", "/metrics")[1]
        assert f'tailrace_records_total{{topic="{pipeline.topic}",worker="memory"}} 50.0' in metrics
        assert f'tailrace_latency_seconds_count{{topic="{pipeline.topic}",worker="memory"}} 50.0' in metrics

    assert health.RunFile(loaded.folder, "memory").read() == {}


def test_a_store_that_is_away_gets_the_same_batch_again_and_nothing_is_committed_before(pipeline: Conformed) -> None:
    loaded, hold = pipeline.load(), Hold()
    sink: Faults = sink_of(loaded, "faulty")
    sink.queue.extend([FailBefore(), FailAfter(), FailBefore(Retryable("The store is away.", after=0.3)), hold])
    pipeline.send([Tape().put(parcel(number * PARTITIONS)) for number in range(100)])

    with running(loaded, "faulty"):
        assert hold.held.wait(30)
        assert pipeline.committed("faulty")[0] == -1001
        hold.release.set()
        pipeline.wait_until_committed("faulty")

    inner = sink.sink
    assert isinstance(inner, MemorySink)
    assert ids(inner) == [number * PARTITIONS for number in range(100)]


def test_a_worker_whose_store_is_away_stays_ready_and_says_so(pipeline: Conformed) -> None:
    loaded = pipeline.load()
    sink_of(loaded, "faulty").queue.extend([FailBefore(Retryable("The shelf is full.", after=60))])
    pipeline.send([Tape().put(parcel(1))])

    with running(loaded, "faulty"):
        wait_for(lambda: "The shelf is full." in probe(loaded, "faulty", "/ready")[1], timeout=30, what="the word")
        assert probe(loaded, "faulty", "/ready")[0] == 200


def test_an_unknown_error_stops_the_worker_and_leaves_the_offsets(pipeline: Conformed) -> None:
    loaded = pipeline.load()
    sink_of(loaded, "faulty").queue.append(FailAfter(ZeroDivisionError("secret row")))
    pipeline.send([Tape().put(parcel(3))])

    with running(loaded, "faulty") as worker:
        wait_for(worker.ended, timeout=30, what="the worker to end")

    assert isinstance(worker.error, Fatal)
    assert worker.error.exit_code == 70
    assert "secret" not in str(worker.error)
    assert set(pipeline.committed("faulty").values()) == {-1001}


def test_rejected_and_unreadable_records_are_parked_with_their_bytes_before_the_offset_moves(
    pipeline: Conformed,
) -> None:
    loaded, tape = pipeline.load(), Tape()
    pipeline.send(tape.put(parcel(number)) for number in range(1, 11))
    pipeline.send_raw(b"no key", b"no value", partition=2)

    with running(loaded, "picky"):
        pipeline.wait_until_committed("picky")

    letters = {letter.stage: letter for letter in pipeline.dead_letters("picky")}
    assert letters["write"].key == b'{"id":3}'
    assert letters["write"].reason == "too heavy"
    assert letters["write"].source == f"{pipeline.topic}/0/0"
    assert (letters["decode"].key, letters["decode"].value) == (b"no key", b"no value")
    assert letters["decode"].source.startswith(f"{pipeline.topic}/2/")
    assert ids(sink_of(loaded, "picky")) == [1, 2, 4, 5, 6, 7, 8, 9, 10]


def test_every_sink_of_a_module_gets_every_record(pipeline: Conformed) -> None:
    loaded = pipeline.load()
    pipeline.send([Tape().put(parcel(number)) for number in range(20)])

    with running(loaded, "two"):
        pipeline.wait_until_committed("two")

    assert [ids(sink) for sink in loaded.sinks["two"] if isinstance(sink, MemorySink)] == [list(range(20))] * 2


def test_partitions_that_move_while_records_flow_lose_nothing(pipeline: Conformed) -> None:
    first, second, tape = pipeline.load(), pipeline.load(), Tape()
    numbers = iter(range(10_000))

    def send(count: int) -> None:
        pipeline.send([tape.put(parcel(next(numbers))) for _ in range(count)])

    def second_works() -> bool:
        send(20)
        return bool(sink_of(second, "memory").items)

    with running(first, "memory") as one:
        send(1000)
        wait_for(lambda: sink_of(first, "memory").items, timeout=30, what="the first worker")
        with running(second, "memory"):
            send(1000)
            wait_for(second_works, timeout=60, what="the second worker")
            one.end()
            send(1000)
            pipeline.wait_until_committed("memory")

    assert sorted({*ids(sink_of(first, "memory")), *ids(sink_of(second, "memory"))}) == list(range(next(numbers)))


def test_a_stopping_worker_finishes_what_is_in_flight_and_commits_it(pipeline: Conformed) -> None:
    loaded, hold = pipeline.load(), Hold()
    sink_of(loaded, "faulty").queue.append(hold)
    pipeline.send([Tape().put(parcel(3))])

    with running(loaded, "faulty") as worker:
        assert hold.held.wait(30)
        worker.stop.set()
        hold.release.set()
        wait_for(worker.ended, timeout=30, what="the worker to end")

    assert worker.result == 0
    assert pipeline.committed("faulty")[0] == 1


def test_a_worker_refuses_topics_that_are_not_those_of_the_epoch(pipeline: Conformed) -> None:
    wrong = epoch.Epoch(1, "parcels", "1", {pipeline.topic: "another id"}, {pipeline.topic: PARTITIONS})
    epoch.write(pipeline.endpoints.kafka, pipeline.name, wrong)

    with running(pipeline.load(), "memory") as worker:
        wait_for(worker.ended, timeout=30, what="the worker to refuse")

    assert isinstance(worker.error, Refused)
    assert "recreated" in worker.error.detail
