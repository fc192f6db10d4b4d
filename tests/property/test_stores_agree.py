"""What the sinks write of any record is what verify, which shares no code with them, expects to find."""

from __future__ import annotations

import json
from decimal import Decimal
from io import BytesIO
from typing import Any

import pyarrow.parquet as pq
from hypothesis import given, settings

from tailrace.control.verify import dynamodb_values as stored
from tailrace.control.verify import expected, lake, search
from tailrace.sink import dynamodb_values, mapping, parquet
from tailrace.targets import SearchIndex
from tests.property.test_parquet import EVERY, RECORDS, change

patiently = settings(deadline=None, max_examples=25)  # a record has every kind, and lists of each


def fitted(value: dict[str, Any]) -> dict[str, Any]:
    return {name: expected.fit(field, value[name]) for name, field in EVERY.by_name.items()}


@patiently
@given(RECORDS)
def test_an_attribute_is_what_verify_expects_or_both_refuse_it(value: dict[str, Any]) -> None:
    for name, wanted in fitted(value).items():
        field = EVERY.by_name[name]
        try:
            written = dynamodb_values.NULL if value[name] is None else dynamodb_values.attribute_of(field)(value[name])
        except dynamodb_values.Unfit:
            written = None
        try:
            found = stored.attribute(field, wanted)
        except expected.Unfit:
            found = None
        assert (None if written is None else stored.tagged(written)) == found, name


@patiently
@given(RECORDS)
def test_a_row_of_the_lake_is_what_verify_expects(value: dict[str, Any]) -> None:
    rows = parquet.Rows(EVERY, [change(value, 0)])
    (row,) = pq.read_table(BytesIO(parquet.encode(rows.arrow))).to_pylist()
    for name, wanted in fitted(value).items():
        field = EVERY.by_name[name]
        assert repr(lake._read(field, row[name])) == repr(lake._rendered(field, wanted)), name


@patiently
@given(RECORDS)
def test_a_document_is_what_verify_expects(value: dict[str, Any]) -> None:
    written = mapping.Renderer(SearchIndex("every", record="every"), EVERY).document(value)
    source = json.loads(written, parse_float=Decimal)
    for name, wanted in fitted(value).items():
        field = EVERY.by_name[name]
        assert repr(search._read(field, source[name])) == repr(search._rendered(field, wanted)), name
