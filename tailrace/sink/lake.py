"""The lake's writer: one batch of one partition becomes one Parquet object per source commit date.

Every object is written with a condition: it must not exist yet, or be the very leftover that was seen. So an old
worker that wakes up after its partition moved can neither overwrite nor remove what its successor wrote. Objects are
complete when they are visible, because S3 shows no half of a put. Names and leftovers are decided in
``tailrace.sink.lakeobjects``, bytes are made in ``tailrace.sink.parquet``; this module does the I/O.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import structlog
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tailrace import aws
from tailrace.deadline import Deadline
from tailrace.errors import Fatal, Retryable
from tailrace.sink import lakeobjects, parquet
from tailrace.sink.writer import Batching

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailrace.change import Change, Rejection
    from tailrace.contract import Contract
    from tailrace.endpoints import Endpoints
    from tailrace.settings import LakeSettings
    from tailrace.sink.lakeobjects import LakeObject, Lane, Leftover
    from tailrace.targets import LakeTable

MAX_BYTES = 128 * 1024 * 1024  # of Kafka messages in one batch; Parquet makes about a fifth of it
# Answers that say: the object of this name is not, or no longer, what was seen.
CONFLICTS = {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED}
PASSING = {"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "ThrottlingException", "TooManyRequestsException"}

log = structlog.get_logger()


class LakeWriter:
    """A Sink over one table of the lake; ``write`` may be called for several partitions at once."""

    def __init__(self, target: LakeTable, contract: Contract, endpoints: Endpoints, settings: LakeSettings) -> None:
        self.records: Sequence[str] = (target.record,)
        self.batching = Batching(rows=settings.flush_rows, bytes=MAX_BYTES, linger_seconds=settings.flush_seconds)
        self._target, self._contract, self._bucket = target, contract, settings.bucket
        self._s3 = aws.client("s3", endpoints.s3, s3={"addressing_style": "path"})
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._lock = threading.Lock()

    def connect(self) -> None:
        """Look for the bucket."""
        self._call("head_bucket")

    def assigned(self, topic: str, partition: int, offset: int) -> None:
        """Begin a lane; what is there is listed at its first write."""
        with self._lock:
            self._lanes[topic, partition] = lakeobjects.Lane(partition, max(0, offset))

    def write(self, batch: Sequence[Change], *, timeout: float) -> Sequence[Rejection]:
        """Write the objects of one batch, then remove the leftovers that they cover."""
        if not batch:
            return ()
        deadline = Deadline.after(timeout)
        lane = self._lane(batch)
        rows = parquet.Rows(self._contract, batch)
        objects = lakeobjects.cut(self._target, rows)
        try:
            for item in objects:
                self._put(lane, item, deadline)
        except _Conflict as error:
            self._forget(batch[0])
            raise Retryable(
                "Another writer made an object of this batch.",
                detail=f"{error.key}: looked at again at the next attempt.",
            ) from error
        lane.wrote(objects, batch[-1].offset)
        self._settle(lane, deadline)
        return rows.rejections

    def close(self) -> None:
        """Close the connections."""
        self._s3.close()

    def _lane(self, batch: Sequence[Change]) -> Lane:
        """Return the lane of a batch; a batch that goes back begins a new one."""
        first = batch[0]
        with self._lock:
            lane = self._lanes.get((first.topic, first.partition))
            if lane is None or first.offset <= lane.through:
                lane = lakeobjects.Lane(first.partition, first.offset)
                self._lanes[first.topic, first.partition] = lane
        if not lane.listed:
            lane.found(self._list())
        return lane

    def _forget(self, change: Change) -> None:
        with self._lock:
            self._lanes.pop((change.topic, change.partition), None)

    def _list(self) -> Iterator[tuple[str, str]]:
        """Return key and etag of every object of the table."""
        more: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Prefix=lakeobjects.prefix(self._target), **more)
            for entry in page.get("Contents", ()):
                yield entry["Key"], entry["ETag"]
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _put(self, lane: Lane, item: LakeObject, deadline: Deadline) -> None:
        """Write one object: over the leftover of its name, or where nothing is."""
        _check(deadline)
        old = lane.leftovers.get(item.key)
        if old is not None:
            self._keep(lane, old, item)
        condition = {"IfNoneMatch": "*"} if old is None else {"IfMatch": old.etag}
        try:
            self._call("put_object", Key=item.key, Body=item.body, Metadata=item.metadata, **condition)
        except _Conflict:
            if not self._ours(item):
                raise
        lane.leftovers.pop(item.key, None)

    def _keep(self, lane: Lane, old: Leftover, item: LakeObject) -> None:
        """Copy a leftover that holds more than the object that takes its name."""
        old = self._read(lane, old)
        if old.covered(item.marks):
            return
        source = {"Bucket": self._bucket, "Key": old.key}
        answer = self._call("copy_object", CopySource=source, CopySourceIfMatch=old.etag, Key=old.second_name)
        lane.moved(old, answer["CopyObjectResult"]["ETag"])

    def _ours(self, item: LakeObject) -> bool:
        """Say whether the object that is there is this one: an earlier attempt whose answer was lost."""
        there = self._call("head_object", Key=item.key)
        return bool(there["Metadata"] == item.metadata)

    def _read(self, lane: Lane, leftover: Leftover) -> Leftover:
        """Return a leftover with its marks known."""
        if leftover.marks is not None:
            return leftover
        answer = self._call("get_object", Key=leftover.key, IfMatch=leftover.etag)
        try:
            return lane.learn(leftover, parquet.marks(_bytes(answer)))
        except (pa.ArrowInvalid, KeyError) as error:
            raise Fatal(
                f"{self._bucket}/{leftover.key} is not an object of the lake.",
                detail=type(error).__name__,
                hint="Move it out of the table's folder.",
            ) from error

    def _settle(self, lane: Lane, deadline: Deadline) -> None:
        """Remove the leftovers that are covered; leave those that hold what no longer comes from Kafka."""
        for found in lane.due():
            _check(deadline)
            try:
                leftover = self._read(lane, found)
                if leftover.covered(lane.written):
                    self._call("delete_object", Key=leftover.key, IfMatch=leftover.etag)
                elif not lane.over(leftover):
                    continue
                else:
                    log.info("lake.object.kept", key=leftover.key, why="holds changes that Kafka no longer has")
            except _Conflict:
                log.info("lake.object.taken", key=found.key, why="another writer has changed or removed it")
            lane.settle(found)

    def _call(self, operation: str, **arguments: Any) -> Any:
        """Call S3 on the bucket, with its errors named by what happens next."""
        try:
            return getattr(self._s3, operation)(Bucket=self._bucket, **arguments)
        except ClientError as error:
            raise self._explain(error, operation, str(arguments.get("Key", ""))) from error
        except (HTTPClientError, BotoCoreError) as error:
            raise Retryable("S3 does not answer.", detail=f"{operation}: {type(error).__name__}") from error

    def _explain(self, error: ClientError, operation: str, key: str) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        detail = f"{operation} {self._bucket}/{key}: {code or status}"
        if code == "NoSuchBucket" or (operation == "head_bucket" and status == HTTPStatus.NOT_FOUND):
            return Fatal(f"The bucket {self._bucket} does not exist.", detail=detail, hint="Run `tailrace apply`.")
        if code in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Retryable("S3 cannot take requests now.", detail=detail)
        if key and status in CONFLICTS:
            return _Conflict(key)
        return Fatal("S3 refuses a request.", detail=detail, hint="Look at the bucket's policy and the credentials.")


class _Conflict(Exception):
    """The object of this key is not what was seen."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _bytes(answer: Any) -> bytes:
    """Read the body of an answer; a connection that breaks half-way is a pause."""
    try:
        return bytes(answer["Body"].read())
    except (HTTPClientError, BotoCoreError) as error:
        raise Retryable("S3 broke off an answer.", detail=type(error).__name__) from error


def _check(deadline: Deadline) -> None:
    if deadline.passed():
        raise Retryable("The lake was too slow for one batch.", hint="Raise write_timeout_seconds of the worker.")
