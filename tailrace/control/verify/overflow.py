"""Values of DynamoDB items that lie in objects of their own, read back for ``verify``.

An attribute is a pointer when it is a map of exactly the three names of ``targets.POINTER``. Size and digest have to be
those of the object, whose text then stands for the value.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tailrace import aws
from tailrace.errors import Unreachable
from tailrace.targets import POINTER

if TYPE_CHECKING:
    from collections.abc import Mapping

MISSING = 404


class Overflow:
    """The objects in one bucket; the connection is made by the first pointer."""

    def __init__(self, bucket: str, url: str) -> None:
        self._bucket, self._url = bucket, url
        self._client: Any = None

    def follow(self, value: Mapping[str, Any]) -> bytes | None:
        """Return what a pointer points to, or None where that is not what was written."""
        key, size, digest = (next(iter(value["M"][name].values())) for name in POINTER)
        body = self._read(str(key))
        sound = body is not None and str(len(body)) == size and hashlib.sha256(body).hexdigest() == digest
        return body if sound else None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def _read(self, key: str) -> bytes | None:
        if self._client is None:
            self._client = aws.client("s3", self._url, s3={"addressing_style": "path"})
        try:
            return bytes(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == MISSING:
                return None
            raise Unreachable("S3 refuses an object.", detail=error.response["Error"]["Code"]) from error
        except BotoCoreError as error:
            raise Unreachable("S3 does not answer.", detail=type(error).__name__) from error


def is_pointer(value: Mapping[str, Any]) -> bool:
    """Say whether an attribute stands for a value in an object."""
    return bool(value.get("M", {}).keys() == set(POINTER))
