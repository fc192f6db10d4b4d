"""What is no row: events of an outbox go to their topics, all else reaches no store; neither holds anything up."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import pytest

from tailrace import topics
from tailrace.control import init
from tests.bank import Bank
from tests.debezium import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.debezium import Said
    from tests.providers import RunningStack

ROUTES = ("order", "customer")
OUTBOX = f"""
[tables."public.outbox".outbox]
routes = {json.dumps(ROUTES)}
"""
STATEMENTS = """
    CREATE TABLE orders (id bigint PRIMARY KEY, note text);
    CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL,
        aggregateid text NOT NULL, type text, payload jsonb);
"""
SINK = (
    'from tailrace import DynamoDBTable\n\norders = DynamoDBTable("{name}", record="orders", pk="{{id}}", sk="ORDER")\n'
)
SETTINGS = {"message.key.columns": "public.outbox:aggregateid", "provide.transaction.metadata": "true"}


@pytest.fixture(scope="module")
def source(stack: RunningStack) -> Source:
    made = Source(stack.endpoints, f"outbox{secrets.token_hex(3)}")
    made.create(STATEMENTS)
    return made


@pytest.fixture(scope="module")
def pipeline(stack: RunningStack, source: Source, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A running pipeline of one table and one outbox that has a row already."""
    made = Bank(tmp_path_factory.mktemp("outbox"), source.name)
    init.lay_out(made.folder, init.wanted(made.folder, made.name, None, ["public.orders", "public.outbox"]))
    for sink in ("lake", "search"):
        (made.folder / "sinks" / f"{sink}.py").unlink()
    (made.folder / "sinks" / "dynamodb.py").write_text(SINK.format(name=made.name))
    toml, connector = made.folder / "tailrace.toml", made.folder / "connectors" / f"{made.name}.json"
    toml.write_text(toml.read_text() + OUTBOX)
    connector.write_text(json.dumps({**json.loads(connector.read_text()), **SETTINGS}))
    stack.endpoints.save(made.folder)
    source.run(event(0))
    assert [entry["record"] for entry in made.json("schema", "derive", "--all")] == ["orders"]
    made.must("check")
    made.must("apply", "--yes")
    with made.running("run", "all"):
        yield made
    made.remove()


def event(number: int) -> str:
    """Return SQL for one event; its aggregate is one of five, its number counts up."""
    route = ROUTES[number % 5 % 2]
    return (
        "INSERT INTO outbox (aggregatetype, aggregateid, type, payload)"
        f" VALUES ('{route}', 'a{number % 5}', 'Counted', '{{\"number\": {number}}}')"
    )


def order(number: int) -> str:
    return f"INSERT INTO orders VALUES ({number}, 'note {number}')"


def events(source: Source) -> dict[str, list[Said]]:
    """Return what lies in the topics of events, each partition in its order."""
    return {route: source.read(topics.events(source.name, route)) for route in ROUTES}


def first(said: list[Said]) -> list[Said]:
    """Return each event where it came first, as a consumer sees it that remembers ids."""
    found: dict[bytes, Said] = {}
    for each in said:
        found.setdefault(each.headers["id"], each)
    return list(found.values())


def numbers(said: list[Said], aggregate: bytes) -> list[int]:
    return [json.loads(each.raw_value or b"")["number"] for each in said if each.raw_key == aggregate]


def assert_equal(pipeline: Bank) -> None:
    report = pipeline.json("verify", timeout=120)
    assert report["ok"], report
    assert [check["table"] for check in report["checks"]] == ["public.orders"]


def test_every_committed_event_comes_in_the_order_of_its_aggregate_also_when_the_processor_is_killed(
    pipeline: Bank, source: Source
) -> None:
    for number in range(1, 60):
        source.transaction(order(number), event(number))
        source.aborted(order(number + 1000), event(number + 1000))
        if number == 30:
            pipeline.kill("conform")
    committed = {str(found).encode() for (found,) in source.query("SELECT id FROM outbox")}
    source.run("DELETE FROM outbox WHERE payload->>'number' < '3'", "TRUNCATE outbox")
    assert_equal(pipeline)
    assert pipeline.json("dlq", "list") == []
    found = events(source)
    assert {each.headers["id"] for said in found.values() for each in said} == committed
    for place, (route, said) in enumerate(found.items()):
        for aggregate in range(place, 5, 2):
            assert numbers(first(said), b"a%d" % aggregate) == list(range(aggregate, 60, 5)), route
        assert {each.headers["type"] for each in said} == {b"Counted"}


def test_events_that_are_sent_again_have_the_same_ids_and_values(pipeline: Bank, source: Source) -> None:
    before = events(source)
    pipeline.must("replay", "processor", "conform", "--to", "beginning", "--yes")
    assert_equal(pipeline)
    for route, said in events(source).items():
        assert len(said) >= 2 * len(first(before[route]))
        assert {(each.headers["id"], each.raw_value) for each in said} == {
            (each.headers["id"], each.raw_value) for each in before[route]
        }


def test_what_is_no_row_reaches_no_store_and_holds_nothing_up(pipeline: Bank, source: Source) -> None:
    parked = pipeline.json("dlq", "list")
    told = [f"SELECT pg_logical_emit_message({within}, 'told', 'something')" for within in ("true", "false")]
    source.transaction(order(70), *told)
    source.aborted(order(71), *told)  # the second of the two is said all the same
    pipeline.must("snapshot", "public.orders")
    source.transaction(order(72))
    assert_equal(pipeline)
    assert pipeline.json("dlq", "list") == parked
    assert len(source.read(topics.messages(source.name))) == 3
    assert len(source.read(topics.transactions(source.name))) >= 2
    assert len(source.read(topics.notifications(source.name))) >= 2
    assert len(source.read(f"{topics.prefix(source.name)}.tailrace.signal")) >= 2
    keys = {json.loads(each.raw_key)["id"] for each in source.read(topics.conformed(source.name, "orders"))}
    assert keys == {*range(1, 60), 70, 72}
