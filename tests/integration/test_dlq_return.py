"""Letters that may not be put back, and those that may: forged ones on a real broker, while no worker runs."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import NewTopic

from tailrace import aws, deadletter, epoch, topics
from tailrace.change import OP, VERSION, Provenance
from tailrace.cli import cli
from tailrace.control.lake import LakeFolder, LakeReader
from tailrace.errors import UsageError
from tailrace.kafka import Outbox
from tailrace.sink.lake import LakeWriter
from tailrace.source import unchanged
from tailrace.targets import LakeTable
from tailrace.testing import PARCEL, Tape, parcel
from tests.conformed import Conformed
from tests.raw import RawPipeline, message, payload, reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailrace.deadletter import DeadLetter
    from tests.providers import RunningStack

SINKS = {
    "memory": 'from tailrace.testing import MemorySink\nsink = MemorySink("parcel")\n',
    "lake": 'from tailrace import LakeTable\nsink = LakeTable("parcels", record="parcel")\n',
}
LAKE = LakeTable("parcels", record="parcel")
WEEK = 8 * 24 * 3600 * 1_000_000


@pytest.fixture(scope="module")
def parcels(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conformed]:
    settings = f'[lake]\nbucket = "return-{uuid4().hex[:8]}"\n'
    made = Conformed(tmp_path_factory.mktemp("parcels") / "project", stack.endpoints, SINKS, settings)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def readings(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawPipeline]:
    made = RawPipeline(tmp_path_factory.mktemp("readings") / "project", stack.endpoints, partitions=1)
    made.apply()
    yield made
    made.remove()


def dlq(folder: Path, *arguments: str) -> Any:
    words = ["dlq", *arguments, "--json", "--project", str(folder)]
    done = CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def told(folder: Path, worker: str, *options: str) -> list[tuple[str, str]]:
    return [(each["how"], each["reason"]) for each in dlq(folder, "replay", worker, "--all", "--yes", *options)]


def park(bootstrap: str, pipeline: str, letter: DeadLetter) -> None:
    outbox = Outbox(bootstrap, "forged")
    topic = topics.dead_letters(pipeline, letter.worker)
    outbox.send(topic, key=letter.key, value=letter.value, headers=letter.message_headers())
    outbox.flush(30)


def forged(parcels: Conformed, worker: str, sink: str, **changes: Any) -> None:
    """Park a parcel that a sink refused."""
    change = Tape().put(parcel(1))
    origin = Provenance(change.version, change.op, change.lsn, change.committed_us, change.tx, change.origin)
    letter = deadletter.letter(
        worker=worker, stage="write", reason="refused", place=(parcels.topic, 1, 0), key=change.raw_key,
        value=PARCEL.encode(parcel(1), parcels.schema_id), headers=[*origin.headers()], sink=sink,
    )  # fmt: skip
    park(parcels.endpoints.kafka, parcels.name, replace(letter, **changes))


def test_a_letter_is_left_where_nobody_takes_it_or_a_delete_may_be_forgotten(parcels: Conformed) -> None:
    forged(parcels, "memory", "search/gone")
    [(how, reason)] = told(parcels.folder, "memory")
    assert how == "left"
    assert "no sink search/gone" in reason
    dlq(parcels.folder, "drop", "memory", "--all")

    forged(parcels, "memory", "MemorySink", first_failed_us=deadletter.now_us() - WEEK)
    [(how, reason)] = told(parcels.folder, "memory")
    assert how == "left"
    assert "older than 7 days" in reason
    assert told(parcels.folder, "memory", "--despite-age") == [("replayed", "")]


def test_a_lakes_letter_becomes_one_more_object_once_and_is_no_newer_for_that(parcels: Conformed) -> None:
    loaded, tape = parcels.load(), Tape(partition=1)
    newer = [tape.put(parcel(1)), tape.put(parcel(1, note="newer"))][1]
    with closing(aws.client("s3", loaded.endpoints.s3)) as s3:
        s3.create_bucket(Bucket=loaded.settings.lake.bucket)
    with closing(LakeWriter(LAKE, PARCEL, loaded.endpoints, loaded.settings.lake)) as writer:
        assert not writer.write([newer], timeout=30)

    for expected in ("replayed", "stale"):
        forged(parcels, "lake", "lake/parcels", first_failed_us=deadletter.now_us() - WEEK)
        assert told(parcels.folder, "lake") == [(expected, "")]

    lake = LakeReader(LakeFolder(loaded.endpoints.s3, loaded.settings.lake.bucket, "conformed", "parcels", ("id",)))
    assert lake.rows("SELECT note, _offset FROM objects ORDER BY 2") == [
        {"note": "parcel 1", "_offset": 0}, {"note": "newer", "_offset": 1},
    ]  # fmt: skip
    assert lake.rows("SELECT note FROM current") == [{"note": "newer"}]


def test_a_letter_that_cannot_be_read_fails_again_and_counts(parcels: Conformed) -> None:
    forged(parcels, "memory", "", stage="decode", value=b"?")
    with pytest.raises(UsageError, match="cannot be read"):
        dlq(parcels.folder, "edit", "memory", place(parcels), "--set", "note=x")
    [(how, _)] = told(parcels.folder, "memory")
    [shown] = dlq(parcels.folder, "show", "memory")
    assert (how, shown["failures"], shown["stage"]) == ("failed again", 2, "decode")
    assert "framing" in shown["reason"]
    dlq(parcels.folder, "drop", "memory", shown["place"])


def place(parcels: Conformed) -> str:
    [shown] = dlq(parcels.folder, "show", "memory")
    return str(shown["place"])


def raw(readings: RawPipeline, value: bytes | None, number: int, *, sent: bytes | None = None, **changes: Any) -> int:
    """Write a raw record, park it with ``sent`` as its value, and return its offset."""
    offset = readings.ends()[0]
    key = b'{"id":%d}' % number
    readings.send(0, key, value)
    readings.outbox.flush(30)
    letter = deadletter.letter(
        worker="conform", stage="conform", reason="refused", place=(readings.raw, 0, offset), key=key,
        value=value if sent is None else sent, headers=[("origin", b"test")],
    )  # fmt: skip
    park(readings.endpoints.kafka, readings.name, replace(letter, **changes))
    return offset


def created(number: int, **other: Any) -> bytes:
    return message(payload("c", after=reading(number, **other)))


def newest(readings: RawPipeline) -> dict[bytes | None, tuple[str, int]]:
    """Return by key the op and the raw offset of the last record in the conformed topic."""
    found = {}
    for each in readings.outputs():
        headers = dict(each.headers)
        found[each.key] = ((headers[OP] or b"").decode(), int(headers[VERSION] or 0) & 0xFFFFFFFF)
    return found


def test_a_raw_letter_is_sent_with_the_version_of_its_place_unless_something_newer_is_there(
    readings: RawPipeline,
) -> None:
    good = raw(readings, created(1), 1)
    gone = raw(readings, None, 2)
    older, newer = raw(readings, created(3), 3), raw(readings, created(3, note="newer"), 3)
    assert sorted(how for how, _ in told(readings.folder, "conform")) == ["replayed"] * 4
    before = newest(readings)
    assert before == {b'{"id":1}': ("c", good), b'{"id":2}': ("d", gone), b'{"id":3}': ("c", newer)}

    forged_again = deadletter.letter(
        worker="conform", stage="conform", reason="refused", place=(readings.raw, 0, older), key=b'{"id":3}',
        value=created(3), headers=[],
    )  # fmt: skip
    park(readings.endpoints.kafka, readings.name, forged_again)
    assert told(readings.folder, "conform") == [("stale", "")]
    assert newest(readings) == before


def test_a_raw_letter_is_left_where_its_version_is_not_certain(readings: RawPipeline) -> None:
    raw(readings, created(11), 11, sent=created(11, note="another topic's"))
    [(how, reason)] = told(readings.folder, "conform")
    assert how == "left"
    assert "no longer where the letter says" in reason
    dlq(readings.folder, "drop", "conform", "--all")

    raw(readings, created(12), 12)
    found = epoch.need(readings.admin, readings.name)
    later = replace(found, epoch=2, begins={"2": {readings.raw: [readings.ends()[0]]}})
    epoch.write(readings.endpoints.kafka, readings.name, later)
    [(how, reason)] = told(readings.folder, "conform")
    epoch.write(readings.endpoints.kafka, readings.name, found)
    assert how == "left"
    assert "earlier epoch" in reason
    assert told(readings.folder, "conform") == [("replayed", "")]


def test_a_raw_letter_that_lacks_a_value_says_how_the_row_comes_back(readings: RawPipeline) -> None:
    body = payload("u", after=reading(13, note=unchanged.DEFAULT))
    raw(readings, message(body), 13)
    [(how, reason)] = told(readings.folder, "conform")
    assert how == "failed again"
    assert "was not sent" in reason
    assert "`tailrace snapshot TABLE` brings the whole row" in reason
    [shown] = dlq(readings.folder, "show", "conform")
    assert shown["failures"] == 2
    dlq(readings.folder, "edit", "conform", shown["place"], "--set", "note=known")
    assert told(readings.folder, "conform") == [("replayed", "")]


OUTBOX = """
[tables."public.reading".outbox]
routes = ["moved"]
key = "sensor"
type = "sensor"
route = "note"
payload = "sensor"
"""


@pytest.fixture
def outbox(stack: RunningStack, tmp_path: Path) -> Iterator[RawPipeline]:
    made = RawPipeline(tmp_path / "project", stack.endpoints, partitions=1)
    made.apply()
    with (made.folder / "tailrace.toml").open("a") as settings:
        settings.write(OUTBOX)
    yield made
    made.remove()


def test_an_event_is_sent_with_the_id_it_always_had_and_its_route_may_be_edited(outbox: RawPipeline) -> None:
    events = topics.events(outbox.name, "moved")
    [made] = outbox.admin.client.create_topics([NewTopic(events, 1, 1)]).values()
    made.result(30)
    raw(outbox, created(1, note="typo"), 1)
    assert [how for how, _ in told(outbox.folder, "conform")] == ["failed again"]
    dlq(outbox.folder, "edit", "conform", dlq(outbox.folder, "show", "conform")[0]["place"], "--set", "note=moved")

    assert told(outbox.folder, "conform") == [("replayed", "")]

    [event] = outbox.read(events)
    assert (event.header("id"), event.key, event.value) == ("1", b"s1", b"s1")
    [removed] = outbox.admin.client.delete_topics([events]).values()
    removed.result(30)
