"""Keys of every type through the real pipeline into each store, keys by message.key.columns, and half a key change."""

from __future__ import annotations

import io
import json
import secrets
from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg2
import pytest
from confluent_kafka import TopicPartition

from tailrace import topics
from tailrace.control import barrier, init
from tailrace.control.check import check
from tailrace.control.verify import verify
from tailrace.deadline import wait_for
from tailrace.demo import database
from tailrace.kafka import KafkaAdmin, Outbox, reader
from tailrace.source import signals
from tests import keyed
from tests.bank import Bank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from confluent_kafka import Message

    from tailrace.control.verify.report import Report
    from tests.keyed import Statement
    from tests.providers import RunningStack

WAIT = 60.0
SINKS = ("dynamodb", "lake", "search")


@pytest.fixture(scope="module")
def running(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A running pipeline of all tables; the first half of their rows is there from the start."""
    made = Bank(tmp_path_factory.mktemp("keys"), f"keys{secrets.token_hex(3)}")
    names = [f"public.{name}" for name in keyed.TABLES]
    init.lay_out(made.folder, init.wanted(made.folder, made.name, None, names))
    for sink, text in keyed.sinks(made.name).items():
        (made.folder / "sinks" / f"{sink}.py").write_text(text)
    connector = made.folder / "connectors" / f"{made.name}.json"
    config = {**json.loads(connector.read_text()), "message.key.columns": keyed.CHOSEN}
    connector.write_text(json.dumps(config))
    toml = made.folder / "tailrace.toml"
    toml.write_text(toml.read_text().replace("flush_seconds = 5.0", "flush_seconds = 0.5"))
    stack.endpoints.save(made.folder)
    with closing(database.connect(stack.endpoints.database("postgres"), autocommit=True)) as opened:
        opened.cursor().execute(f"CREATE DATABASE {made.name}")
    with closing(database.connect(stack.endpoints.database(made.name), autocommit=True)) as opened:
        for name, table in keyed.TABLES.items():
            for statement in table.create(name):
                opened.cursor().execute(statement)
    run(made, (each for name, table in keyed.TABLES.items() for each in table.insert(name, table.keys[::2])), stack)
    made.must("schema", "derive", "--all", "--force")
    made.must("apply", "--yes")
    with made.running("run", "all"):
        yield made
    made.remove()


def run(made: Bank, statements: Iterable[Statement], stack: RunningStack) -> None:
    """Run statements, each in a transaction of its own."""
    with closing(database.connect(stack.endpoints.database(made.name), autocommit=True)) as opened:
        for sql, parameters in statements:
            opened.cursor().execute(sql, parameters or None)


def compared(made: Bank, say: Callable[[str], None] = lambda _: None) -> Report:
    loaded = made.load()
    return verify(loaded, wait=lambda: barrier.cross(loaded, timeout=WAIT), values=True, say=say)


def differences(report: Report) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Return what differs, as pairs of kind and key, by table and sink."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for pair in report.checks:
        found[pair.table, pair.sink] = sorted((str(each.kind), each.key) for each in pair.differences)
    return {place: each for place, each in found.items() if each}


def counts(made: Bank) -> dict[tuple[str, str], int]:
    rows = {name: int(made.query(f"SELECT count(*) FROM {name}")[0][0]) for name in keyed.TABLES}
    return {(f"public.{name}", sink): count for name, count in rows.items() for sink in SINKS}


def test_check_has_no_error_and_names_the_keys_that_have_several_texts(running: Bank) -> None:
    found = [each for each in check(running.load()) if each.severity != "note"]
    assert [(each.severity, each.what.split(":")[0]) for each in found] == [("warning", "public.numbers")]


def test_the_contract_of_a_chosen_key_is_derived_with_it(running: Bank) -> None:
    assert set(running.load().contract("visits").key) == {"visitor", "day"}


def test_keys_of_every_type_have_stable_ids_that_never_collide_also_while_rows_come(
    stack: RunningStack, running: Bank
) -> None:
    run(running, (each for name, table in keyed.TABLES.items() for each in table.insert(name, table.keys[1::2])), stack)
    run(running, (each for name, table in keyed.TABLES.items() for each in table.changes(name)), stack)

    def say(what: str) -> None:
        if what.endswith("rows of public.halves"):  # the last table: from here on the stores are read
            late = (each for name, key in keyed.LATE.items() for each in keyed.TABLES[name].insert(name, (key,)))
            run(running, late, stack)
            barrier.cross(running.load(), timeout=WAIT)

    report = compared(running, say)
    assert differences(report) == {}
    assert {(pair.table, pair.sink): pair.equal for pair in report.checks} == counts(running)
    assert running.json("dlq", "show", "conform") == []


def raw(running: Bank, table: str) -> list[Message]:
    """Return every message of a raw topic."""
    topic = topics.raw(running.name, table)
    kafka = running.load().endpoints.kafka
    ends = {place: end for place, end in KafkaAdmin(kafka).ends([topic]).items() if end}
    found: list[Message] = []
    with closing(reader(kafka, running.name)) as consumer:
        consumer.assign([TopicPartition(*place, 0) for place in ends])

        def complete() -> bool:
            found.extend(message for message in consumer.consume(1000, 0.2) if message.error() is None)
            return len(found) >= sum(ends.values())

        wait_for(complete, timeout=WAIT, what=f"all of {topic}")
    return found


def forge(found: Message, op: str, number: int, other: int) -> tuple[bytes, bytes, list[tuple[str, bytes | None]]]:
    """Return key, value and headers of half a change of the key, made of a message of the same table."""
    body: dict[str, Any] = json.loads(found.value() or b"")
    row = {**body["payload"]["after"], "id": number}
    images = {"before": {**row, "note": None}, "after": None} if op == "d" else {"before": None, "after": row}
    body["payload"] |= {**images, "op": op}
    header = "__debezium.newkey" if op == "d" else "__debezium.oldkey"
    value = json.dumps(body, separators=(",", ":")).encode()
    return b'{"id":%d}' % number, value, [(header, b'{"id":%d}' % other)]


def test_half_a_change_of_the_key_is_named_by_verify_and_mended(stack: RunningStack, running: Bank) -> None:
    publication = f"tailrace_{running.name}"
    lost = [  # what changes while the table is not published is in no topic
        f"ALTER PUBLICATION {publication} DROP TABLE halves, texts",
        "UPDATE halves SET id = 20 WHERE id = 10", "UPDATE halves SET id = 21 WHERE id = 11",
        "UPDATE texts SET note = 3 WHERE id = 'a / b'",
        f"ALTER PUBLICATION {publication} ADD TABLE halves, texts",
    ]  # fmt: skip
    run(running, [(sql, ()) for sql in lost], stack)
    messages = {json.loads(each.key() or b"")["id"]: each for each in raw(running, "public.halves") if each.value()}
    with closing(Outbox(running.load().endpoints.kafka, f"{running.name}-test")) as outbox:
        for op, number, other in (("d", 10, 20), ("c", 21, 11)):
            key, value, headers = forge(messages[1], op, number, other)
            place = messages[number].partition() if number in messages else 0
            outbox.send(
                topics.raw(running.name, "public.halves"), key=key, value=value, headers=headers, partition=place
            )
        outbox.flush(30)
    found = differences(compared(running))
    assert set(found) == {(table, sink) for sink in SINKS for table in ("public.halves", "public.texts")}
    for sink in SINKS:
        (extra, eleven), (missing, twenty) = found["public.halves", sink]
        assert (extra, "11" in eleven, missing, "20" in twenty) == ("extra", True, "missing", True)
        assert [kind for kind, _ in found["public.texts", sink]] == ["stale"]  # what Kafka says it was
    mend = [
        "INSERT INTO halves (id) VALUES (11)",
        "DELETE FROM halves WHERE id = 11",
        "UPDATE texts SET note = 4 WHERE id = 'a / b'",
    ]
    run(running, [(sql, ()) for sql in mend], stack)
    assert running.json("snapshot", "public.halves", "public.visits", timeout=WAIT)["complete"]
    assert differences(compared(running)) == {}


def told(running: Bank, table: str) -> dict[int, list[dict[str, Any]]]:
    """Return the payloads of a raw topic by id, those of each id in their order."""
    found: dict[int, list[dict[str, Any]]] = {}
    for message in raw(running, table):
        if message.value():
            payload = json.loads(message.value() or b"")["payload"]
            found.setdefault(json.loads(message.key() or b"")["id"], []).append(payload)
    return found


def test_overlapping_transactions_one_copy_and_many_changes_of_a_key_in_one_transaction_end_as_committed(
    stack: RunningStack, running: Bank
) -> None:
    url = stack.endpoints.database(running.name)
    with (
        closing(database.connect(url)) as early,
        closing(database.connect(url)) as late,
        early.cursor() as first,
        late.cursor() as second,
    ):
        first.execute("UPDATE bigs SET note = 10 WHERE id = 100")
        second.execute("INSERT INTO bigs (id, note) VALUES (101, 20); UPDATE rooms SET room = 'late' WHERE id = 2")
        late.commit()
        first.execute("UPDATE rooms SET note = 30 WHERE id = 2; UPDATE bigs SET note = 40 WHERE id = 101")
        early.commit()
        second.execute("DELETE FROM bigs WHERE id = 100; INSERT INTO bigs (id, note) VALUES (100, 50)")
        second.execute("UPDATE bigs SET note = 60 WHERE id = 100; UPDATE bigs SET note = 70 WHERE id = 100")
        copied = io.StringIO("".join(f"{number}\t{UUID(int=number)}\t1\n" for number in range(200, 500)))
        second.copy_expert("COPY bigs FROM STDIN", copied)  # one record of the WAL, as no default has to be computed
        late.commit()
        first.execute("UPDATE bigs SET note = 80 WHERE id = 101")  # in the log before the snapshot reads its row
        assert running.json("snapshot", "public.bigs", timeout=WAIT)["complete"]
        early.commit()
    assert differences(compared(running)) == {}
    assert running.query("SELECT note FROM bigs WHERE id IN (100, 101) ORDER BY id") == [(70,), (80,)]
    seen = told(running, "public.bigs")
    before, behind = next(each for each in seen[100] if each["after"] and each["after"]["note"] == 10), seen[101][0]
    assert before["source"]["lsn"] < behind["source"]["lsn"] < int(json.loads(before["source"]["sequence"])[0])
    assert len({seen[number][0]["source"]["lsn"] for number in range(200, 500)}) < 300
    read, newest = seen[101][-2:]
    assert (read["op"], read["source"]["lsn"], read["after"]["note"]) == ("r", None, 40)
    assert (newest["op"], newest["after"]["note"]) == ("u", 80)
    assert newest["source"]["lsn"] < int(json.loads(read["source"]["sequence"])[1])


def test_a_snapshot_is_not_asked_for_twice_under_one_name(stack: RunningStack, running: Bank) -> None:
    ((used,), *_) = running.query("SELECT id FROM tailrace.signal WHERE type = 'execute-snapshot'")
    url = stack.endpoints.database(running.name)
    with closing(database.connect(url, autocommit=True)) as opened, pytest.raises(psycopg2.errors.UniqueViolation):
        signals.send(opened, used, signals.EXECUTE, ["public.bigs"])
