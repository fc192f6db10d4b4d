"""DynamoDB items per second: the writer in both its ways, each against a bare boto3 loop of the same guarded calls.

Bare sends items that are in wire form already: a hundred a TransactWriteItems, or a PutItem each from as many threads
as the writer has. The plain loop most people write, one conditional PutItem after the other, is a baseline of its own.
Two rows say what a choice is worth: asking each call for its units, and unguarded BatchWriteItem calls, which the
writer does not use (docs/decisions/0013-dynamodb.md). All take turns on tables of their own, each in every place of
a round once, so that a busy machine slows them alike; the best rounds are compared: noise only slows.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bench.tape import ORDER, changes
from tailrace import aws
from tailrace.sink.dynamodb import CALL_PUTS, CALLS_AT_ONCE, DynamoDBWriter
from tailrace.sink.dynamodb_calls import GUARD, METERED, NAMES
from tailrace.sink.dynamodb_items import Renderer
from tailrace.targets import DynamoDBTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.endpoints import Endpoints

ROWS, SINGLES, BATCH, LOAD = 3000, 500, 500, 25
FLOOR, AGAINST_SINGLE = 0.9, 4.0


def measure(stack: Endpoints) -> list[dict[str, Any]]:
    """Return every way's items per second against its baseline."""
    client = aws.client("dynamodb", stack.dynamodb)
    figures: dict[str, list[float]] = {name: [] for name in RUNS}
    order = list(RUNS)
    for turn in range(len(order)):
        for name in (*order[turn:], *order[:turn]):
            figures[name].append(RUNS[name](Bench(stack, client)))
    client.close()
    best = {name: max(rates) for name, rates in figures.items()}
    return [
        row("dynamodb: transact against bare TransactWriteItems", best["transact"], best["bare transact"], FLOOR),
        row("dynamodb: transact against a loop of PutItem", best["transact"], best["single"], AGAINST_SINGLE),
        row("dynamodb: put against bare PutItem in threads", best["put"], best["bare put"], FLOOR),
        row("dynamodb: put against a loop of PutItem", best["put"], best["single"], None),
        row("dynamodb: asking for units against not asking", best["metered"], best["bare transact"], None),
        row("dynamodb: unguarded BatchWriteItem against transact", best["load"], best["transact"], None),
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
        self.client.create_table(
            TableName=self.target.table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
        )

    def writer(self, **way: Any) -> float:
        """Return items per second of DynamoDBWriter.write."""
        target = DynamoDBTable(self.target.table, "order", pk=self.target.pk, sk=self.target.sk, **way)
        count = SINGLES if way else ROWS
        batches = parts(changes(count), BATCH)
        writer = DynamoDBWriter(target, ORDER, self.stack)
        writer.connect()
        rate = self._timed(count, lambda: [writer.write(batch, timeout=60) for batch in batches])
        writer.close()
        return rate

    def transact(self, **more: Any) -> float:
        """Return items per second of the same calls made by hand, one after the other."""
        calls = [[{"Put": put} for put in part] for part in parts(self._puts(ROWS), CALL_PUTS)]
        return self._timed(
            ROWS, lambda: [self.client.transact_write_items(TransactItems=call, **more) for call in calls]
        )

    def single(self) -> float:
        """Return items per second of conditional PutItem calls, one after the other."""
        puts = self._puts(SINGLES)
        return self._timed(SINGLES, lambda: [self.client.put_item(**put) for put in puts])

    def threaded(self) -> float:
        """Return items per second of conditional PutItem calls, from as many threads as the writer has."""
        puts = self._puts(SINGLES)
        with ThreadPoolExecutor(CALLS_AT_ONCE["put"]) as pool:
            return self._timed(SINGLES, lambda: list(pool.map(lambda put: self.client.put_item(**put), puts)))

    def load(self) -> float:
        """Return items per second of unguarded BatchWriteItem calls, from as many threads as transactions have."""
        requests = [{"PutRequest": {"Item": put["Item"]}} for put in self._puts(SINGLES)]
        calls = [{self.target.table: part} for part in parts(requests, LOAD)]
        with ThreadPoolExecutor(CALLS_AT_ONCE["transact"]) as pool:
            write = self.client.batch_write_item
            return self._timed(SINGLES, lambda: list(pool.map(lambda call: write(RequestItems=call), calls)))

    def _puts(self, count: int) -> list[dict[str, Any]]:
        renderer = Renderer(self.target, ORDER)
        puts = [put for change in changes(count) for put in renderer.puts(change, 0, 0.0)]
        guard = {"ConditionExpression": GUARD, "ExpressionAttributeNames": NAMES}
        return [
            {
                "TableName": self.target.table,
                "Item": put.item,
                "ExpressionAttributeValues": {":v": put.item["_v"]},
                **guard,
            }
            for put in puts
        ]

    def _timed(self, count: int, work: Callable[[], object]) -> float:
        begun = time.perf_counter()
        work()
        took = time.perf_counter() - begun
        self.client.delete_table(TableName=self.target.table)
        return count / took


RUNS: dict[str, Callable[[Bench], float]] = {
    "transact": Bench.writer,
    "bare transact": Bench.transact,
    "put": lambda bench: bench.writer(write="put"),
    "bare put": Bench.threaded,
    "single": Bench.single,
    "metered": lambda bench: bench.transact(**METERED),
    "load": Bench.load,
}


def parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cut a list into parts."""
    return [items[start : start + size] for start in range(0, len(items), size)]
