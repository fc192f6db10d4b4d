"""Any record of any contract survives the way to Parquet and to a search document, bit for bit."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace import contract
from tailrace.change import Change
from tailrace.control import lake_merge
from tailrace.sink import mapping, parquet
from tailrace.targets import LAKE_COLUMNS, SearchIndex

if TYPE_CHECKING:
    from collections.abc import Callable

patiently = settings(deadline=None, max_examples=40)  # a record has every kind, and lists of each
LOGICAL = {
    "json": "string", "uuid": "string", "numeric": "string", "date": "int", "time-micros": "long",
    "timestamp-micros": "long", "local-timestamp-micros": "long",
}  # fmt: skip
DECIMALS = {"price": (14, 2), "fee": (38, 20), "giant": (76, 0), "endless": (90, 5)}


def avro(kind: str) -> Any:
    if kind in DECIMALS:
        precision, scale = DECIMALS[kind]
        return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
    return {"type": LOGICAL[kind], "logicalType": kind} if kind in LOGICAL else kind


KINDS = tuple(sorted((contract.KINDS - {"decimal", "array"}) | set(DECIMALS)))
LISTED = tuple(kind for kind in KINDS if kind not in contract.NO_ITEM)
LIST = "_list"
EVERY = contract.build(
    "every",
    {
        "type": "record",
        "name": "every",
        "key": ["id"],
        "fields": [
            {"name": "id", "type": "long"},
            *({"name": kind.replace("-", "_"), "type": ["null", avro(kind)], "default": None} for kind in KINDS),
            *(
                {"name": kind.replace("-", "_") + LIST, "type": {"type": "array", "items": ["null", avro(kind)]}}
                for kind in LISTED
            ),
        ],
    },
    where="test",
)


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    edge = 10**precision - 1
    return st.integers(-edge, edge).map(lambda digits: Decimal(f"{digits}E-{scale}"))


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "string": TEXT,
    "json": st.dictionaries(TEXT, st.recursive(TEXT | st.integers() | st.none(), st.lists, max_leaves=5)).map(
        lambda value: json.dumps(value, indent=1)
    ),
    "bytes": st.binary(max_size=20),
    "numeric": decimals(40, 12) | decimals(10, 0) | st.just(Decimal("NaN")),
    "date": st.dates(),
    "time-micros": st.times(),
    "timestamp-micros": st.datetimes(timezones=st.just(UTC)),
    "local-timestamp-micros": st.datetimes(),
    "uuid": st.uuids(),
    **{name: decimals(*shape) for name, shape in DECIMALS.items()},
}
RECORDS = st.fixed_dictionaries(
    {
        "id": VALUES["long"],
        **{kind.replace("-", "_"): st.none() | VALUES[kind] for kind in KINDS},
        **{kind.replace("-", "_") + LIST: st.lists(st.none() | VALUES[kind], max_size=3) for kind in LISTED},
    }
)


def change(value: dict[str, Any] | None, offset: int) -> Change:
    key = {"id": offset if value is None else value["id"]}
    op = "d" if value is None else "c"
    return Change("every", key, value, None, offset + 1, op, None, 0, "", "", "t", 0, offset, None, None)


def same(left: Any, right: Any) -> bool:
    """Say whether two values are equal to the last digit: 1.0 and 1.00 are not, -0.0 and 0.0 neither."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and str(left) == str(right)


def from_lake(name: str, value: Any) -> Any:
    """Read a Parquet value as the contract says."""
    if isinstance(value, list):
        return [from_lake(name.removesuffix(LIST), entry) for entry in value]
    readers: dict[str, Callable[[Any], Any]] = {
        "numeric": Decimal, "endless": Decimal, "uuid": UUID, "timestamp_micros": lambda at: at.astimezone(UTC),
    }  # fmt: skip
    return readers[name](value) if name in readers and value is not None else value


def from_search(name: str, value: Any) -> Any:
    """Read a document's value as the contract says."""
    if isinstance(value, list):
        return [from_search(name.removesuffix(LIST), entry) for entry in value]
    readers: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys([*DECIMALS, "numeric"], Decimal), "uuid": UUID, "bytes": base64.b64decode,
        "date": date.fromisoformat, "time_micros": time.fromisoformat, "timestamp_micros": datetime.fromisoformat,
        "local_timestamp_micros": datetime.fromisoformat,
    }  # fmt: skip
    return readers[name](value) if name in readers and value is not None else value


def comparable(name: str, value: Any) -> Any:
    """Compare JSON by what it says, numbers by their digits, not by 0E-20 against 0.00000000000000000000."""
    if value is None:
        return None
    if isinstance(value, list):
        return [comparable(name.removesuffix(LIST), entry) for entry in value]
    if name == "json" and isinstance(value, str):
        return json.loads(value)
    return format(value, "f") if isinstance(value, Decimal) else value


@patiently
@given(st.lists(RECORDS | st.none(), min_size=1, max_size=5))
def test_rows_survive_parquet_exactly(values: list[dict[str, Any] | None]) -> None:
    rows = parquet.Rows(EVERY, [change(value, offset) for offset, value in enumerate(values)])

    assert rows.rejections == []
    read = pq.read_table(BytesIO(parquet.encode(rows.arrow))).to_pylist()
    for offset, (value, row) in enumerate(zip(values, read, strict=True)):
        expected = {**dict.fromkeys(EVERY.by_name), "id": offset} if value is None else value
        assert row["_op"] == ("d" if value is None else "c")
        assert set(row) == {*expected, *LAKE_COLUMNS}
        for name, given_value in expected.items():
            stored = from_lake(name, row[name])
            assert same(comparable(name, stored), comparable(name, given_value)), name


@settings(deadline=None, max_examples=15)
@given(st.lists(RECORDS | st.none(), min_size=2, max_size=6))
def test_rows_survive_compaction_exactly(values: list[dict[str, Any] | None]) -> None:
    rows = parquet.Rows(EVERY, [change(value, offset) for offset, value in enumerate(values)]).arrow
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.parquet" for number in range(len(values))]
        for number, path in enumerate(paths):
            path.write_bytes(parquet.encode(rows.slice(number, 1)))
        merged = pq.read_table(lake_merge.merge(paths, EVERY.key, Path(folder)).path)

    order = sorted(range(len(values)), key=lambda number: (rows["id"][number].as_py(), number))
    assert merged.cast(rows.schema).equals(rows.take(order))


@patiently
@given(RECORDS)
def test_documents_survive_json_exactly(value: dict[str, Any]) -> None:
    document = mapping.Renderer(SearchIndex("every", record="every"), EVERY).document(value)

    assert b"\n" not in document
    source = json.loads(document)
    assert source.keys() == value.keys()
    for name, given_value in value.items():
        stored = from_search(name, source[name])
        assert same(comparable(name, stored), comparable(name, given_value)), name


@patiently
@given(RECORDS)
def test_what_avro_decodes_is_what_parquet_keeps(value: dict[str, Any]) -> None:
    travelled = EVERY.decode(EVERY.encode(value, 1))

    rows = parquet.Rows(EVERY, [change(travelled, 0)])

    assert rows.rejections == []
    stored = rows.arrow.to_pylist()[0]
    for name, given_value in value.items():
        assert same(comparable(name, from_lake(name, stored[name])), comparable(name, given_value)), name


@patiently
@given(st.lists(st.tuples(TEXT, TEXT), min_size=2, max_size=2, unique=True))
def test_two_composite_keys_never_share_an_id(pairs: list[tuple[str, str]]) -> None:
    schema = {
        "type": "record",
        "key": ["a", "b"],
        "fields": [{"name": "a", "type": "string"}, {"name": "b", "type": "string"}],
    }
    made = contract.build("pair", schema, where="test")
    first, second = ({"a": a, "b": b} for a, b in pairs)

    assert mapping.document_id(made, first) != mapping.document_id(made, second)
