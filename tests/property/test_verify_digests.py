"""Digests of stores: after any write to a range, whoever made it, its digest is another one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import contract
from tailrace.control.verify import lake_digest, search_digest
from tailrace.control.verify.ranges import Part, Ranges

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SHARDS = 2
RANGES = Ranges("id", "number", (3, 6))
writes = st.lists(st.tuples(st.sampled_from(["put", "remove"]), st.integers(0, 8)), max_size=12)


class Index:
    """An index as OpenSearch keeps it: each shard numbers its own writes; a removal takes a number too."""

    def __init__(self) -> None:
        self.documents: list[dict[int, int]] = [{} for _ in range(SHARDS)]
        self._numbers = [0] * SHARDS

    def write(self, what: str, key: int) -> None:
        shard = key % SHARDS
        self._numbers[shard] += 1
        if what == "put":
            self.documents[shard][key] = self._numbers[shard]
        else:
            self.documents[shard].pop(key, None)

    def inside(self, number: int) -> dict[int, int]:
        return {
            key: sequence
            for shard in self.documents
            for key, sequence in shard.items()
            if RANGES.of((str(key),)) == number
        }

    def ask(self, *, body: Any, params: Any) -> Any:
        shard = self.documents[int(params["preference"].removeprefix("_shards:"))]

        def bucket(sides: dict[str, int]) -> dict[str, Any]:
            found = [shard[key] for key in shard if sides.get("gte", -1) <= key < sides.get("lt", 99)]
            return {"doc_count": len(found), "newest": {"value": max(found, default=None)}}

        asked = body["aggs"].get("parts", {}).get("filters", {}).get("filters", {})
        buckets = {name: bucket(one["range"]["id"]) for name, one in asked.items()}
        nowhere = {"doc_count": 0, "newest": {"value": None}}
        answered = {"parts": {"buckets": buckets}} if asked else {"nowhere": nowhere}
        return {"timed_out": False, "_shards": {"failed": 0}, "aggregations": answered}

    def digests(self) -> dict[int, str]:
        return search_digest.digests(self.ask, SHARDS, "life", "id", RANGES)


@given(writes, writes)
def test_the_digest_of_an_index_is_the_same_exactly_where_no_document_was_written(
    first: list[tuple[str, int]], later: list[tuple[str, int]]
) -> None:
    index = Index()
    for write in first:
        index.write(*write)
    before, then = index.digests(), {number: index.inside(number) for number in range(3)}
    for write in later:
        index.write(*write)
    after = index.digests()

    for number in range(3):
        assert (before.get(number) == after.get(number)) == (then[number] == index.inside(number))


ROW = {"id": 4, "name": "a", "ratio": 0.0, "blob": b"x", "tags": ["a", None]}
SCHEMA = pa.schema(
    [
        ("id", pa.int64()), ("name", pa.string()), ("ratio", pa.float64()), ("blob", pa.binary()),
        ("tags", pa.list_(pa.string())), ("_op", pa.string()), ("_version", pa.int64()),
    ]
)  # fmt: skip
CONTRACT = contract.build(
    "thing",
    {
        "type": "record",
        "name": "thing",
        "key": ["id"],
        "fields": [
            {"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]},
            {"name": "ratio", "type": "double"}, {"name": "blob", "type": ["null", "bytes"]},
            {"name": "tags", "type": ["null", {"type": "array", "items": ["null", "string"]}]},
        ],
    },
    where="test",
)  # fmt: skip
changes = st.one_of(
    st.tuples(st.just("name"), st.sampled_from([None, "", "b", "a "])),
    st.tuples(st.just("ratio"), st.sampled_from([-0.0, math.nan, 5e-324, 1.0])),
    st.tuples(st.just("blob"), st.sampled_from([None, b"", b"x\0"])),
    st.tuples(st.just("tags"), st.sampled_from([None, [], ["a"], [None, "a"], ["a", "NULL"], ["a, NULL"]])),
)


def digests(folder: Path, *objects: list[dict[str, Any]], ranges: Ranges = RANGES) -> dict[int, str]:
    for number, rows in enumerate(objects):
        shown = [{"_op": "u", "_version": 1, **row} for row in rows]
        pq.write_table(pa.Table.from_pylist(shown, schema=SCHEMA), folder / f"{number}.parquet")
    files = [str(folder / f"{number}.parquet") for number in range(len(objects))]
    found = lake_digest.digests(files, CONTRACT, ranges)
    assert found is not None
    return found


@settings(deadline=None, max_examples=25)
@given(changes)
def test_the_digest_of_a_lake_table_is_another_one_after_any_change_of_a_value(
    tmp_path_factory: pytest.TempPathFactory, change: tuple[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    others = [{**ROW, "id": 1}, {**ROW, "id": 9}]
    before = digests(folder, [ROW, *others])
    after = digests(folder, [{**ROW, change[0]: change[1]}, *others])

    assert [number for number in range(3) if before[number] != after[number]] == [1]


def test_the_digest_of_a_lake_table_is_that_of_the_newest_rows_in_whatever_objects_they_are(tmp_path: Path) -> None:
    old, new, gone = {**ROW, "name": "old"}, {**ROW, "_version": 2}, {"id": 7, "_op": "d", "_version": 2}
    compact = digests(tmp_path, [ROW])

    assert digests(tmp_path, [old, {**ROW, "id": 7}], [new], [gone]) == compact
    assert digests(tmp_path, [old], [{**ROW, "id": 7}, new]) != compact
    assert digests(tmp_path, [ROW], ranges=Ranges()).keys() == {0}


def test_a_part_of_a_lake_table_and_of_an_index_is_asked_for_by_its_bounds() -> None:
    part = Part(RANGES, frozenset({0, 2}))

    assert lake_digest.within(part) == 'WHERE ("id" < 3) OR ("id" >= 6)'
    asked = search_digest.living(part)["bool"]["should"]
    assert asked == [{"range": {"id": {"lt": 3}}}, {"range": {"id": {"gte": 6}}}]
    assert lake_digest.within(Part(RANGES, frozenset({-1}))) == ""
