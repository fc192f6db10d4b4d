"""What Debezium 3.7.0.Final forgets when it is stopped hard in the middle of something (docs/debezium.md).

One kill -9 of Connect hits every connector here, each held behind the record that a test is about (tests.debezium).
Where a loss is fixed, everything arrives; where it is not, the test says that it is lost, so that a version which mends
it shows, and that verify names the row and one command brings it back.
"""

from __future__ import annotations

import json
import re
import secrets
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import topics
from tailrace.control import init
from tailrace.deadline import wait_for
from tailrace.source.connect import Connect
from tests.bank import Bank
from tests.debezium import AWAY, MESSAGES, WAIT, Capture, Source, diverted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.providers import RunningStack

NEW_KEY, OLD_KEY = "__debezium.newkey", "__debezium.oldkey"
TABLES = ("copied", "early", "late", "moved", "shifted", "dropped", "told", "kept_a", "kept_b")
STREAM = {"snapshot.mode": "no_data"}
CUTS = ("own", "made", "wide")
ROUTED = {  # the rows of one table to a topic for each value of a column
    "transforms": "route",
    "transforms.route.type": "io.debezium.transforms.outbox.EventRouter",
    "transforms.route.table.field.event.key": "id",
    "transforms.route.table.field.event.payload": "note",
    "transforms.route.route.by.field": "side",
}
COPIED = [f"{number}\t{'a' if number <= 4 else 'b'}\tnote {number}" for number in range(1, 13)]


@dataclass(frozen=True)
class Losses:
    """What was held when Connect was killed, and what runs since."""

    source: Source
    pipeline: Bank
    held: Mapping[str, Capture]
    copied: Mapping[str, Any]  # the offset that was committed in the middle of the COPY


def captures(source: Source) -> dict[str, Capture]:
    """Return the connectors, each with the topic that takes no message."""
    token = secrets.token_hex(3)

    def capture(short: str, *tables: str, there: str, closed: str, **config: str) -> Capture:
        return Capture(source, f"{short}{token}", tables, tuple(there.split()), (closed,), {**STREAM, **config})

    route = {"transforms.route.route.topic.replacement": f"copy{token}.${{routedByValue}}"}
    return {
        "copy": capture("copy", "copied", there="a", closed="b", **ROUTED, **route),
        "commit": capture("commit", "early", "late", there="public.early", closed="public.late"),
        "told": capture("told", "told", there="message", closed="public.told", **{MESSAGES: "none"}),
        "insert": capture(
            "insert", "shifted", there="public.shifted", closed=f"public.shifted{AWAY}",
            **diverted(HasHeaderKey=OLD_KEY),
        ),
        "tombstone": capture(
            "tombstone", "dropped", there="public.dropped", closed=f"public.dropped{AWAY}",
            **diverted(RecordIsTombstone=""),
        ),
        "again": capture(
            "again", "kept_a", "kept_b", there="public.kept_a", closed="public.kept_b", **{"snapshot.mode": "initial"}
        ),
    }  # fmt: skip


def lay_out(stack: RunningStack, source: Source, folder: Path) -> Bank:
    """Return a pipeline of one table whose connector will wait behind the delete of a key change."""
    made = Bank(folder, source.name)
    init.lay_out(folder, init.wanted(folder, made.name, None, ["public.moved"]))
    for sink in ("lake", "search"):
        (folder / "sinks" / f"{sink}.py").unlink()
    place = folder / "connectors" / f"{made.name}.json"
    held = {
        **json.loads(place.read_text()),
        **diverted(RecordIsTombstone="", HasHeaderKey=OLD_KEY),
        "max.batch.size": "1",
    }
    place.write_text(json.dumps(held))
    stack.endpoints.save(folder)
    made.must("schema", "derive", "moved", "--force")
    made.must("apply", "--yes")
    source.topics(away(made), closed=True)
    return made


def away(pipeline: Bank) -> str:
    """Return where the pipeline's connector sends tombstones, and inserts of key changes."""
    return f"{topics.raw(pipeline.name, 'public.moved')}{AWAY}"


@pytest.fixture(scope="module")
def losses(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Losses]:
    """Hold every connector at its place, kill Connect, start it again with nothing in the way."""
    assert stack.embedded is not None, "only servers of our own can be killed"
    source = Source(stack.endpoints, f"losses{secrets.token_hex(3)}")
    source.create(*(f"CREATE TABLE {name} (id text PRIMARY KEY, side text, note text)" for name in TABLES))
    full = ("moved", "shifted", "dropped", "kept_a", "kept_b")
    source.run(*(f"INSERT INTO {name} VALUES ('1'), ('2'), ('3')" for name in full))
    pipeline, held = lay_out(stack, source, tmp_path_factory.mktemp("losses")), captures(source)
    for capture in held.values():
        capture.start()
    for capture in held.values():
        capture.wait_until_streaming()
    hold(source, pipeline, held)
    copied = held["copy"].offset()
    stack.embedded.kill("connect")
    source.run("DELETE FROM kept_a WHERE id = '1'")
    source.open(away(pipeline))
    for capture in held.values():
        capture.release()
    stack.embedded.start("connect")
    yield Losses(source, pipeline, held, copied)
    for capture in held.values():
        capture.remove()
    pipeline.remove()


def hold(source: Source, pipeline: Bank, held: Mapping[str, Capture]) -> None:
    """Write what each connector will be held in, and wait until it is."""
    held["copy"].wait_until_held("a", 4, source.transaction(copied=("copied", COPIED)))
    source.run(
        "BEGIN; SET LOCAL synchronous_commit = off; INSERT INTO early VALUES ('1'); COMMIT;"  # nothing may come between
        "BEGIN; INSERT INTO early VALUES ('2'); INSERT INTO late VALUES ('1'); COMMIT"
    )
    ((second,),) = source.query("SELECT xmin::text::bigint FROM early WHERE id = '2'")
    held["commit"].wait_until_held("public.early", 2, second)
    source.transaction("SELECT pg_logical_emit_message(true, 'told', 'first')", "INSERT INTO told VALUES ('1')")
    held["told"].wait_for_records("message", 1)
    held["tombstone"].wait_until_held("public.dropped", 1, source.transaction("DELETE FROM dropped WHERE id = '1'"))
    shifted = source.transaction("UPDATE shifted SET id = '10' WHERE id = '1'")
    held["insert"].wait_until_held("public.shifted", 2, shifted)
    moved = source.transaction("UPDATE moved SET id = '10' WHERE id = '1'")
    held["again"].wait_for_records("public.kept_a", 2)
    with closing(Connect(source.endpoints.connect)) as connect:
        wait_for(
            lambda: (connect.offsets(pipeline.name) or {}).get("txId") == moved,
            timeout=WAIT,
            what="the pipeline's connector to be held behind the delete of the key change",
        )


def selects(log: str) -> dict[str, set[str]]:
    """Return, by table, the snapshots that its rows were read under, as Postgres logged it; empty where under none."""
    said: dict[str, str] = {}
    found: dict[str, set[str]] = {}
    pid = ""
    for line in log.splitlines():
        entry = re.match(r"\S+ \S+ \S+ \[(\d+)\] ", line)
        pid = entry[1] if entry else pid
        said[pid] = said.get(pid, "") + line + "\n"
        read = re.search(r'SELECT .* FROM "public"\."(\w+)"', line)
        if read:
            pinned = re.search(r"SET TRANSACTION SNAPSHOT '([^']+)'", said[pid])
            found.setdefault(read[1], set()).add(pinned[1] if pinned else "")
    return found


def test_a_snapshot_is_one_cut_where_the_connector_makes_the_slot_and_in_several_threads_too(
    stack: RunningStack,
) -> None:
    assert stack.embedded is not None, "only of our own server the log can be read"
    log, source = stack.embedded.logs("postgres"), Source(stack.endpoints, f"cuts{secrets.token_hex(3)}")
    known = len(log.read_text())
    pairs = {short: (f"{short}_a", f"{short}_b", f"{short}_c") for short in CUTS}
    source.create(*(f"CREATE TABLE {name} (id text PRIMARY KEY)" for pair in pairs.values() for name in pair))
    source.run(*(f"INSERT INTO {name} VALUES ('1'), ('2')" for pair in pairs.values() for name in pair))
    source.run(f"ALTER DATABASE {source.name} SET log_statement = 'all'")
    captures = {
        short: Capture(
            source,
            f"{short}{source.name}",
            pair,
            tuple(f"public.{name}" for name in pair),
            config={"snapshot.max.threads": "2" if short == "wide" else "1"},
        )
        for short, pair in pairs.items()
    }
    source.run(f"SELECT pg_create_logical_replication_slot('{captures['made'].name}', 'pgoutput')")
    for capture in captures.values():
        capture.start()
    for capture in captures.values():
        for name in capture.tables:
            capture.wait_for_records(f"public.{name}", 2)
    for capture in captures.values():
        capture.remove()
    seen = selects(log.read_text()[known:])
    assert all(len(seen[name]) == 1 and seen[name] != {""} for name in (*pairs["own"], *pairs["wide"])), seen
    assert len({*seen["wide_a"], *seen["wide_b"], *seen["wide_c"]}) == 1
    assert [seen[name] for name in pairs["made"]] == [{""}] * 3, "a version that pins a slot of others has mended it"


def ids(capture: Capture, topic: str) -> list[str]:
    """Return the keys in a topic."""
    return [said.key for said in capture.read(topic)]


def test_rows_of_one_copy_that_share_an_lsn_all_arrive_after_a_hard_stop_in_the_middle(losses: Losses) -> None:
    capture = losses.held["copy"]
    assert losses.copied["lsn_events_processed"] == 4, "the rows that were sent have to share one LSN"
    losses.source.run("INSERT INTO copied VALUES ('last', 'b')")
    wait_for(lambda: "last" in ids(capture, "b"), timeout=WAIT, what="the last row")
    assert {*ids(capture, "a"), *ids(capture, "b")} == {*map(str, range(1, 13)), "last"}


def test_a_transaction_that_begins_where_another_ended_arrives_whole_after_a_hard_stop_in_it(losses: Losses) -> None:
    capture = losses.held["commit"]
    ended, began = json.loads(capture.read("public.early")[1].payload["source"]["sequence"])
    assert ended == began, "the transaction before it has to end where this one begins"
    losses.source.run("INSERT INTO late VALUES ('last')")
    wait_for(lambda: "last" in ids(capture, "public.late"), timeout=WAIT, what="the last row")
    assert ids(capture, "public.late") == ["1", "last"]


def test_a_row_behind_a_logical_message_of_its_transaction_arrives_after_a_hard_stop(losses: Losses) -> None:
    capture = losses.held["told"]
    losses.source.run("INSERT INTO told VALUES ('last')")
    wait_for(lambda: "last" in ids(capture, "public.told"), timeout=WAIT, what="the last row")
    assert ids(capture, "public.told") == ["1", "last"]


def test_a_key_change_stopped_before_its_insert_loses_the_insert(losses: Losses) -> None:
    capture, away = losses.held["insert"], f"public.shifted{AWAY}"
    losses.source.run("UPDATE shifted SET id = '20' WHERE id = '2'")
    wait_for(lambda: "20" in ids(capture, away), timeout=WAIT, what="the insert of a later key change")
    assert ids(capture, away) == ["20"], "a version that sends the insert of 10 again has mended dbz#2549"
    deleted, tombstone = capture.read("public.shifted")[:2]
    assert (deleted.key, deleted.payload["op"], tombstone.key, tombstone.payload) == ("1", "d", "1", None)
    assert b'"10"' in deleted.headers[NEW_KEY]


def test_a_delete_stopped_before_its_tombstone_loses_the_tombstone_alone(losses: Losses) -> None:
    capture, away = losses.held["tombstone"], f"public.dropped{AWAY}"
    losses.source.run("DELETE FROM dropped WHERE id = '2'")
    wait_for(lambda: "2" in ids(capture, away), timeout=WAIT, what="the tombstone of a later delete")
    assert ids(capture, away) == ["2"], "a version that sends the tombstone of 1 again has mended dbz#2549"
    assert [(said.key, said.payload["op"]) for said in capture.read("public.dropped")] == [("1", "d"), ("2", "d")]


def test_a_first_snapshot_that_begins_again_never_sends_what_was_deleted_meanwhile(losses: Losses) -> None:
    capture = losses.held["again"]
    losses.source.run("INSERT INTO kept_b VALUES ('last')")
    wait_for(lambda: "last" in ids(capture, "public.kept_b"), timeout=WAIT, what="the last row")
    sent = [said.payload and said.payload["op"] for said in capture.read("public.kept_a") if said.key == "1"]
    assert sent
    assert set(sent) == {"r"}
    assert losses.source.query("SELECT FROM kept_a WHERE id = '1'") == []


def test_a_row_lost_by_a_key_change_is_named_by_verify_and_brought_back_by_a_snapshot(losses: Losses) -> None:
    pipeline = losses.pipeline
    with pipeline.running("run", "all"):
        report = json.loads(pipeline.tailrace("verify", "--json").stdout)
        assert losses.source.read(away(pipeline)) == [], "a version that sends the rest again has mended dbz#2549"
        (check,) = report["checks"]
        assert [(entry["kind"], entry["key"]) for entry in check["examples"]] == [("missing", "MOVED#10 / MOVED")]
        assert check["equal"] == 2
        pipeline.must("snapshot", "public.moved")
        assert pipeline.json("verify")["ok"]
