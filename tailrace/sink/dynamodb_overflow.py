"""Values too large for a DynamoDB item, in objects of their own: ``oversize="s3"`` of a table.

The item holds a pointer where the value would be: ``{"_s3": key, "bytes": n, "sha256": hex}``. An object's name carries
the item's key (hashed), the version, the field and the value's digest: no object is ever overwritten by another
value, and a stale or repeated write finds its object there. Objects are written before the item that points to them,
and none is removed here: a reader of an older item still finds what it points to.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection

from tailrace import aws
from tailrace.errors import Fatal, Retryable
from tailrace.sink.dynamodb_values import attribute_size, item_size
from tailrace.targets import POINTER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.contract import Contract
    from tailrace.errors import TailraceError
    from tailrace.sink.dynamodb_values import Attribute

KINDS = ("string", "json", "bytes")
THERE = (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED)
PASSING = {"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "ThrottlingException", "TooManyRequestsException"}


@dataclass(frozen=True, slots=True)
class Spill:
    """One value on its way to an object."""

    key: str
    body: bytes


def spilled(
    item: Mapping[str, Attribute],
    value: Mapping[str, Any],
    contract: Contract,
    prefix: str,
    *,
    limit: int,
) -> tuple[dict[str, Attribute], tuple[Spill, ...]]:
    """Return the item with pointers for its largest values, until it is within the limit or none is left.

    Objects are named ``prefix``, field, digest.
    """
    made, spills = dict(item), []
    names = [field.name for field in contract.fields if field.kind in KINDS and value[field.name] is not None]
    for name in sorted(names, key=lambda name: -attribute_size(item[name])):
        if item_size(made) <= limit:
            break
        given = value[name]
        body = given if isinstance(given, bytes) else given.encode()
        digest = hashlib.sha256(body).hexdigest()
        key = f"{prefix}-{name}-{digest[:16]}"
        parts = ({"S": key}, {"N": str(len(body))}, {"S": digest})
        made[name] = {"M": dict(zip(POINTER, parts, strict=True))}
        spills.append(Spill(key, body))
    return made, tuple(spills)


def overflow_folder(table: str, pk: str, sk: str) -> str:
    """Return where the objects of one item lie; the item's key cannot be read off it."""
    return f"overflow/{table}/{hashlib.sha256(json.dumps([pk, sk]).encode()).hexdigest()}"


class Overflow:
    """The objects in one bucket."""

    def __init__(self, bucket: str, url: str) -> None:
        self._bucket, self._url = bucket, url
        self._client = aws.client("s3", url, s3={"addressing_style": "path"})

    def write(self, spill: Spill) -> None:
        """Write one object, unless it is there."""
        try:
            self._client.put_object(Bucket=self._bucket, Key=spill.key, Body=spill.body, IfNoneMatch="*")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in THERE:
                raise self._trouble(error) from error
        except BotoCoreError as error:
            raise self._trouble(error) from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _trouble(self, error: ClientError | BotoCoreError) -> TailraceError:
        if isinstance(error, NoConnection | HTTPClientError):
            return Retryable("S3 does not answer.", detail=f"{self._url}: {type(error).__name__}", hint="Is it up?")
        if not isinstance(error, ClientError):
            return Fatal("The AWS client cannot work.", detail=type(error).__name__, hint="Check credentials.")
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Retryable(f"S3 cannot take objects of {self._bucket} now.", detail=code)
        return Fatal(
            f"S3 refuses an object of {self._bucket}.",
            detail=code,
            hint="`tailrace apply` makes the bucket; the worker needs s3:PutObject on its overflow/.",
        )
