"""The bucket of the lake as its writers use it: a few calls, each with a condition, errors named by what happens next.

An object is complete when it is visible, because S3 shows no half of a put. ``put_new`` never overwrites: of two
writers of one key one wins. ``Conflict`` means that the object of a key is not, or no longer, what was expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tailrace import aws
from tailrace.errors import Fatal, Retryable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

# Answers that say: the object of this name is not, or no longer, what was seen.
CONFLICTS = {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED}
PASSING = {"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "ThrottlingException", "TooManyRequestsException"}


class Conflict(Exception):
    """The object of this key is not what was expected."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True, slots=True)
class Found:
    """One line of a listing."""

    key: str
    etag: str
    bytes: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Content:
    """An object that was read."""

    body: bytes
    etag: str
    metadata: Mapping[str, str]


class Bucket:
    """One bucket; safe to share between threads."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self._s3 = aws.client("s3", url, s3={"addressing_style": "path"})

    def look(self) -> None:
        """Fatal when there is no such bucket."""
        self._call("head_bucket")

    def put_new(self, key: str, body: bytes | IO[bytes], metadata: Mapping[str, str] | None = None) -> str:
        """Write an object where nothing is, return its etag; Conflict where something is."""
        answer = self._call("put_object", Key=key, Body=body, Metadata=dict(metadata or {}), IfNoneMatch="*")
        return str(answer["ETag"])

    def put(self, key: str, body: bytes) -> None:
        """Write an object whatever is there."""
        self._call("put_object", Key=key, Body=body)

    def get(self, key: str) -> Content:
        """Return an object; Conflict where nothing is."""
        answer = self._call("get_object", Key=key)
        try:
            return Content(bytes(answer["Body"].read()), answer["ETag"], answer["Metadata"])
        except (HTTPClientError, BotoCoreError) as error:
            raise Retryable("S3 broke off an answer.", detail=type(error).__name__) from error

    def head(self, key: str) -> Content:
        """Return an object without its body; Conflict where nothing is."""
        answer = self._call("head_object", Key=key)
        return Content(b"", answer["ETag"], answer["Metadata"])

    def delete(self, key: str, etag: str) -> None:
        """Remove an object that is still what was seen."""
        self._call("delete_object", Key=key, IfMatch=etag)

    def listing(self, prefix: str, after: str = "") -> Iterator[Found]:
        """Yield the objects whose keys begin so, in the order of their keys."""
        more: dict[str, str] = {"StartAfter": after} if after else {}
        while True:
            page = self._call("list_objects_v2", Prefix=prefix, **more)
            for entry in page.get("Contents", ()):
                yield Found(entry["Key"], entry["ETag"], entry["Size"], entry["LastModified"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def close(self) -> None:
        """Close the connections."""
        self._s3.close()

    def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self._s3, operation)(Bucket=self.name, **arguments)
        except ClientError as error:
            raise self._explain(error, operation, str(arguments.get("Key", ""))) from error
        except (HTTPClientError, BotoCoreError) as error:
            raise Retryable("S3 does not answer.", detail=f"{operation}: {type(error).__name__}") from error

    def _explain(self, error: ClientError, operation: str, key: str) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        detail = f"{operation} {self.name}/{key}: {code or status}"
        if code == "NoSuchBucket" or (operation == "head_bucket" and status == HTTPStatus.NOT_FOUND):
            return Fatal(f"The bucket {self.name} does not exist.", detail=detail, hint="Run `tailrace apply`.")
        if code in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Retryable("S3 cannot take requests now.", detail=detail)
        if key and status in CONFLICTS:
            return Conflict(key)
        return Fatal("S3 refuses a request.", detail=detail, hint="Look at the bucket's policy and the credentials.")
