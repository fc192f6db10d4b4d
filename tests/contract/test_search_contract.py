"""The search index keeps the promises that every sink keeps, on a real OpenSearch."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from opensearchpy import OpenSearch

from tailrace.sink import mapping
from tailrace.sink.search import SearchWriter
from tailrace.targets import SearchIndex
from tailrace.testing import PARCEL, SinkContract, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tailrace.endpoints import Endpoints
    from tests.providers import RunningStack


class SearchStore:
    """One empty index behind an alias."""

    unwritable: Mapping[str, Any] = {"detail": "[1, 2]"}  # JSON that is no object

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.target = SearchIndex(f"parcels-{uuid.uuid4().hex[:8]}", record="parcel", text=("note",))
        self.client = OpenSearch(endpoints.opensearch)
        self.client.indices.create(index=mapping.index_name(self.target), body=mapping.index_body(self.target, PARCEL))

    def open(self) -> SearchWriter:
        return SearchWriter(self.target, PARCEL, self.endpoints)

    def current(self) -> Sequence[Mapping[str, Any]]:
        self.client.indices.refresh(index=self.target.alias)
        answer = self.client.search(index=self.target.alias, body={"size": 1000})
        return [typed(hit["_source"]) for hit in answer["hits"]["hits"]]

    def close(self) -> None:
        self.client.indices.delete(index=mapping.index_name(self.target))
        self.client.close()


READERS: dict[str, Callable[[Any], Any]] = {
    "amount": Decimal, "exact": Decimal, "detail": json.dumps, "at": datetime.fromisoformat,
}  # fmt: skip


def typed(source: Mapping[str, Any]) -> dict[str, Any]:
    """Read a document as the contract says."""
    readable = {name for name, value in source.items() if name in READERS and value is not None}
    return {name: READERS[name](value) if name in readable else value for name, value in source.items()}


class TestSearch(SinkContract):
    @pytest.fixture
    def store(self, stack: RunningStack) -> Iterator[Store]:
        made = SearchStore(stack.endpoints)
        yield made
        made.close()
