"""Lake rows per second: the writer against bare pyarrow and boto3 that write the same rows to the same bucket.

Bare is ``Table.from_pylist`` of dicts that hold all columns already, ``write_table`` and one put an object. The two
take turns, so that a busy machine slows both; the best rounds are compared. The writer's own processor time, its log
included, says what one core can take, whatever else the machine does.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.tape import ORDER, changes
from tailrace import aws
from tailrace.settings import LakeSettings
from tailrace.sink import parquet
from tailrace.sink.lake import LakeWriter
from tailrace.targets import LakeTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.change import Change
    from tailrace.endpoints import Endpoints

ROWS, A_BATCH, ROUNDS = 200_000, 50_000, 5
FLOOR, ONE_CORE = 0.8, 150_000
FRAMED = b"\0\0\0\0\1..."  # a value as it comes from Kafka: the schema's id in front
TABLE = LakeTable("orders", record="order")


@dataclass(frozen=True)
class Took:
    """Seconds of one round: on the clock, and of processors."""

    clock: float
    processors: float


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Write the rows both ways, a few times."""
    batch = [replace(change, raw_value=FRAMED) for change in changes(ROWS)]
    rows = [bare_row(change) for change in batch]
    s3 = aws.client("s3", endpoints.s3)
    bare, ours = [], []
    for _ in range(ROUNDS):
        bare.append(timed(s3, lambda bucket: partial(write_bare, s3, bucket, rows)))
        ours.append(timed(s3, lambda bucket: partial(write_ours, opened(endpoints, bucket), batch)))
    s3.close()
    value, baseline = (ROWS / min(took.clock for took in rounds) for rounds in (ours, bare))
    one = ROWS / min(took.processors for took in ours)
    return [
        {"name": "lake, rows to S3", "value": round(value), "unit": "rows/s", "baseline": round(baseline),
         "ratio": round(value / baseline, 3), "floor": FLOOR},
        {"name": "lake, rows to S3 on one core", "value": round(one), "unit": "rows/CPU s", "floor": ONE_CORE},
    ]  # fmt: skip


def timed(s3: Any, prepare: Callable[[str], Callable[[], None]]) -> Took:
    """Return what the prepared write takes on an empty bucket, which is removed afterwards."""
    bucket = f"bench-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    write = prepare(bucket)
    begun, used = time.perf_counter(), time.process_time()
    write()
    took = Took(time.perf_counter() - begun, time.process_time() - used)
    for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
        s3.delete_object(Bucket=bucket, Key=entry["Key"])
    s3.delete_bucket(Bucket=bucket)
    return took


def bare_row(change: Change) -> dict[str, Any]:
    """Return a row with all columns, as somebody would hand it to pyarrow."""
    return {
        **(change.value or {}),
        "_op": change.op,
        "_version": change.version,
        "_lsn": change.lsn,
        "_committed_at": datetime.fromtimestamp(change.committed_us / 1e6, UTC),
        "_partition": change.partition,
        "_offset": change.offset,
    }


def write_bare(s3: Any, bucket: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write with pyarrow and boto3 alone."""
    schema = parquet.schema(ORDER)
    for start in range(0, len(rows), A_BATCH):
        out = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows[start : start + A_BATCH], schema), out, compression="zstd")
        s3.put_object(Bucket=bucket, Key=f"orders/{start:012d}.parquet", Body=bytes(out.getvalue()))


def opened(endpoints: Endpoints, bucket: str) -> LakeWriter:
    """Return a writer that has met its bucket and its partition, as a worker's has."""
    writer = LakeWriter(TABLE, ORDER, endpoints, LakeSettings(bucket=bucket))
    writer.connect()
    writer.assigned("bench.conformed.order", 0, 0)
    return writer


def write_ours(writer: LakeWriter, batch: Sequence[Change]) -> None:
    """Write with the lake's writer."""
    for start in range(0, len(batch), A_BATCH):
        if writer.write(batch[start : start + A_BATCH], timeout=60):
            raise RuntimeError("the lake rejected rows of the bench")
    writer.close()
