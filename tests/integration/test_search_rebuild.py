"""A new index behind an alias, filled beside a running worker, on a real OpenSearch and a real topic."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tailrace import crashpoint
from tailrace.control.markers import purge
from tailrace.control.rebuild import Rebuild, drop_old, find, old_indexes
from tailrace.control.resources.search import SearchIndexResource
from tailrace.control.services import Services
from tailrace.crashpoint import Command
from tailrace.deadline import Deadline, wait_for
from tailrace.errors import Refused
from tailrace.kafka import Outbox
from tailrace.sink.search import SearchWriter
from tailrace.targets import DELETED_FIELD
from tailrace.testing import PARCEL, Tape, parcel
from tests.conformed import Conformed, running
from tests.lakebucket import Killed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailrace.crashpoint import CrashPoint
    from tests.providers import RunningStack

SINK = 'from tailrace import SearchIndex, Text\nparcels = SearchIndex("{alias}", record="parcel", text=({text}))\n'


class Rebuilding:
    """A pipeline with one search sink whose declaration may change."""

    def __init__(self, folder: Path, stack: RunningStack) -> None:
        self.alias = f"rebuilt-{uuid.uuid4().hex[:8]}"
        self.pipeline = Conformed(folder, stack.endpoints, {"search": self.text('"note",')})
        self.services = Services(self.pipeline.load())
        self.client = self.services.search
        SearchIndexResource(self.services, find(self.services.project, self.alias)[1]).apply()

    def text(self, text: str) -> str:
        return SINK.format(alias=self.alias, text=text)

    def declare(self, text: str) -> None:
        """Declare other texts."""
        (self.pipeline.folder / "sinks" / "search.py").write_text(self.text(text))
        self.services.project = self.pipeline.load()

    def rebuild(self) -> Any:
        return Rebuild(self.services, self.alias, Deadline.after(60), lambda _: None).run(proved=False)

    def notes(self) -> dict[str, str]:
        """Return what the alias shows."""
        self.client.indices.refresh(index=self.alias)
        hits = self.client.search(index=self.alias, body={"size": 1000})["hits"]["hits"]
        return {hit["_id"]: hit["_source"]["note"] for hit in hits}

    def remove(self) -> None:
        self.client.indices.delete(index=f"{self.alias}-*")
        self.services.__exit__()
        self.pipeline.remove()


@pytest.fixture
def made(stack: RunningStack, tmp_path: Path) -> Iterator[Rebuilding]:
    there = Rebuilding(tmp_path, stack)
    yield there
    there.remove()


def test_a_new_index_is_filled_under_traffic_and_misses_nothing(made: Rebuilding) -> None:
    tape, stop, sent = Tape(), threading.Event(), [0]
    made.pipeline.send([tape.put(parcel(number)) for number in range(1, 201)])
    gone = tape.put(parcel(500))
    made.pipeline.send([gone, tape.delete(parcel(500))])

    def traffic() -> None:
        while not stop.wait(0.005):
            sent[0] += 1
            made.pipeline.send([tape.put(parcel(1 + sent[0] % 50, note=f"turn {sent[0]}"), before=parcel(1))])

    with running(made.pipeline.load(), "search"):
        made.pipeline.wait_until_committed("search")
        made.declare('"note",), fields=("id", "note"')
        with pytest.raises(Refused, match="another form: active, amount"):
            made.rebuild()
        made.declare('Text("note", analyzer="english"),')
        sender = threading.Thread(target=traffic)
        sender.start()
        try:
            done = made.rebuild()
            wait_for(lambda: sent[0] > 100, timeout=30, what="some traffic")
        finally:
            stop.set()
            sender.join()
        made.pipeline.wait_until_committed("search")

    assert (done.old, done.new, done.rejected) == (f"{made.alias}-000001", f"{made.alias}-000002", 0)
    last = {str(1 + turn % 50): f"turn {turn}" for turn in range(1, sent[0] + 1)}
    assert made.notes() == {str(number): f"parcel {number}" for number in range(1, 201)} | last
    _nothing_comes_back(made, gone)


@pytest.mark.parametrize(("point", "old"), [(Command.INDEX_FILLED, 1), (Command.ALIAS_MOVED, 2)])
def test_a_rebuild_that_died_is_made_good_by_the_next(made: Rebuilding, point: CrashPoint, old: int) -> None:
    tape = Tape()
    made.pipeline.send([tape.put(parcel(number)) for number in range(1, 31)])
    with running(made.pipeline.load(), "search"):
        made.pipeline.wait_until_committed("search")

        def die(_: Any) -> None:
            made.pipeline.send(
                [tape.put(parcel(number, note="late"), before=parcel(number)) for number in range(1, 11)]
            )
            made.pipeline.wait_until_committed("search")
            raise Killed

        with pytest.raises(Killed), crashpoint.armed(point.spelled, die):
            made.rebuild()
        done = made.rebuild()
        made.pipeline.wait_until_committed("search")

    assert (done.old, done.new) == (f"{made.alias}-{old:06}", f"{made.alias}-{old + 1:06}")
    assert made.notes() == {str(number): "late" if number < 11 else f"parcel {number}" for number in range(1, 31)}


def _nothing_comes_back(made: Rebuilding, gone: Any) -> None:
    """See that the new index has the delete markers too, and that the old index can be dropped."""
    _, target = find(made.services.project, made.alias)
    writer = SearchWriter(target, PARCEL, made.services.project.endpoints)
    assert writer.write([gone], timeout=30).stale == 1
    writer.close()
    assert made.client.get(index=f"{made.alias}-000002", id="500")["_source"] == {DELETED_FIELD: True}
    assert drop_old(made.services, target) == [f"{made.alias}-000001"]
    assert old_indexes(made.services, target) == (f"{made.alias}-000002", [])


def test_what_an_interrupted_rebuild_left_is_removed_and_a_foreign_index_is_not(made: Rebuilding) -> None:
    made.pipeline.send([Tape().put(parcel(1))])
    new = f"{made.alias}-000002"
    made.client.indices.create(index=new, body={"aliases": {f"{made.alias}-rebuild": {}}})
    made.client.index(index=new, id="7", body={"note": "left over"})

    assert made.rebuild().new == new
    assert made.notes() == {"1": "parcel 1"}

    made.client.indices.create(index=f"{made.alias}-000003", body={"aliases": {f"foreign-{made.alias}": {}}})
    with pytest.raises(Refused, match="another alias"):
        made.rebuild()


def test_only_markers_older_than_the_whole_raw_topic_are_purged(made: Rebuilding) -> None:
    tape, alias = Tape(), made.alias
    _, target = find(made.services.project, alias)
    raw = f"{made.pipeline.name}.raw.public.parcel"
    admin = AdminClient({"bootstrap.servers": made.pipeline.endpoints.kafka, "log_level": 2})
    admin.create_topics([NewTopic(raw, 1, 1)])[raw].result(30)
    try:
        writer = SearchWriter(target, PARCEL, made.services.project.endpoints)
        deletes = [tape.delete(parcel(number)) for number in range(1, 6)]
        writer.write([*deletes, tape.put(parcel(9))], timeout=30)
        writer.close()
        outbox = Outbox(made.pipeline.endpoints.kafka, "test")
        for _ in range(6):
            outbox.send(raw, key=b"", value=b"", partition=0)
        outbox.flush(30)
        admin.delete_records([TopicPartition(raw, 0, 4)])[TopicPartition(raw, 0)].result(30)

        done = purge(made.services, target)

        assert (done.markers, done.deleted, done.below) == (5, 3, 4)  # offsets 1 to 5, and 4 is the first one left
        assert purge(made.services, target).markers == 2
        assert made.notes() == {"9": "parcel 9"}
    finally:
        admin.delete_topics([raw])[raw].result(30)
