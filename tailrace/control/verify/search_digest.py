"""Digests of a search index by range of its keys, from OpenSearch's own numbers of its writes.

Every write to a document, whoever makes it, gets a number (``_seq_no``) that is larger than all before it in its shard.
So when a range of one shard has as many documents as before and its largest number is the same, nothing in it was
written: had a document been written, its number would be larger than the largest; had one been removed and none
written, there would be fewer. That holds within one life of a shard: the index's UUID and the shard's primary term,
which changes when another copy takes over, are part of the digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tailrace.control.verify.ranges import NOWHERE
from tailrace.errors import Unreachable
from tailrace.targets import DELETED_FIELD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tailrace.control.verify.ranges import Part, Ranges, Span

ORDERED = ("long", "integer", "keyword")  # types of fields whose order is that of the source
AT_ONCE = 400  # ranges in one request
NEWEST = {"newest": {"max": {"field": "_seq_no"}}}


class Life(NamedTuple):
    """One life of an index: what names it, and the primary terms of its shards."""

    name: str
    terms: Mapping[str, int]


def life(state: Mapping[str, Any], index: str) -> Life:
    """Return it from the cluster's state."""
    found = state["metadata"]["indices"][index]
    terms = found["primary_terms"]
    return Life(f"{found['settings']['index']['uuid']}/{sorted(terms.items())}", terms)


def living(part: Part | None = None) -> dict[str, Any]:
    """Return the query for documents that are no delete markers, of some ranges or all."""
    query: dict[str, Any] = {"must_not": {"term": {DELETED_FIELD: True}}}
    if part is not None and part.spans is not None:
        query |= {"should": [_span(part.ranges.column, span) for span in part.spans], "minimum_should_match": 1}
    return {"bool": query}


def digests(ask: Callable[..., Any], shards: int, life: str, field: str, ranges: Ranges) -> dict[int, str]:
    """Return a digest of each range that holds documents; ``ask`` sends one search."""
    found: dict[int, list[str]] = {}
    for shard in range(shards):
        for aggregations in _requests(field, ranges):
            body = {"size": 0, "query": living(), "aggs": aggregations}
            answer = ask(body=body, params={"preference": f"_shards:{shard}"})
            if answer["timed_out"] or answer["_shards"]["failed"]:
                raise Unreachable("OpenSearch could not look at a whole shard.", detail=f"shard {shard}")
            for number, count, newest in _read(answer["aggregations"]):
                found.setdefault(number, []).append(f"{shard}:{count}:{newest}")
    return {number: "|".join([life, *parts]) for number, parts in found.items()}


def _requests(field: str, ranges: Ranges) -> Iterator[dict[str, Any]]:
    """Yield what is asked of each shard: a part of the ranges at a time, and what is in none of them."""
    if not ranges.bounds:
        yield {"parts": {"filters": {"filters": {"0": {"match_all": {}}}}, "aggs": NEWEST}}
        return
    yield {"nowhere": {"missing": {"field": field}, "aggs": NEWEST}}
    numbers = sorted(ranges.every() - {NOWHERE})
    for start in range(0, len(numbers), AT_ONCE):
        filters = {
            str(number): _span(field, next(ranges.spans([number]))) for number in numbers[start : start + AT_ONCE]
        }
        yield {"parts": {"filters": {"filters": filters}, "aggs": NEWEST}}


def _read(answered: Mapping[str, Any]) -> Iterator[tuple[int, int, int]]:
    """Yield the ranges that hold something, with how many documents and the newest number."""
    parts = answered.get("parts", {}).get("buckets") or {str(NOWHERE): answered["nowhere"]}
    for number, part in parts.items():
        if part["doc_count"]:
            yield int(number), part["doc_count"], int(part["newest"]["value"])


def _span(field: str, span: Span) -> dict[str, Any]:
    low, high = span
    sides = {name: bound for name, bound in (("gte", low), ("lt", high)) if bound is not None}
    return {"range": {field: sides}}
