"""DynamoDB items per second: the writer against a bare boto3 loop of the same guarded TransactWriteItems calls.

Bare sends items that are in wire form already, a hundred a call, through a client as boto3 makes it. A second baseline
is the loop most people write, one conditional PutItem after the other. All take turns on tables of their own, each
round in another order, so that a busy machine slows them alike; the best rounds are compared: noise only slows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bench.tape import ORDER, changes
from tailrace import aws
from tailrace.sink.dynamodb import DynamoDBWriter
from tailrace.sink.dynamodb_items import Renderer
from tailrace.targets import DynamoDBTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.endpoints import Endpoints

ROWS, BATCH, CALL, SINGLES, ROUNDS, FLOOR = 3000, 500, 100, 200, 6, 0.9
ORDERED = ("writer", "bare", "single")
GUARD = {
    "ConditionExpression": "attribute_not_exists(#v) OR #v < :v",
    "ExpressionAttributeNames": {"#v": "_v"},
}


def measure(stack: Endpoints) -> list[dict[str, Any]]:
    """Return the writer's items per second against both baselines."""
    client = aws.client("dynamodb", stack.dynamodb)
    figures: dict[str, list[float]] = {"writer": [], "bare": [], "single": []}
    runs: dict[str, Callable[[Bench], float]] = {"writer": Bench.writer, "bare": Bench.bare, "single": Bench.single}
    for turn in range(ROUNDS):
        for name in (*ORDERED[turn % 3 :], *ORDERED[: turn % 3]):
            figures[name].append(runs[name](Bench(stack, client)))
    client.close()
    value, bare, single = (max(figures[name]) for name in ORDERED)
    return [
        row("dynamodb items against bare TransactWriteItems", value, bare, FLOOR),
        row("dynamodb items against bare conditional PutItem", value, single, None),
    ]


def row(name: str, value: float, baseline: float, floor: float | None) -> dict[str, Any]:
    """Return one row of the result."""
    return {
        "name": name,
        "value": round(value),
        "unit": "items/s",
        "baseline": round(baseline),
        "ratio": round(value / baseline, 3),
        "floor": floor,
    }


class Bench:
    """One run over a new table."""

    def __init__(self, stack: Endpoints, client: Any) -> None:
        self.stack, self.client = stack, client
        self.target = DynamoDBTable(f"bench-{uuid4().hex[:8]}", "order", pk="CUSTOMER#{customer}", sk="ORDER#{id}")
        self.changes = changes(ROWS)
        self.client.create_table(
            TableName=self.target.table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
        )

    def writer(self) -> float:
        """Return items per second of DynamoDBWriter.write."""
        writer = DynamoDBWriter(self.target, ORDER, self.stack)
        writer.connect()
        rate = self._timed(ROWS, lambda: [writer.write(part, timeout=60) for part in parts(self.changes, BATCH)])
        writer.close()
        return rate

    def bare(self) -> float:
        """Return items per second of the same calls made by hand."""
        calls = [[{"Put": put} for put in part] for part in parts(self._puts(ROWS), CALL)]
        return self._timed(ROWS, lambda: [self.client.transact_write_items(TransactItems=call) for call in calls])

    def single(self) -> float:
        """Return items per second of conditional PutItem calls, one after the other."""
        puts = self._puts(SINGLES)
        return self._timed(SINGLES, lambda: [self.client.put_item(**put) for put in puts])

    def _puts(self, count: int) -> list[dict[str, Any]]:
        renderer = Renderer(self.target, ORDER)
        found = []
        for change in self.changes[:count]:
            (put,) = renderer.puts(change, 0, 0.0)
            values = {":v": put.item["_v"]}
            found.append(
                {"TableName": self.target.table, "Item": put.item, "ExpressionAttributeValues": values, **GUARD}
            )
        return found

    def _timed(self, count: int, work: Callable[[], object]) -> float:
        begun = time.perf_counter()
        work()
        took = time.perf_counter() - begun
        self.client.delete_table(TableName=self.target.table)
        return count / took


def parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cut a list into parts."""
    return [items[start : start + size] for start in range(0, len(items), size)]
