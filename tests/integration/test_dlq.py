"""Dead letters of a real pipeline brought to an end: shown, edited, put back, dropped, and verify has the word."""

from __future__ import annotations

import json
import secrets
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from opensearchpy import OpenSearch

from tailrace.cli import cli
from tailrace.control import barrier, init
from tailrace.control.verify import verify
from tailrace.crashpoint import Command
from tailrace.deadline import wait_for
from tailrace.demo import database
from tailrace.errors import Fatal, Refused, UsageError
from tailrace.sink.breaker import LEAST
from tailrace.testing import Tape, parcel
from tests.bank import Bank
from tests.conformed import PARTITIONS, Conformed, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.providers import RunningStack

TABLE = "CREATE TABLE crates (id bigint PRIMARY KEY, weight text NOT NULL, worth numeric, detail json)"
CONFORM = """
from tailrace import conform

@conform("public.crates", to="crates")
def crates(row):
    return {**row, "weight": str(int(row["weight"]))}
"""
LIST = "[1]"  # JSON that the index maps as an object
HUGE = "1" * 40  # DynamoDB does not hold it
WAIT = 60.0


@pytest.fixture(scope="module")
def crates(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A running pipeline of one table with a search index, and a DynamoDB table whose worker holds keys."""
    made = Bank(tmp_path_factory.mktemp("crates"), f"crates{secrets.token_hex(3)}")
    init.lay_out(made.folder, init.wanted(made.folder, made.name, None, ["public.crates"]))
    (made.folder / "sinks" / "lake.py").unlink()
    (made.folder / "processors" / "conform.py").write_text(CONFORM)
    with (made.folder / "tailrace.toml").open("a") as settings:
        settings.write('\n[workers.dynamodb]\non_reject = "hold"\n')
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


def run(crates: Bank, *statements: str) -> None:
    loaded = crates.load()
    with closing(database.connect(loaded.endpoints.database(crates.name), autocommit=True)) as opened:
        for statement in statements:
            opened.cursor().execute(statement)


def dlq(crates: Bank | Conformed, *arguments: str) -> Any:
    """Run ``tailrace dlq`` here and return what it prints."""
    words = ["dlq", *arguments, "--json", "--project", str(crates.folder)]
    done = CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def differing(crates: Bank) -> dict[str, list[str]]:
    """Return by store the keys in which it is not what the source says."""
    loaded = crates.load()
    report = verify(loaded, wait=lambda: barrier.cross(loaded, timeout=WAIT))
    return {check.sink: [str(entry.key) for entry in check.differences] for check in report.checks}


def parked(crates: Bank, worker: str, count: int) -> list[Any]:
    """Return the open letters of a worker once there are so many."""

    def there() -> list[Any]:
        found = dlq(crates, "show", worker)
        return found if len(found) == count else []

    return wait_for(there, timeout=WAIT, what=f"{count} letters of {worker}")


def settled(crates: Bank, worker: str) -> list[tuple[str, str]]:
    """Return how the letters of a worker came to an end, by the source topic's offset."""
    shown = dlq(crates, "show", worker, "--all", "--limit", "100")
    return sorted((entry["source"].rpartition("/")[2], entry["settled"]) for entry in shown if "settled" in entry)


def document(crates: Bank, number: int) -> dict[str, Any]:
    """Return what the search index has of a row."""
    with closing(OpenSearch(crates.load().endpoints.opensearch, timeout=WAIT)) as client:
        found = client.get(index=f"{crates.name}-crates-000001", id=str(number), ignore=404)
        return dict(found.get("_source", {}))


def test_one_document_is_parked_the_rest_lands_and_once_it_is_edited_and_replayed_all_is_equal(crates: Bank) -> None:
    numbers = ", ".join(f"({number}, '{number}', 1.5, '{{}}')" for number in range(1, 31))
    run(crates, f"INSERT INTO crates VALUES {numbers}, (99, '5', 1, '{LIST}')")
    assert differing(crates) == {"dynamodb": [], "search": ["99"]}

    [heap] = dlq(crates, "list")
    assert (heap["worker"], heap["stage"], heap["count"]) == ("search", "write", 1)
    assert heap["sink"].startswith("search/")
    [shown] = dlq(crates, "show", "search", "--record", "crates", "--values")
    assert json.loads(shown["key"]) == {"id": 99}
    assert shown["record"] == {"id": 99, "weight": "5", "worth": "1", "detail": LIST}
    with pytest.raises(UsageError, match="no json"):
        dlq(crates, "edit", "search", shown["place"], "--set", "detail={")
    assert dlq(crates, "edit", "search", shown["place"], "--set", 'detail={"a": 2}')["edited"]
    [outcome] = dlq(crates, "replay", "search", "--reason", heap["reason"].upper())

    assert outcome["how"] == "replayed"
    assert document(crates, 99)["detail"] == {"a": 2}
    run(crates, "UPDATE crates SET detail = '{\"a\": 2}' WHERE id = 99")
    assert differing(crates) == {"dynamodb": [], "search": []}
    assert dlq(crates, "list") == []
    assert [how for _, how in settled(crates, "search")] == ["edited", "replayed"]


def test_a_replay_that_died_before_it_was_written_down_is_settled_by_the_next(crates: Bank) -> None:
    run(crates, f"INSERT INTO crates VALUES (98, '5', 1, '{LIST}')")
    [shown] = parked(crates, "search", 1)
    dlq(crates, "edit", "search", shown["place"], "--set", 'detail={"a": 3}')

    crates.dies(Command.LETTERS_PUT_BACK, "dlq", "replay", "search", "--all", "--yes")

    assert document(crates, 98)["detail"] == {"a": 3}
    assert len(dlq(crates, "show", "search")) == 1
    [outcome] = dlq(crates, "replay", "search", "--all")
    assert outcome["how"] == "stale"
    assert document(crates, 98)["detail"] == {"a": 3}
    run(crates, "UPDATE crates SET detail = '{\"a\": 3}' WHERE id = 98")
    assert differing(crates) == {"dynamodb": [], "search": []}
    assert dlq(crates, "list") == []


def test_an_old_letter_that_is_replayed_after_newer_data_came_leaves_the_newer_data(crates: Bank) -> None:
    run(crates, f"INSERT INTO crates VALUES (100, '5', 1, '{LIST}'), (101, '5', 1, '{LIST}')")
    parked(crates, "search", 2)
    run(crates, "UPDATE crates SET detail = '{\"b\": 1}' WHERE id = 100", "DELETE FROM crates WHERE id = 101")
    barrier.cross(crates.load(), timeout=WAIT)
    for entry in dlq(crates, "show", "search"):
        dlq(crates, "edit", "search", entry["place"], "--set", "detail={}")

    with pytest.raises(Refused, match="2 letters would be replayed"):
        dlq(crates, "replay", "search", "--all")
    outcomes = dlq(crates, "replay", "search", "--all", "--yes")

    assert [outcome["how"] for outcome in outcomes] == ["stale", "stale"]
    assert differing(crates) == {"dynamodb": [], "search": []}
    assert dlq(crates, "list") == []


def test_a_processors_letter_is_conformed_again_and_never_the_last_word_over_newer_data(crates: Bank) -> None:
    run(crates, "INSERT INTO crates VALUES (200, '7 kg', 1, '{}'), (201, '8 kg', 1, '{}')")
    places = {json.loads(entry["key"])["id"]: entry["place"] for entry in parked(crates, "conform", 2)}
    run(crates, "UPDATE crates SET weight = '8' WHERE id = 201")
    barrier.cross(crates.load(), timeout=WAIT)
    with pytest.raises(UsageError, match="refused as well"):
        dlq(crates, "edit", "conform", places[200], "--set", "weight=heavy")
    dlq(crates, "edit", "conform", places[200], "--set", "weight=7")
    dlq(crates, "edit", "conform", places[201], "--set", "weight=9")

    outcomes = dlq(crates, "replay", "conform", "--stage", "conform", "--yes")

    assert sorted(outcome["how"] for outcome in outcomes) == ["replayed", "stale"]
    wait_for(lambda: document(crates, 200).get("weight") == "7", timeout=WAIT, what="the edited row in the index")
    run(crates, "UPDATE crates SET weight = '7' WHERE id = 200")
    assert differing(crates) == {"dynamodb": [], "search": []}
    assert dlq(crates, "list") == []


def test_a_held_key_waits_for_its_first_letter_and_is_put_back_in_order(
    crates: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "sed -i s/11111*/1/")
    run(crates, f"INSERT INTO crates VALUES (300, '1', {HUGE}, '{{}}'), (301, '1', 1, '{{}}')")
    parked(crates, "dynamodb", 1)
    run(crates, "UPDATE crates SET worth = 1 WHERE id = 300", "UPDATE crates SET weight = '2' WHERE id >= 300")
    waiting = [entry for entry in parked(crates, "dynamodb", 3) if entry["stage"] == "held"]
    [first] = dlq(crates, "show", "dynamodb", "--stage", "write")
    assert [entry["held_by"] for entry in waiting] == [first["source"]] * 2

    alone = dlq(crates, "replay", "dynamodb", waiting[0]["place"])
    assert [outcome["how"] for outcome in alone] == ["left"]
    again = dlq(crates, "replay", "dynamodb", first["place"])
    assert [outcome["how"] for outcome in again] == ["failed again", "left", "left"]
    [first] = dlq(crates, "show", "dynamodb", "--stage", "write")
    assert first["failures"] == 2
    assert dlq(crates, "edit", "dynamodb", first["place"])["edited"]
    done = dlq(crates, "replay", "dynamodb", "--stage", "write")

    assert [outcome["how"] for outcome in done] == ["replayed"] * 3
    run(crates, "UPDATE crates SET weight = '3' WHERE id = 300")
    assert differing(crates) == {"dynamodb": [], "search": []}
    assert dlq(crates, "list") == []


def test_a_dropped_letter_is_told_of_no_more(crates: Bank) -> None:
    run(crates, "INSERT INTO crates VALUES (400, 'light', 1, '{}')")
    [shown] = parked(crates, "conform", 1)
    assert dlq(crates, "drop", "conform", shown["place"]) == [shown["place"]]
    assert dlq(crates, "show", "conform") == []
    with pytest.raises(UsageError, match="no open letter"):
        dlq(crates, "replay", "conform", shown["place"])


SINKS = {
    "broken": """
from tailrace.testing import MemorySink
sink = MemorySink("parcel", reject=lambda change: "no mapping")
""",
    "waiting": """
from tailrace.testing import MemorySink
sink = MemorySink("parcel", reject=lambda change: "poison" if change.value["note"] == "poison" else "")
""",
}
SETTINGS = '[workers.waiting]\non_reject = "hold"\n[workers.broken]\nbatch_rows = 1\n'


@pytest.fixture
def parcels(stack: RunningStack, tmp_path: Path) -> Iterator[Conformed]:
    made = Conformed(tmp_path / "project", stack.endpoints, SINKS, SETTINGS)
    yield made
    made.remove()


def test_a_store_that_refuses_everything_stops_its_worker_and_fills_no_topic_however_often_it_starts(
    parcels: Conformed,
) -> None:
    tape = Tape()
    parcels.send(tape.put(parcel(number * PARTITIONS)) for number in range(3 * LEAST))

    for _ in range(2):
        with running(parcels.load(), "broken") as worker:
            wait_for(worker.ended, timeout=30, what="the worker to end")
        assert isinstance(worker.error, Fatal)
        assert "no mapping" in worker.error.detail

    assert len(parcels.dead_letters("broken")) == LEAST - 1
    assert parcels.committed("broken")[0] == LEAST - 1


def test_a_held_key_stays_held_for_the_next_worker_until_its_letter_is_settled(parcels: Conformed) -> None:
    tape, number = Tape(), PARTITIONS
    parcels.send([tape.put(parcel(number, note="poison"))])
    with running(parcels.load(), "waiting"):
        parcels.wait_until_committed("waiting")
    loaded = parcels.load()
    [sink] = loaded.sinks["waiting"]

    def notes() -> dict[int, str]:
        return {value["id"]: value["note"] for value in getattr(sink, "items", {}).values()}

    with running(loaded, "waiting"):
        parcels.send([tape.put(parcel(number, note="second")), tape.put(parcel(2 * number, note="other"))])
        parcels.wait_until_committed("waiting")
        assert notes() == {2 * number: "other"}
        [first] = dlq(parcels, "show", "waiting", "--stage", "write")
        dlq(parcels, "drop", "waiting", first["place"])
        parcels.send([tape.put(parcel(number, note="third"))])
        parcels.wait_until_committed("waiting")

    assert notes() == {number: "third", 2 * number: "other"}
    assert [entry["held_by"] for entry in dlq(parcels, "show", "waiting")] == [first["source"]]
