"""Search documents per second: the writer against bare ``_bulk`` with prepared bodies of the same documents.

Bare sends bytes that were made before the clock started, with external versions too, in requests of the same size. They
take turns on fresh indexes, so that a busy machine slows all; the best rounds are compared. The first row is the writer
alone, at the same refresh interval; in the second it refreshes rarely, as it does while it is far behind.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch

from bench.tape import ORDER, changes
from tailrace.sink import bulk, mapping
from tailrace.sink.search import SearchWriter
from tailrace.targets import SearchIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.change import Change
    from tailrace.endpoints import Endpoints

DOCUMENTS, A_BATCH, ROUNDS, WARM_UP = 60_000, 5_000, 3, 20_000
FLOOR = 0.8


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Write the documents both ways, a few times, after a round that warms the server up."""
    client = OpenSearch(endpoints.opensearch, timeout=60)
    batch = changes(DOCUMENTS)
    prepared = bodies(batch)
    timed(client, lambda target: write_ours(endpoints, target, batch[:WARM_UP]))
    bare, ours, loading = [], [], []
    for _ in range(ROUNDS):
        bare.append(timed(client, lambda target: write_bare(client, target, prepared)))
        ours.append(timed(client, lambda target: write_ours(endpoints, target, batch)))
        loading.append(timed(client, lambda target: write_ours(endpoints, target, batch), load=30.0))
    client.close()
    baseline = DOCUMENTS / min(bare)
    return [row("search, documents to OpenSearch", DOCUMENTS / min(ours), baseline, FLOOR),
            row("search, the same far behind", DOCUMENTS / min(loading), baseline, FLOOR)]  # fmt: skip


def row(name: str, value: float, baseline: float, floor: float) -> dict[str, Any]:
    """Return one row of the bench."""
    return {"name": name, "value": round(value), "unit": "documents/s", "baseline": round(baseline),
            "ratio": round(value / baseline, 3), "floor": floor}  # fmt: skip


def timed(client: Any, write: Any, *, load: float | None = None) -> float:
    """Return the seconds that ``write`` takes on a fresh index, which is removed afterwards."""
    alias, text = f"bench-{uuid.uuid4().hex[:8]}", ("customer", "city")
    target = SearchIndex(alias, record="order", text=text, load_refresh_seconds=load)
    name = mapping.index_name(target)
    client.indices.create(index=name, body=mapping.index_body(target, ORDER))
    begun = time.perf_counter()
    write(target)
    seconds = time.perf_counter() - begun
    client.indices.delete(index=name)
    return seconds


def bodies(batch: Sequence[Change]) -> list[bytes]:
    """Return the bodies of bulk requests, ready to be sent."""
    pending = bulk.Pending(ORDER, mapping.Renderer(SearchIndex("bench", record="order"), ORDER))
    pending.take(batch)
    documents = list(pending.due())
    return [
        b"".join(document.lines for document in documents[start : start + A_BATCH])
        for start in range(0, len(batch), A_BATCH)
    ]


def write_bare(client: Any, target: SearchIndex, prepared: Sequence[bytes]) -> None:
    """Send prepared bodies with the client alone."""
    for body in prepared:
        if client.bulk(body=body, index=target.alias)["errors"]:
            raise RuntimeError("OpenSearch refused documents of the bench")


def write_ours(endpoints: Endpoints, target: SearchIndex, batch: Sequence[Change]) -> None:
    """Write with the search writer."""
    writer = SearchWriter(target, ORDER, endpoints)
    for start in range(0, len(batch), A_BATCH):
        if writer.write(batch[start : start + A_BATCH], timeout=60):
            raise RuntimeError("the writer rejected documents of the bench")
    writer.close()
