"""Delete markers of a search index that nothing can need any more: `tailrace search purge`.

A marker refuses older writes of its key. Once every raw record that old has left the raw topic by retention, no
processor can produce such a write again, and the marker may go. A marker does not say which partition its key is in,
so its offset has to be below the first one still there of every partition. Dead letters may be older than that: settle
them first. A marker whose document was written again meanwhile stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from tailrace import topics, version
from tailrace.control.rebuild import old_indexes
from tailrace.control.resources.search import asking
from tailrace.errors import Refused
from tailrace.targets import DELETED_FIELD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailrace.control.services import Services
    from tailrace.targets import SearchIndex

PAGE = 5_000
KEEP = "5m"


@dataclass(frozen=True, slots=True)
class Purged:
    """How many markers there were, how many are gone, and the raw offset below which they had to be."""

    alias: str
    markers: int
    deleted: int
    below: int


def purge(services: Services, target: SearchIndex) -> Purged:
    """Delete the markers that are older than the whole raw topic."""
    project = services.project
    topic = topics.raw(project.name, project.table_of(target.record))
    starts = services.admin.starts([topic])
    if not starts:
        raise Refused(f"There is no topic {topic}.", hint="Run `tailrace apply`.")
    below = min(starts.values())
    index, _ = old_indexes(services, target)
    markers = deleted = 0
    with asking(target.alias):
        for page in _pages(services.search, index):
            markers += len(page)
            deleted += _delete(services.search, index, [each for each in page if old(each["_version"], below)])
    return Purged(target.alias, markers, deleted, below)


def old(marker: int, below: int) -> bool:
    """Say whether a marker's version is of a raw record before the offset ``below``, in whatever epoch."""
    return version.unpack(marker)[1] < below


def _pages(client: Any, index: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the markers with version and sequence number, page by page."""
    client.indices.refresh(index=index)
    query = {"query": {"term": {DELETED_FIELD: True}}, "sort": ["_doc"], "size": PAGE, "_source": False}
    found = {"version": True, "seq_no_primary_term": True}
    page = client.search(index=index, body={**query, **found}, params={"scroll": KEEP})
    while page["hits"]["hits"]:
        yield page["hits"]["hits"]
        page = client.scroll(body={"scroll": KEEP, "scroll_id": page["_scroll_id"]})
    client.clear_scroll(body={"scroll_id": [page["_scroll_id"]]})


def _delete(client: Any, index: str, markers: Sequence[dict[str, Any]]) -> int:
    """Delete markers that nobody has written since they were seen; return how many."""
    if not markers:
        return 0
    lines = [
        {"delete": {"_id": each["_id"], "if_seq_no": each["_seq_no"], "if_primary_term": each["_primary_term"]}}
        for each in markers
    ]
    answer = client.bulk(body=b"".join(orjson.dumps(line) + b"\n" for line in lines), index=index)
    return sum(item["delete"]["status"] == 200 for item in answer["items"])
