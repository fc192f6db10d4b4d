"""However a contract evolves, every record ever written reads under every contract since."""

from __future__ import annotations

import json
from datetime import UTC
from decimal import Decimal
from typing import Any

import fastavro
from hypothesis import given
from hypothesis import strategies as st

from tailrace.contract import Contract, build
from tailrace.evolution import added, ahead, newer, unreadable
from tailrace.registry import canonical

WIDE = {"int": "long", "float": "double"}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**31), 2**31 - 1), "float": st.floats(width=32, allow_nan=False),
    "long": st.integers(-(2**63), 2**63 - 1), "double": st.floats(allow_nan=False),
}  # fmt: skip
SHAPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "flag": ("boolean", st.booleans()),
    "small": ("int", VALUES["int"]),
    "words": ("string", st.text(st.characters(exclude_categories=["Cs"]))),
    "data": ("bytes", st.binary()),
    "amount": (
        {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2},
        st.integers(-(10**14) + 1, 10**14 - 1).map(lambda cents: Decimal(cents).scaleb(-2)),
    ),
    "exact": ({"type": "string", "logicalType": "numeric"}, st.decimals(allow_nan=False)),
    "day": ({"type": "int", "logicalType": "date"}, st.dates()),
    "clock": ({"type": "long", "logicalType": "time-micros"}, st.times()),
    "at": ({"type": "long", "logicalType": "timestamp-micros"}, st.datetimes(timezones=st.just(UTC))),
    "here": ({"type": "long", "logicalType": "local-timestamp-micros"}, st.datetimes()),
    "uuid": ({"type": "string", "logicalType": "uuid"}, st.uuids()),
    "json": ({"type": "string", "logicalType": "json"}, st.text(st.characters(exclude_categories=["Cs"]))),
    "days": (
        {"type": "array", "items": ["null", {"type": "int", "logicalType": "date"}]},
        st.lists(st.none() | st.dates(), max_size=3),
    ),
}
ID = {"name": "id", "type": "long"}


@st.composite
def histories(draw: st.DrawFn) -> list[Contract]:
    """Return a contract and what became of it, one step after the other."""
    first = [{"name": f"n_{name}", "type": draw(st.sampled_from([name, ["null", name]]))} for name in WIDE]
    found = [build("r", {"type": "record", "name": "R", "key": ["id"], "fields": [ID, *first]}, where="r")]
    left, narrow = draw(st.permutations(list(SHAPES))), list(WIDE)
    for _ in range(draw(st.integers(1, 4))):
        names, left = left[:3], left[3:]
        wider = [name for name in narrow if draw(st.booleans())]
        narrow = [name for name in narrow if name not in wider]
        fields = [{"name": name, "type": ["null", SHAPES[name][0]], "default": None} for name in names]
        found.append(added(found[-1], fields, {f"n_{name}": WIDE[name] for name in wider}))
    return found


def records(contract: Contract) -> st.SearchStrategy[dict[str, Any]]:
    """Return records of a contract."""
    made = {}
    for field in contract.fields:
        values = SHAPES[field.name][1] if field.name in SHAPES else VALUES[field.kind]
        made[field.name] = st.none() | values if field.nullable else values
    return st.fixed_dictionaries(made)


@given(histories(), st.data())
def test_every_record_reads_under_every_later_contract(history: list[Contract], data: st.DataObject) -> None:
    for place, written in enumerate(history):
        record = data.draw(records(written))
        framed = written.encode(record, place)
        schema = fastavro.parse_schema(json.loads(canonical(written.schema)))  # as the registry gives it back
        for later in history[place:]:
            lacking = dict.fromkeys(name for name in later.by_name if name not in record)
            assert unreadable(later, written) == ()
            assert later.decode(framed, schema) == {**record, **lacking}


@given(histories())
def test_each_contract_is_newer_than_all_before_and_none_is_newer_than_itself(history: list[Contract]) -> None:
    for place, contract in enumerate(history):
        assert newer(contract, json.loads(canonical(contract.schema))) is None
        for later in history[place + 1 :]:
            found = newer(contract, json.loads(canonical(later.schema)))
            assert (found is None) == (ahead(contract, later) == ())
            assert found is None or found.fields == later.fields
