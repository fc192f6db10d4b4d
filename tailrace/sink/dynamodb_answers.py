"""What DynamoDB's answers mean: the one table of them, from error code to what happens next (docs/dynamodb.md).

Codes come from two places: the error of a whole call, and the reason that a cancelled transaction gives for each of
its puts. An answer that nobody can read, or none at all, says nothing about the write: it may have happened, and the
guard makes sending it again harmless. A code that is not known here stops the worker rather than being guessed at.
"""

from __future__ import annotations

from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError

from tailrace.errors import Fatal, Retryable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.exceptions import BotoCoreError

    from tailrace.errors import TailraceError


class Verdict(Enum):
    """What became of one put in one call."""

    DONE = auto()
    STALE = auto()  # the store has something as new: a success
    INVALID = auto()  # never possible
    THROTTLED = auto()  # later, and slower
    CONFLICT = auto()  # later: somebody else is writing this item
    AWAY = auto()  # nobody knows; later, and not for long
    INNOCENT = auto()  # cancelled because of another, or not sent: at once


LAST = (Verdict.DONE, Verdict.STALE, Verdict.INVALID)

CODES = {
    "None": Verdict.INNOCENT,
    "ConditionalCheckFailed": Verdict.STALE,
    "ConditionalCheckFailedException": Verdict.STALE,
    "ValidationError": Verdict.INVALID,
    "ValidationException": Verdict.INVALID,
    "ItemCollectionSizeLimitExceeded": Verdict.INVALID,
    "ItemCollectionSizeLimitExceededException": Verdict.INVALID,
    "ProvisionedThroughputExceeded": Verdict.THROTTLED,
    "ProvisionedThroughputExceededException": Verdict.THROTTLED,
    "ThrottlingError": Verdict.THROTTLED,
    "ThrottlingException": Verdict.THROTTLED,
    "RequestLimitExceeded": Verdict.THROTTLED,
    "LimitExceededException": Verdict.THROTTLED,
    "TransactionConflict": Verdict.CONFLICT,
    "TransactionConflictException": Verdict.CONFLICT,
    "TransactionInProgressException": Verdict.CONFLICT,
    "ReplicatedWriteConflictException": Verdict.CONFLICT,
}


def verdict_of(error: ClientError | BotoCoreError) -> Verdict | None:
    """Return what the error of a call says about its puts; None when a person has to act."""
    if not isinstance(error, ClientError):
        return Verdict.AWAY if isinstance(error, NoConnection | HTTPClientError | ResponseParserError) else None
    code, status = code_of(error), status_of(error)
    if code in CODES:
        return CODES[code]
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Verdict.THROTTLED
    cut = status == HTTPStatus.BAD_REQUEST and not any(map(str.isalpha, code))  # an error of DynamoDB, but which?
    return Verdict.AWAY if cut or status >= HTTPStatus.INTERNAL_SERVER_ERROR else None


def heard(answer: Mapping[str, Any]) -> bool:
    """Say whether a success is a whole answer of DynamoDB: every call asks for the units that it consumed.

    botocore takes any text under the status 200 for an answer without fields, half an answer included.
    """
    return bool(answer.get("ConsumedCapacity"))


def units(answer: Mapping[str, Any]) -> float:
    """Return the write units that a call consumed."""
    consumed = answer["ConsumedCapacity"]
    parts = consumed if isinstance(consumed, list) else [consumed]
    return float(sum(part.get("CapacityUnits", 0) for part in parts))


def code_of(error: ClientError) -> str:
    """Return the code of an error."""
    return str(error.response["Error"].get("Code", ""))


def status_of(error: ClientError) -> int:
    """Return the HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def trouble(error: ClientError | BotoCoreError, table: str, url: str) -> TailraceError:
    """Return what to raise when an error concerns the whole call and nothing is left to try at once."""
    verdict = verdict_of(error)
    if not isinstance(error, ClientError):
        if verdict is Verdict.AWAY:  # no connection, none in time, a broken one, or an answer that is none
            return Retryable("DynamoDB does not answer.", detail=f"{url}: {type(error).__name__}", hint="Is it up?")
        return Fatal(
            "The AWS client cannot work.",
            detail=type(error).__name__,
            hint="Check credentials, region and [endpoints].",
        )
    code = code_of(error)
    if verdict in (Verdict.THROTTLED, Verdict.CONFLICT, Verdict.AWAY):
        return Retryable(f"DynamoDB cannot take writes to {table} now.", detail=code)
    if code == "ResourceNotFoundException":
        return Fatal(f"There is no DynamoDB table {table}.", detail=url, hint="`tailrace apply` makes it.")
    return Fatal(
        f"DynamoDB refuses writes to {table}.",
        detail=code,
        hint="The worker needs dynamodb:PutItem, dynamodb:DescribeTable and dynamodb:ConditionCheckItem on the table.",
    )
