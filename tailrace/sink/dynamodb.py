"""The DynamoDB writer: guarded puts, a hundred in a transaction.

Each put holds only while the stored item is older (``attribute_not_exists(_v) OR _v < :v``), so a batch written twice,
or late, changes nothing. One stale item cancels its whole transaction, and the reasons name every such item: they are
dropped, the rest is sent again. A transaction costs twice the write units of single puts and is six times as fast
through one client; a single leftover goes as a plain PutItem. The table itself is made by ``tailrace apply``.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection

from tailrace import aws
from tailrace.change import Rejection
from tailrace.deadline import Deadline
from tailrace.errors import Fatal, Rejected, Retryable, TailraceError
from tailrace.sink.crew import Crew
from tailrace.sink.dynamodb_items import Put, Renderer
from tailrace.sink.writer import Batching, Written
from tailrace.targets import VERSION_ATTRIBUTE

if TYPE_CHECKING:
    from tailrace.change import Change
    from tailrace.contract import Contract
    from tailrace.endpoints import Endpoints
    from tailrace.targets import DynamoDBTable

CALL_PUTS, CALL_BYTES = 100, 4_000_000  # of one TransactWriteItems
CALLS_AT_ONCE = 4
PATIENCE = 4  # busy answers inside one write before the worker's own retry takes over
GUARD = "attribute_not_exists(#v) OR #v < :v"
NAMES = {"#v": VERSION_ATTRIBUTE}
STALE = {"ConditionalCheckFailed", "ConditionalCheckFailedException"}
INVALID = {"ValidationError", "ValidationException", "ItemCollectionSizeLimitExceeded"}
BUSY = {
    "ProvisionedThroughputExceeded", "ProvisionedThroughputExceededException", "ThrottlingError", "ThrottlingException",
    "TransactionConflict", "TransactionConflictException", "TransactionInProgressException", "RequestLimitExceeded",
}  # fmt: skip
SERVER_ERROR = 500


class Verdict(Enum):
    """What became of one put in one call."""

    DONE = auto()
    STALE = auto()  # the store has something newer: a success
    INVALID = auto()  # never possible
    BUSY = auto()  # later
    INNOCENT = auto()  # cancelled because of another


AGAIN = (Verdict.BUSY, Verdict.INNOCENT)


class DynamoDBWriter:
    """Writes one record to one table; ``write`` may be called from several threads."""

    def __init__(self, target: DynamoDBTable, contract: Contract, endpoints: Endpoints) -> None:
        self.records: Sequence[str] = (target.record,)
        self.batching = Batching()
        self._table, self._url = target.table, endpoints.dynamodb
        self._renderer = Renderer(target, contract)
        self._client = aws.client("dynamodb", endpoints.dynamodb, parameter_validation=False)
        self._crew = Crew(CALLS_AT_ONCE)

    def connect(self) -> None:
        """Look at the table: Retryable while DynamoDB is away, Fatal when the table is not as it must be."""
        try:
            table = self._client.describe_table(TableName=self._table)["Table"]
        except (ClientError, BotoCoreError) as error:
            raise self._trouble(error) from error
        keys = [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]]
        if keys != [("pk", "HASH"), ("sk", "RANGE")]:
            raise Fatal(
                f"The DynamoDB table {self._table} has another key than Tailrace writes.",
                detail=f"It has {keys}; needed are pk as HASH and sk as RANGE.",
                hint="Name a table of its own in sinks/, and `tailrace apply` makes it.",
            )

    def assigned(self, topic: str, partition: int, offset: int) -> None:
        """Need nothing: the guard is in the items."""

    def write(self, batch: Sequence[Change], *, timeout: float) -> Written:
        """Make the batch durable."""
        deadline = Deadline.after(timeout)
        puts, rejections = self._rendered(batch)
        stale = 0
        for put, verdict in self._sent(list(chunks(newest(puts))), deadline):
            stale += verdict is Verdict.STALE
            if verdict is Verdict.INVALID:
                rejections[put.position] = "DynamoDB refuses the item as invalid."
        return Written(tuple(Rejection(position, rejections[position]) for position in sorted(rejections)), stale)

    def close(self) -> None:
        """Close the connections."""
        self._crew.close()
        self._client.close()

    def _rendered(self, batch: Sequence[Change]) -> tuple[list[Put], dict[int, str]]:
        puts: list[Put] = []
        rejections = {}
        now = time.time()
        for position, change in enumerate(batch):
            try:
                puts += self._renderer.puts(change, position, now)
            except Rejected as error:
                rejections[position] = str(error)
        return puts, rejections

    def _sent(self, calls: Sequence[Sequence[Put]], deadline: Deadline) -> list[tuple[Put, Verdict]]:
        """Send several chunks at once, no two of which name the same item; give every put's last verdict."""
        if len(calls) == 1:
            return self._send(calls[0], deadline)
        jobs = [self._crew.submit(partial(self._send, chunk, deadline)) for chunk in calls]
        wait(jobs)  # each is bounded by the client's timeouts and the deadline; none is left running behind an error
        return [pair for job in jobs for pair in job.result()]

    def _send(self, chunk: Sequence[Put], deadline: Deadline) -> list[tuple[Put, Verdict]]:
        """Send a chunk until each put has its last verdict."""
        found: list[tuple[Put, Verdict]] = []
        pending, busy = list(chunk), 0
        while pending:
            verdicts = self._verdicts(pending)
            found += [(put, verdict) for put, verdict in verdicts if verdict not in AGAIN]
            pending = [put for put, verdict in verdicts if verdict in AGAIN]
            if any(verdict is Verdict.BUSY for _, verdict in verdicts):
                busy += 1
                self._rest(busy, deadline)
        return found

    def _rest(self, busy: int, deadline: Deadline) -> None:
        """Wait a little; Retryable when that did not help so far."""
        if busy >= PATIENCE or deadline.passed():
            raise Retryable(f"The DynamoDB table {self._table} is busy.", detail="throttled or in conflict", after=1.0)
        threading.Event().wait(min(0.05 * 2**busy * random.uniform(0.5, 1), deadline.remaining()))  # noqa: S311 - jitter

    def _verdicts(self, puts: Sequence[Put]) -> list[tuple[Put, Verdict]]:
        """Send puts once: together, or alone where there is one or where together says nothing about each."""
        if len(puts) > 1:
            found = self._together(puts)
            if found is not None:
                return found
        return [(put, self._alone(put)) for put in puts]

    def _together(self, puts: Sequence[Put]) -> list[tuple[Put, Verdict]] | None:
        """Send one transaction; None when it was refused as a whole without a reason for each."""
        try:
            self._client.transact_write_items(TransactItems=[{"Put": self._request(put)} for put in puts])
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "TransactionCanceledException":
                reasons = error.response.get("CancellationReasons", [])
                return self._reasons(puts, reasons, error)
            if code in INVALID:
                return None
            raise self._trouble(error) from error
        except BotoCoreError as error:
            raise self._trouble(error) from error
        return [(put, Verdict.DONE) for put in puts]

    def _reasons(
        self, puts: Sequence[Put], reasons: Sequence[Mapping[str, Any]], error: ClientError
    ) -> list[tuple[Put, Verdict]]:
        codes = [str(reason.get("Code") or "None") for reason in reasons]
        verdicts = [verdict_of(code) for code in codes]
        if len(codes) != len(puts) or None in verdicts or set(verdicts) == {Verdict.INNOCENT}:
            raise Fatal(
                "DynamoDB cancelled a transaction for reasons that are not known.", detail=", ".join(sorted(set(codes)))
            ) from error
        return [(put, verdict) for put, verdict in zip(puts, verdicts, strict=True) if verdict is not None]

    def _alone(self, put: Put) -> Verdict:
        try:
            self._client.put_item(**self._request(put))
        except ClientError as error:
            verdict = verdict_of(error.response["Error"]["Code"])
            if verdict is None:
                raise self._trouble(error) from error
            return verdict
        except BotoCoreError as error:
            raise self._trouble(error) from error
        return Verdict.DONE

    def _request(self, put: Put) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "Item": put.item,
            "ConditionExpression": GUARD,
            "ExpressionAttributeNames": NAMES,
            "ExpressionAttributeValues": {":v": put.item[VERSION_ATTRIBUTE]},
        }

    def _trouble(self, error: ClientError | BotoCoreError) -> TailraceError:
        return trouble(error, self._table, self._url)


def newest(puts: Iterable[Put]) -> list[Put]:
    """Return the newest put of each item: one call may not name an item twice."""
    found: dict[tuple[str, str], Put] = {}
    for put in puts:
        held = found.get(put.place)
        if held is None or held.version < put.version:
            found[put.place] = put
    return list(found.values())


def chunks(puts: Iterable[Put]) -> Iterator[list[Put]]:
    """Cut puts into what one call may carry."""
    chunk: list[Put] = []
    size = 0
    for put in puts:
        if chunk and (len(chunk) == CALL_PUTS or size + put.size > CALL_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(put)
        size += put.size
    if chunk:
        yield chunk


def verdict_of(code: str) -> Verdict | None:
    """Return what an error code says about one put; None for a code that concerns everything."""
    if code == "None":
        return Verdict.INNOCENT
    if code in STALE:
        return Verdict.STALE
    if code in BUSY:
        return Verdict.BUSY
    return Verdict.INVALID if code in INVALID else None


def trouble(error: ClientError | BotoCoreError, table: str, url: str) -> TailraceError:
    """Return what happens next after an error that concerns the whole call; the one table of them."""
    if isinstance(error, NoConnection | HTTPClientError):  # none, none in time, or a broken one
        return Retryable("DynamoDB does not answer.", detail=f"{url}: {type(error).__name__}", hint="Is it up?")
    if not isinstance(error, ClientError):  # no credentials, no region, ...
        return Fatal(
            "The AWS client cannot work.",
            detail=type(error).__name__,
            hint="Check credentials, region and [endpoints].",
        )
    code = str(error.response["Error"]["Code"])
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in BUSY or status >= SERVER_ERROR:
        return Retryable(f"DynamoDB cannot take writes to {table} now.", detail=code)
    if code == "ResourceNotFoundException":
        return Fatal(f"There is no DynamoDB table {table}.", detail=url, hint="`tailrace apply` makes it.")
    return Fatal(
        f"DynamoDB refuses writes to {table}.",
        detail=code,
        hint="The worker needs dynamodb:PutItem, dynamodb:DescribeTable and dynamodb:ConditionCheckItem on the table.",
    )
