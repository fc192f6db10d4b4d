"""The search index keeps the promises that every sink keeps, on a real OpenSearch."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from opensearchpy import OpenSearch

from tailrace.errors import Retryable
from tailrace.sink import mapping
from tailrace.sink.search import SearchWriter
from tailrace.targets import SearchIndex
from tailrace.testing import PARCEL, DoorContract, Store, Tape, parcel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tailrace.endpoints import Endpoints
    from tailrace.targets import Sink
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

    def block(self, blocked: bool) -> None:
        """Make the index read-only, as a disk above its watermark does, or writable again."""
        body = {"index.blocks.write": True if blocked else None}
        self.client.indices.put_settings(index=self.target.alias, body=body)


READERS: dict[str, Callable[[Any], Any]] = {
    "amount": Decimal, "exact": Decimal, "detail": json.dumps, "at": datetime.fromisoformat,
}  # fmt: skip


def typed(source: Mapping[str, Any]) -> dict[str, Any]:
    """Read a document as the contract says."""
    readable = {name for name, value in source.items() if name in READERS and value is not None}
    return {name: READERS[name](value) if name in readable else value for name, value in source.items()}


class TestSearch(DoorContract):
    writes = "_bulk"

    @pytest.fixture
    def store(self, stack: RunningStack) -> Iterator[SearchStore]:
        made = SearchStore(stack.endpoints)
        yield made
        made.close()

    def address(self, store: Store) -> str:
        assert isinstance(store, SearchStore)
        return store.endpoints.opensearch

    def open_at(self, store: Store, url: str) -> Sink:
        assert isinstance(store, SearchStore)
        return SearchWriter(store.target, PARCEL, replace(store.endpoints, opensearch=url))

    def test_one_answer_with_every_kind_of_item_is_settled_item_by_item(self, store: SearchStore) -> None:
        tape = Tape()
        old, newer = tape.put(parcel(2, note="old")), tape.put(parcel(2, note="newer"))
        writer = store.open()
        writer.write([newer], timeout=30)
        batch = [tape.put(parcel(1)), old, tape.put(parcel(3, detail='{"a": 1, "a": 2}')), tape.put(parcel(4))]

        written = writer.write(batch, timeout=30)

        assert ([rejection.position for rejection in written], written.stale) == ([2], 1)
        assert sorted(record["id"] for record in store.current()) == [1, 2, 4]

    def test_a_blocked_index_waits_with_its_reason_and_takes_everything_when_the_block_is_lifted(
        self, store: SearchStore
    ) -> None:
        writer, tape = store.open(), Tape()
        batch = [tape.put(parcel(1)), tape.put(parcel(2))]
        store.block(True)
        with pytest.raises(Retryable, match="blocked") as caught:
            writer.write(batch, timeout=30)
        store.block(False)

        assert "index read-only" in caught.value.problem or "index write" in caught.value.problem
        assert list(writer.write(batch, timeout=30)) == []
