"""The lake keeps the promises that every sink keeps, on a real bucket."""

from __future__ import annotations

import uuid
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import aws
from tailrace.control.lake import LakeFolder, LakeReader
from tailrace.settings import LakeSettings
from tailrace.sink.lake import LakeWriter
from tailrace.targets import LakeTable
from tailrace.testing import PARCEL, Answer, DoorContract, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tailrace.endpoints import Endpoints
    from tailrace.targets import Sink
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
        return self.at(self.endpoints)

    def at(self, endpoints: Endpoints) -> LakeWriter:
        settings = LakeSettings(bucket=self.bucket)
        return LakeWriter(LakeTable("parcels", record="parcel"), PARCEL, endpoints, settings)

    def current(self) -> Sequence[Mapping[str, Any]]:
        folder = LakeFolder(self.endpoints.s3, self.bucket, "conformed", "parcels", PARCEL.key)
        rows = LakeReader(folder).rows("SELECT * FROM current")
        return [{**row, "exact": None if row["exact"] is None else Decimal(row["exact"])} for row in rows]

    def close(self) -> None:
        for entry in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ()):
            self.s3.delete_object(Bucket=self.bucket, Key=entry["Key"])
        self.s3.delete_bucket(Bucket=self.bucket)
        self.s3.close()


SLOW = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
AWAY = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>Try again.</Message></Error>"
XML = (("Content-Type", "application/xml"),)


class TestLake(DoorContract):
    writes = "PUT /"
    throttled, away = Answer(503, SLOW, XML), Answer(500, AWAY, XML)

    @pytest.fixture
    def store(self, stack: RunningStack) -> Iterator[Store]:
        made = LakeStore(stack.endpoints)
        yield made
        made.close()

    def address(self, store: Store) -> str:
        assert isinstance(store, LakeStore)
        return store.endpoints.s3

    def open_at(self, store: Store, url: str) -> Sink:
        assert isinstance(store, LakeStore)
        return store.at(replace(store.endpoints, s3=url))
