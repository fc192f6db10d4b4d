"""The raw zone of a running pipeline: the raw topic's own bytes, proved by verify, mended by a replay."""

from __future__ import annotations

import base64
import json
import re
import secrets
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from confluent_kafka import TopicPartition

from tailrace import aws, topics
from tailrace.cli import cli
from tailrace.control import barrier, init
from tailrace.control.verify import verify
from tailrace.demo import database
from tailrace.kafka import KafkaAdmin, Outbox, reader
from tests.bank import Bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.control.verify import Report
    from tests.providers import RunningStack

DOCS = Path(__file__).resolve().parents[2] / "docs" / "lake.md"
TABLE = "CREATE TABLE crates (id bigint PRIMARY KEY, note text NOT NULL)"
SINKS = """
from tailrace import LakeTable, RawLakeTable

crates = LakeTable("crates", record="crates")
history = RawLakeTable("crates", table="public.crates")
"""
STORED = (
    "SELECT _partition, _offset, base64(key) AS k, base64(value) AS v, len(headers) AS h, epoch_ms(_timestamp) AS t"
)
Stored = tuple[int, int, str | None, str | None, int, int]


@pytest.fixture(scope="module")
def crates(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A pipeline of one table whose only sink writes both zones of the lake."""
    made = Bank(tmp_path_factory.mktemp("crates"), f"raw{secrets.token_hex(3)}")
    init.lay_out(made.folder, init.wanted(made.folder, made.name, None, ["public.crates"]))
    for each in (made.folder / "sinks").glob("*.py"):
        each.unlink()
    (made.folder / "sinks" / "lake.py").write_text(SINKS)
    settings = made.folder / "tailrace.toml"
    settings.write_text(settings.read_text().replace("flush_seconds = 5.0", "flush_seconds = 0.2"))
    stack.endpoints.save(made.folder)
    with closing(database.connect(stack.endpoints.database("postgres"), autocommit=True)) as opened:
        opened.cursor().execute(f"CREATE DATABASE {made.name}")
    with closing(database.connect(stack.endpoints.database(made.name), autocommit=True)) as opened:
        opened.cursor().execute(TABLE)
    made.must("schema", "derive", "crates", "--force")
    try:
        made.must("apply", "--yes")
        with made.running("run", "all"):
            yield made
    finally:
        made.remove()


def run(crates: Bank, statement: str) -> None:
    loaded = crates.load()
    with closing(database.connect(loaded.endpoints.database(crates.name), autocommit=True)) as opened:
        opened.cursor().execute(statement)


def in_kafka(crates: Bank) -> list[Stored]:
    """Return every record of the raw topic, as ``STORED`` shows it."""
    topic = topics.raw(crates.name, "public.crates")
    bootstrap = crates.load().endpoints.kafka
    ends = KafkaAdmin(bootstrap).ends([topic])
    found: list[Stored] = []
    with closing(reader(bootstrap, "raw-test")) as consumer:
        consumer.assign([TopicPartition(*place, 0) for place in ends])
        while len(found) < sum(ends.values()):
            found += [shown(each) for each in consumer.consume(100, 0.5) if each.error() is None]
    return sorted(found)


def shown(each: Any) -> Stored:
    texts = [None if part is None else base64.b64encode(part).decode() for part in (each.key(), each.value())]
    return (each.partition(), each.offset(), texts[0], texts[1], len(each.headers() or ()), each.timestamp()[1])


def in_lake(crates: Bank) -> list[Stored]:
    """Return every record of the raw zone, repeated ones repeated."""
    rows = asked(crates, f"{STORED} FROM objects")
    return sorted((row["_partition"], row["_offset"], row["k"], row["v"], row["h"], row["t"]) for row in rows)


def asked(crates: Bank, sql: str) -> Any:
    """Ask the raw zone as `tailrace lake query` does."""
    words = ["lake", "query", "raw/crates", sql, "--json", "--project", str(crates.folder)]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def proved(crates: Bank) -> Report:
    loaded = crates.load()
    return verify(loaded, wait=lambda: barrier.cross(loaded, timeout=60))


def test_the_raw_zone_holds_the_topics_own_bytes_once_and_verify_proves_it_by_offset_and_key(crates: Bank) -> None:
    run(crates, "INSERT INTO crates SELECT n, 'crate ' || n FROM generate_series(1, 40) n")
    run(crates, "UPDATE crates SET note = 'moved' WHERE id <= 5; DELETE FROM crates WHERE id > 30")
    outbox = Outbox(crates.load().endpoints.kafka, "raw-test")
    outbox.send(topics.raw(crates.name, "public.crates"), key=b"\xff", value=b"\x00no envelope", partition=0)
    outbox.flush(30)

    report = proved(crates)

    assert report.ok, report
    assert [(check.sink, check.store, check.equal) for check in report.checks] == [
        ("lake", "Lake conformed/crates", 30),
        ("lake", "RawLake raw/crates", 30),
    ]
    assert in_lake(crates) == in_kafka(crates)
    assert f"compared by offset and key, not by value; {len(in_kafka(crates))} records" in report.notes[0]
    assert asked(crates, "SELECT count(*) AS n, count(DISTINCT key) AS k FROM current") == [{"n": 30, "k": 30}]


def test_the_documented_query_over_raw_envelopes_shows_what_became_of_a_row(crates: Bank) -> None:
    run(crates, "INSERT INTO crates VALUES (7000, 'first')")
    run(crates, "UPDATE crates SET note = 'second' WHERE id = 7000")
    assert proved(crates).ok
    [sql] = [each for each in re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL) if "payload" in each]
    rows = asked(crates, sql.replace('"id":7', '"id":7000'))
    assert [(row["_op"], json.loads(row["row"])["note"]) for row in rows] == [("c", "first"), ("u", "second")]


def test_what_a_kill_a_replay_or_a_lost_object_does_to_the_raw_zone_is_found_and_mended(crates: Bank) -> None:
    crates.kill("lake")
    run(crates, "UPDATE crates SET note = 'again' WHERE id <= 20")
    loaded = crates.load()
    with closing(aws.client("s3", loaded.endpoints.s3)) as s3:
        bucket = loaded.settings.lake.bucket
        found = s3.list_objects_v2(Bucket=bucket, Prefix="raw/crates/dt=")["Contents"]
        s3.delete_object(Bucket=bucket, Key=found[0]["Key"])
    report = proved(crates)
    assert not report.ok
    assert "not in the bucket" in " ".join(report.faults)

    crates.must("replay", "sink", "lake", "--to", "beginning", "--yes")
    assert proved(crates).ok
    assert in_lake(crates) == in_kafka(crates)
