"""The conform processor as a process, on a real broker and registry, fed with envelopes as Debezium writes them."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from tailrace import change, version
from tailrace.deadline import wait_for
from tailrace.registry import Registry
from tests.raw import RawPipeline, end, message, payload, probe, reading, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.providers import RunningStack

FUNCTIONS = """
import time

from tailrace import conform

@conform("public.reading", to="reading")
def reading(row):
    if row["note"] == "raise":
        raise RuntimeError("a user's mistake")
    if row["note"] == "wrong type":
        return ["no", "record"]
    if row["note"] == "new key":
        return {**row, "id": -1}
    if row["note"] == "slow":
        time.sleep(0.15)
    if row["note"] == "hidden":
        return None
    return {**row, "sensor": row["sensor"].upper()}
"""


@pytest.fixture
def pipeline(stack: RunningStack, tmp_path: Path) -> Iterator[RawPipeline]:
    made = RawPipeline(tmp_path / "project", stack.endpoints)
    made.apply()
    yield made
    made.remove()


@pytest.fixture
def functional(stack: RunningStack, tmp_path: Path) -> Iterator[RawPipeline]:
    made = RawPipeline(tmp_path / "project", stack.endpoints, functions=FUNCTIONS)
    made.apply()
    yield made
    made.remove()


@contextmanager
def working(pipeline: RawPipeline) -> Iterator[None]:
    """Run the processor, and expect that it stops cleanly in the end."""
    process = pipeline.start()
    try:
        wait_until_ready(pipeline.folder, process, pipeline.log)
        yield
    finally:
        code = end(process)
    assert code == 0, pipeline.log()[-3000:]


def test_every_row_arrives_typed_in_the_partition_of_its_raw_record(pipeline: RawPipeline) -> None:
    pipeline.write(*[reading(number) for number in range(500)])
    with working(pipeline):
        pipeline.wait_until_committed()
    outputs = pipeline.outputs()
    assert sorted(pipeline.value(found)["id"] for found in outputs) == list(range(500))
    for found in outputs:
        value = pipeline.value(found)
        assert found.partition == value["id"] % pipeline.partitions
        assert found.key == b'{"id":%d}' % value["id"]
        assert value["value"] == Decimal(f"{value['id']}.2500")


def test_a_busy_partition_does_not_wait_for_fetches_of_idle_ones(functional: RawPipeline) -> None:
    pause = threading.Event()
    with working(functional):
        for number in range(600):  # all in one partition; aiokafka fetches for the others while a slow row is conformed
            row = reading(number, note="" if number % 60 else "slow")
            functional.send(0, b'{"id":%d}' % number, message(payload("c", after=row)))
            pause.wait(0.005)
        functional.outbox.flush(30)
        functional.wait_until_committed()
    came = {found.key: found.milliseconds for found in functional.read(functional.raw)}
    waited = sorted(found.milliseconds - came[found.key] for found in functional.outputs())
    assert len(waited) == 600
    assert waited[300] < 500, waited[::60]  # 1500 where each fetch of the idle ones is waited for [measured]


def test_headers_say_where_a_record_comes_from(pipeline: RawPipeline) -> None:
    pipeline.write(reading(4), reading(7), op="u")
    with working(pipeline):
        pipeline.wait_until_committed()
    last = pipeline.outputs()[-1]
    assert last.header(change.ORIGIN) == f"{pipeline.raw}/1/1"
    assert last.header(change.VERSION) == str(version.pack(1, 1))
    assert last.header(change.OP) == "u"
    assert last.header(change.LSN) == "4711"
    assert last.header(change.TX) == "77"
    assert last.header(change.COMMITTED) == "1767322800123456"
    assert last.header(change.BEFORE) is None


def test_a_delete_becomes_a_null_value_once_though_a_tombstone_follows(pipeline: RawPipeline) -> None:
    pipeline.write(reading(1))
    gone = {**dict.fromkeys(reading(1)), "id": 1}
    pipeline.send(1, b'{"id":1}', message(payload("d", before=gone)))
    pipeline.send(1, b'{"id":1}', None)
    pipeline.outbox.flush(30)
    with working(pipeline):
        pipeline.wait_until_committed()
    outputs = pipeline.outputs()
    assert [(found.key, found.value is None) for found in outputs] == [(b'{"id":1}', False), (b'{"id":1}', True)]
    assert outputs[-1].header(change.OP) == "d"
    assert outputs[-1].header(change.BEFORE) is None


def test_the_whole_old_row_travels_with_the_change(pipeline: RawPipeline) -> None:
    pipeline.send(1, b'{"id":1}', message(payload("u", before=reading(1, note="old"), after=reading(1, note="new"))))
    pipeline.send(1, b'{"id":1}', message(payload("d", before=reading(1, note="new"))))
    pipeline.outbox.flush(30)
    with working(pipeline):
        pipeline.wait_until_committed()
    notes = []
    for found in pipeline.outputs():
        before = dict(found.headers)[change.BEFORE]
        assert before is not None
        notes.append(pipeline.contract.decode(before)["note"])
    assert notes == ["old", "new"]


def test_poison_of_every_sort_is_parked_with_its_bytes_and_the_others_go_on(pipeline: RawPipeline) -> None:
    lost = reading(1)
    del lost["taken_at"]
    poison = {
        b"not json": ("decode", "JSON"),
        b'{"some":"json"}': ("decode", "envelope"),
        b"\x00\x00\x00\x00\x05avro": ("decode", "JSON"),
        message(payload("c", after=lost)): ("conform", "taken_at is missing"),
        message(payload("c", after=reading(1, value="1.23456"))): ("conform", "value has more than 4 digits"),
        message(payload("c", after=reading(1, value="NaN"))): ("conform", "value is NaN"),
        message(payload("c", after=reading(1, sensor=5))): ("conform", "sensor is int"),
        message(payload("c", after=reading(1, taken_at="infinity"))): ("conform", "taken_at"),
        message(payload("u", after=reading(1, note="__debezium_unavailable_value"))): ("conform", "TOAST"),
        message(payload("t")): ("conform", "truncated"),
        message(payload("c", after=[1, 2])): ("decode", "not an object"),
    }
    for value in poison:
        pipeline.write(reading(1))
        pipeline.send(1, b"a key", value)
    pipeline.write(reading(1, note="last"))
    with working(pipeline):
        pipeline.wait_until_committed()
        assert "tailrace_dead_letters_total" in probe(pipeline.folder, "/metrics")[1]
    letters = pipeline.dead_letters()
    assert [parked.value for parked in letters] == list(poison)
    for parked, (stage, words) in zip(letters, poison.values(), strict=True):
        assert (parked.stage, parked.key, parked.worker) == (stage, b"a key", "conform")
        assert words in parked.reason
        assert parked.source.startswith(f"{pipeline.raw}/1/")
        assert ("origin", b"test") in parked.headers
    outputs = pipeline.outputs()
    assert len(outputs) == len(poison) + 1
    assert pipeline.value(outputs[-1])["note"] == "last"


def test_a_conform_function_that_fails_parks_its_record_and_one_that_filters_deletes_it(
    functional: RawPipeline,
) -> None:
    functional.write(reading(1), reading(1, note="hidden"), reading(1, note="raise"))
    functional.write(reading(1, note="wrong type"), reading(1, note="new key"), reading(1, note="fine"))
    with working(functional):
        functional.wait_until_committed()
    outputs = functional.outputs()
    assert [None if found.value is None else functional.value(found)["sensor"] for found in outputs] == [
        "S1",
        None,
        "S1",
    ]
    assert outputs[1].header(change.OP) == "d"
    reasons = [parked.reason for parked in functional.dead_letters()]
    assert len(reasons) == 3
    assert "RuntimeError" in reasons[0]
    assert "a user's mistake" not in reasons[0]
    assert "list" in reasons[1]
    assert "key" in reasons[2]


def test_a_stop_in_the_middle_of_work_commits_exactly_what_was_written(pipeline: RawPipeline) -> None:
    pipeline.write(*[reading(number) for number in range(6000)])
    process = pipeline.start()

    def under_way() -> bool:
        return sum(pipeline.admin.ends([pipeline.topic]).values()) > 0

    wait_for(under_way, timeout=60, what="the first outputs", every=0.02)
    assert end(process, signal.SIGINT) == 0, pipeline.log()[-3000:]
    stopped_at = sum(offset for offset in pipeline.committed().values() if offset > 0)
    assert sum(pipeline.admin.ends([pipeline.topic]).values()) == stopped_at
    with working(pipeline):
        pipeline.wait_until_committed()
    assert sorted(pipeline.value(found)["id"] for found in pipeline.outputs()) == list(range(6000))


def test_ready_is_true_only_with_partitions_and_the_run_file_goes_at_the_end(pipeline: RawPipeline) -> None:
    process = pipeline.start()
    wait_for(lambda: probe(pipeline.folder, "/ready")[0] == 503, timeout=60, what="a worker without partitions")
    assert probe(pipeline.folder, "/live")[0] == 200
    wait_until_ready(pipeline.folder, process, pipeline.log)
    assert "3 partitions" in probe(pipeline.folder, "/ready")[1]
    assert end(process) == 0, pipeline.log()[-3000:]
    assert not (pipeline.folder / ".tailrace" / "run" / "conform.json").exists()


def test_nothing_applied_is_refused_with_what_to_do(stack: RunningStack, tmp_path: Path) -> None:
    bare = RawPipeline(tmp_path / "project", stack.endpoints)
    assert bare.start().wait(60) == 5
    assert "tailrace apply" in bare.log()


def test_a_contract_that_is_not_the_registered_one_is_refused(pipeline: RawPipeline) -> None:
    path = pipeline.folder / "schemas" / "reading.avsc"
    changed = json.loads(path.read_text())
    changed["doc"] = "changed after apply"
    path.write_text(json.dumps(changed))
    assert pipeline.start().wait(60) == 5
    assert "another one in the registry" in pipeline.log()
    registry = Registry(pipeline.endpoints.registry)
    assert registry.latest(pipeline.topic) is not None
    registry.close()


def test_a_broker_that_is_down_at_start_is_waited_for_and_a_stop_is_obeyed(pipeline: RawPipeline) -> None:
    process = pipeline.start(TAILRACE_KAFKA="127.0.0.1:9")
    wait_for(lambda: "waiting for a service" in pipeline.log(), timeout=60, what="the word that Kafka is down")
    assert probe(pipeline.folder, "/ready")[0] == 503
    assert "waiting" in probe(pipeline.folder, "/live")[1]
    assert end(process, timeout=20) == 0, pipeline.log()[-3000:]


def test_records_that_retention_took_before_they_were_processed_stop_the_worker(pipeline: RawPipeline) -> None:
    pipeline.write(*[reading(number) for number in range(90)])
    with working(pipeline):
        pipeline.wait_until_committed()
    pipeline.write(*[reading(number) for number in range(90)])
    pipeline.truncate(partition=1, before=45)
    process = pipeline.start()
    assert process.wait(60) == 70, pipeline.log()[-3000:]
    assert "removed from a topic before they were processed" in pipeline.log()
    assert pipeline.committed()[1] == 30


def test_records_of_a_kafka_transaction_wait_for_its_end_and_those_of_an_aborted_one_are_never_conformed(
    pipeline: RawPipeline,
) -> None:
    producers = [
        Producer({"bootstrap.servers": pipeline.endpoints.kafka, "transactional.id": f"{pipeline.name}-{number}"})
        for number in range(2)
    ]

    def begin(producer: Producer, number: int) -> None:
        producer.begin_transaction()
        producer.produce(pipeline.raw, message(payload("c", after=reading(number))), b'{"id":%d}' % number, 1)
        assert producer.flush(30) == 0

    for producer in producers:
        producer.init_transactions(30)
    begin(producers[0], 1)
    producers[0].abort_transaction(30)
    begin(producers[0], 4)
    producers[0].commit_transaction(30)
    begin(producers[1], 7)  # open, and a record of nobody's transaction behind it
    pipeline.write(reading(10))
    with working(pipeline):
        wait_for(pipeline.outputs, timeout=30, what="what was committed")
        assert [pipeline.value(found)["id"] for found in pipeline.outputs()] == [4]
        producers[1].commit_transaction(30)
        pipeline.write(reading(13))
        wait_for(lambda: len(pipeline.outputs()) >= 4, timeout=30, what="what was open")  # its marker may be the last
    assert [pipeline.value(found)["id"] for found in pipeline.outputs()] == [4, 7, 10, 13]
    assert not pipeline.dead_letters()
