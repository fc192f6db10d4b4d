"""Guarded puts of one table, sent once: together in a transaction, or each alone.

Each put holds only while the stored item is older. It gives every put its verdict and decides nothing about trying
again. Only an error that a person has to see is raised.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tailrace import aws
from tailrace.errors import Fatal
from tailrace.sink.dynamodb_answers import CODES, LAST, Verdict, code_of, heard, trouble, units, verdict_of
from tailrace.targets import VERSION_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.errors import TailraceError
    from tailrace.sink.dynamodb_items import Put

    Judged = list[tuple[Put, Verdict]]

GUARD = "attribute_not_exists(#v) OR #v < :v"
NAMES = {"#v": VERSION_ATTRIBUTE}
METERED = {"ReturnConsumedCapacity": "TOTAL"}
ONCE = {"mode": "standard", "total_max_attempts": 1}  # the writer itself tries again, and only what has to be


class Calls:
    """The calls to one table; for any number of threads. ``units`` are what the accepted ones consumed."""

    def __init__(self, table: str, url: str, answer_seconds: float) -> None:
        self._table, self._url = table, url
        self.units = 0.0
        self._lock = threading.Lock()
        self._client = aws.client(
            "dynamodb", url, parameter_validation=False, retries=ONCE, read_timeout=answer_seconds
        )

    def describe(self) -> Any:
        """Return the table's description; Retryable while DynamoDB is away."""
        try:
            return self._client.describe_table(TableName=self._table)["Table"]
        except (ClientError, BotoCoreError) as error:
            raise self._trouble(error) from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def put(self, puts: Sequence[Put]) -> Judged:
        """Send puts once: together, or alone where there is one or where together says nothing about each."""
        if len(puts) > 1:
            judged = self._together(puts)
            if judged is not None:
                return judged
        return self._each(puts)

    def _together(self, puts: Sequence[Put]) -> Judged | None:
        """Send one transaction; None when it was refused as a whole as invalid, without a reason for each."""
        try:
            items = [{"Put": self._request(put)} for put in puts]
            answer = self._client.transact_write_items(TransactItems=items, **METERED)
        except ClientError as error:
            if code_of(error) == "TransactionCanceledException":
                return self._reasons(puts, error.response.get("CancellationReasons", []), error)
            verdict = self._verdict(error)
            return None if verdict in LAST else [(put, verdict) for put in puts]
        except BotoCoreError as error:
            verdict = self._verdict(error)
            return [(put, verdict) for put in puts]
        done = self._done(answer)
        return [(put, done) for put in puts]

    def _reasons(self, puts: Sequence[Put], reasons: Sequence[Mapping[str, Any]], error: ClientError) -> Judged:
        codes = [str(reason.get("Code") or "None") for reason in reasons]
        verdicts = [CODES.get(code) for code in codes]
        if len(codes) != len(puts) or None in verdicts or set(verdicts) == {Verdict.INNOCENT}:
            raise Fatal(
                "DynamoDB cancelled a transaction for reasons that are not known.", detail=", ".join(sorted(set(codes)))
            ) from error
        return [(put, verdict) for put, verdict in zip(puts, verdicts, strict=True) if verdict is not None]

    def _each(self, puts: Sequence[Put]) -> Judged:
        """Send one after the other, until one has to wait: the rest is then not sent."""
        judged: Judged = []
        for put in puts:
            judged.append((put, self._alone(put)))
            if judged[-1][1] not in LAST:
                break
        return judged + [(put, Verdict.INNOCENT) for put in puts[len(judged) :]]

    def _alone(self, put: Put) -> Verdict:
        try:
            answer = self._client.put_item(**self._request(put), **METERED)
        except (ClientError, BotoCoreError) as error:
            return self._verdict(error)
        return self._done(answer)

    def _done(self, answer: Mapping[str, Any]) -> Verdict:
        """Count the units of a call; an answer that does not name any is not one of DynamoDB."""
        if not heard(answer):
            return Verdict.AWAY
        with self._lock:
            self.units += units(answer)
        return Verdict.DONE

    def _request(self, put: Put) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "Item": put.item,
            "ConditionExpression": GUARD,
            "ExpressionAttributeNames": NAMES,
            "ExpressionAttributeValues": {":v": put.item[VERSION_ATTRIBUTE]},
        }

    def _verdict(self, error: ClientError | BotoCoreError) -> Verdict:
        """Return what an error says of each put of the call, or raise what a person has to see."""
        verdict = verdict_of(error)
        if verdict is None:
            raise self._trouble(error) from error
        return verdict

    def _trouble(self, error: ClientError | BotoCoreError) -> TailraceError:
        return trouble(error, self._table, self._url)
