"""Status and barrier on real servers: behind, lag and parked are true, and the hop that does not pass is named."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg2
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic

from tailrace import deadletter, project
from tailrace.change import Provenance
from tailrace.control import barrier
from tailrace.control.services import Services
from tailrace.control.status import Monitor
from tailrace.deadline import Deadline
from tailrace.errors import Refused, Unreachable
from tailrace.kafka import KafkaAdmin, Outbox, reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailrace.project import Project
    from tests.providers import RunningStack

RECORDS = 10


@pytest.fixture
def loaded(stack: RunningStack, tmp_path: Path) -> Iterator[Project]:
    name = f"status{uuid.uuid4().hex[:8]}"
    stack.endpoints.save(tmp_path)
    schema = {"type": "record", "name": "T", "key": ["id"], "fields": [{"name": "id", "type": "long"}]}
    connector = {
        "database.dbname": name,
        "slot.name": name,
        "topic.prefix": f"{name}.raw",
        "table.include.list": "public.things",
    }
    files = {
        "tailrace.toml": f'[pipeline]\nname = "{name}"\nconnector = "{name}"\n',
        f"connectors/{name}.json": json.dumps(connector),
        "schemas/things.avsc": json.dumps(schema),
        "sinks/keep.py": 'from tailrace import LakeTable\nthings = LakeTable("things", record="things")\n',
    }
    for place, content in files.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(content)
    server = stack.endpoints.database("postgres")
    _sql(server, f"CREATE DATABASE {name}")
    admin = KafkaAdmin(stack.endpoints.kafka)
    names = [f"{name}.raw.public.things", f"{name}.conformed.things", f"{name}.dlq.keep", f"{name}.dlq.conform"]
    for future in admin.client.create_topics([NewTopic(topic, 1, 1) for topic in names]).values():
        future.result()
    yield project.load(tmp_path)
    for future in admin.client.delete_topics(names).values():
        future.result()
    _sql(server, f"DROP DATABASE {name} WITH (FORCE)")


def _sql(url: str, statement: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(statement)


def fill(loaded: Project, *, age: float) -> None:
    """Write conformed records that were committed ``age`` seconds ago, and one dead letter."""
    outbox = Outbox(loaded.endpoints.kafka, loaded.name)
    topic, committed = f"{loaded.name}.conformed.things", int((time.time() - age) * 1e6)
    for number in range(RECORDS):
        headers = Provenance(number + 1, "c", None, committed, "", "").headers()
        outbox.send(topic, key=b"%d" % number, value=b"x", headers=headers, partition=0)
    letter = deadletter.letter(
        worker="keep", stage="write", reason="r", place=(topic, 0, 3), key=b"k", value=b"v", headers=None
    )
    outbox.send(f"{loaded.name}.dlq.keep", key=b"k", value=b"v", headers=letter.message_headers(), partition=0)
    outbox.flush()


def commit(loaded: Project, offset: int) -> None:
    """Set the sink group's offset, as a worker does."""
    consumer = reader(loaded.endpoints.kafka, "commit", **{"group.id": f"{loaded.name}.keep"})
    place = TopicPartition(f"{loaded.name}.conformed.things", 0, offset)
    consumer.commit(offsets=[place], asynchronous=False)
    consumer.close()


def test_a_sample_says_how_far_behind_a_sink_is_and_how_much_is_parked(loaded: Project) -> None:
    fill(loaded, age=100)
    with Monitor(loaded) as monitor:
        commit(loaded, 4)
        first = {flow.worker: flow for flow in monitor.sample().flows}["keep"]
        commit(loaded, RECORDS)
        second = monitor.sample()

    last = {flow.worker: flow for flow in second.flows}["keep"]
    assert (first.behind, first.parked, first.rate) == (6, 1, None)
    assert 100 <= first.lag_seconds < 160
    assert (last.behind, last.lag_seconds) == (0, 0.0)
    assert (last.rate or 0) > 0
    assert {worker.name: worker.state for worker in second.workers} == {"conform": "not running", "keep": "not running"}
    assert "does not exist" in second.source.trouble
    assert json.loads(json.dumps(second.as_dict()))["flows"]


def test_a_barrier_names_the_sink_that_nobody_runs(loaded: Project) -> None:
    fill(loaded, age=0)
    with Services(loaded) as services:
        passing = barrier.Barrier(services, Deadline.after(2), lambda _: None)
        with pytest.raises(Unreachable, match="sink keep did not pass") as caught:
            passing.sinks()
        assert "0 members" in caught.value.detail
        assert "tailrace run sink keep" in caught.value.hint
        commit(loaded, RECORDS)
        assert passing.sinks() == {(f"{loaded.name}.conformed.things", 0): RECORDS}


def test_a_barrier_without_a_heartbeat_topic_is_refused(loaded: Project) -> None:
    with pytest.raises(Refused, match="There is no topic"):
        barrier.cross(loaded, timeout=5)
