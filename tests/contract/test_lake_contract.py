"""The lake keeps the promises that every sink keeps, on a real bucket."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import aws
from tailrace.control.lake import LakeFolder, LakeReader
from tailrace.settings import LakeSettings
from tailrace.sink.lake import LakeWriter
from tailrace.targets import LakeTable
from tailrace.testing import PARCEL, SinkContract, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tailrace.endpoints import Endpoints
    from tests.providers import RunningStack


class LakeStore:
    """One empty bucket."""

    unwritable: Mapping[str, Any] = {"amount": Decimal("0.12345")}  # decimal(18,4) would have to round it

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.bucket = f"contract-{uuid.uuid4().hex[:8]}"
        self.s3 = aws.client("s3", endpoints.s3)
        self.s3.create_bucket(Bucket=self.bucket)

    def open(self) -> LakeWriter:
        settings = LakeSettings(bucket=self.bucket)
        return LakeWriter(LakeTable("parcels", record="parcel"), PARCEL, self.endpoints, settings)

    def current(self) -> Sequence[Mapping[str, Any]]:
        folder = LakeFolder(self.endpoints.s3, self.bucket, "conformed", "parcels", PARCEL.key)
        rows = LakeReader(folder).rows("SELECT * FROM current")
        return [{**row, "exact": None if row["exact"] is None else Decimal(row["exact"])} for row in rows]

    def close(self) -> None:
        for entry in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ()):
            self.s3.delete_object(Bucket=self.bucket, Key=entry["Key"])
        self.s3.delete_bucket(Bucket=self.bucket)
        self.s3.close()


class TestLake(SinkContract):
    @pytest.fixture
    def store(self, stack: RunningStack) -> Iterator[Store]:
        made = LakeStore(stack.endpoints)
        yield made
        made.close()
