"""Replay and dead letters on a real broker: a group is set back only while nobody is in it; letters are counted."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import NewTopic

from tailrace import deadletter, project
from tailrace.control import dlq, replay
from tailrace.control.barrier import lacking, needs
from tailrace.deadline import wait_for
from tailrace.errors import Refused, UsageError
from tailrace.kafka import KafkaAdmin, Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailrace.project import Project
    from tests.providers import RunningStack

RECORDS = 20


@pytest.fixture
def loaded(stack: RunningStack, tmp_path: Path) -> Iterator[Project]:
    name = f"replay{uuid.uuid4().hex[:8]}"
    stack.endpoints.save(tmp_path)
    schema = {"type": "record", "name": "T", "key": ["id"], "fields": [{"name": "id", "type": "long"}]}
    connector = {"database.dbname": name, "topic.prefix": f"{name}.raw", "table.include.list": "public.things"}
    files = {
        "tailrace.toml": f'[pipeline]\nname = "{name}"\nconnector = "c"\n',
        "connectors/c.json": json.dumps(connector),
        "schemas/things.avsc": json.dumps(schema),
        "sinks/keep.py": 'from tailrace import LakeTable\nthings = LakeTable("things", record="things")\n',
    }
    for place, content in files.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(content)
    admin = KafkaAdmin(stack.endpoints.kafka)
    names = [f"{name}.conformed.things", f"{name}.dlq.keep"]
    for future in admin.client.create_topics([NewTopic(topic, 1, 1) for topic in names]).values():
        future.result()
    outbox = Outbox(stack.endpoints.kafka, name)
    for number in range(RECORDS):
        outbox.send(names[0], key=b"%d" % number, value=b"x", partition=0)
    outbox.flush()
    yield project.load(tmp_path)
    for future in admin.client.delete_topics(names).values():
        future.result()


def member(loaded: Project) -> Consumer:
    """Return a consumer that has joined the sink's group and committed everything."""
    consumer = Consumer(
        {
            "bootstrap.servers": loaded.endpoints.kafka,
            "group.id": f"{loaded.name}.keep",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([f"{loaded.name}.conformed.things"])
    seen: list[object] = []

    def read() -> bool:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            seen.append(message)
        return len(seen) == RECORDS

    wait_for(read, timeout=60, every=0.0, what="all records")
    consumer.commit(asynchronous=False)
    return consumer


def test_a_group_is_set_back_only_when_nobody_is_in_it(loaded: Project) -> None:
    admin, place = KafkaAdmin(loaded.endpoints.kafka), (f"{loaded.name}.conformed.things", 0)
    with closing(member(loaded)):
        at = replay.positions(loaded, admin, "sink", "keep")
        planned = replay.plan(loaded, "sink", "keep", at, replay.to_offsets(at, {place: 5}))
        with pytest.raises(Refused, match="1 members"):
            replay.execute(loaded, admin, planned, say=lambda _: None)
        assert admin.committed(f"{loaded.name}.keep", [place[0]]) == {place: RECORDS}
    wait_for(lambda: not admin.members(f"{loaded.name}.keep"), timeout=30, what="an empty group")

    supervised = replay.execute(loaded, admin, planned, say=lambda _: None)

    assert not supervised
    assert planned.total == RECORDS - 5
    assert admin.committed(f"{loaded.name}.keep", [place[0]]) == {place: 5}
    assert lacking(needs(at.ends, at.starts), {place: 5}) == {place: RECORDS}
    assert not list((loaded.folder / ".tailrace" / "run").glob("*.hold"))


def test_dead_letters_are_counted_by_reason_and_shown_with_their_bytes(loaded: Project) -> None:
    admin, outbox = KafkaAdmin(loaded.endpoints.kafka), Outbox(loaded.endpoints.kafka, "letters")
    for number, reason in enumerate(("one", "other", "other")):
        letter = deadletter.letter(
            worker="keep",
            stage="write",
            reason=reason,
            place=("raw.t", 0, number),
            key=b"k",
            value=b"\xff",
            headers=None,
        )
        headers = letter.message_headers()
        outbox.send(f"{loaded.name}.dlq.keep", key=letter.key, value=letter.value, headers=headers, partition=0)
    outbox.flush()

    heaps = dlq.heaps(loaded, admin)
    [shown] = dlq.show(loaded, admin, "keep", limit=5, place=(0, 1))

    assert [(heap.worker, heap.stage, heap.reason, heap.count) for heap in heaps] == [
        ("keep", "write", "other", 2),
        ("keep", "write", "one", 1),
    ]
    assert dlq.by_source(admin, f"{loaded.name}.dlq.keep") == {"raw.t": 3}
    assert shown.letter.source == "raw.t/0/1"
    assert shown.as_dict(values=True)["value"] == "base64:/w=="
    assert "value" not in shown.as_dict(values=False)
    with pytest.raises(UsageError):
        dlq.show(loaded, admin, "keep", limit=5, place=(0, 9))
