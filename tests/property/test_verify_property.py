"""Any change of any single value is a difference; the same values never are, whatever their order."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tailrace.control.verify.compare import Ledger, verdict
from tailrace.control.verify.dynamodb_values import tagged
from tailrace.control.verify.expected import plain, shape

values = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
things = st.dictionaries(st.text(min_size=1), values, min_size=1)
numbers = st.decimals(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(things)
def test_equal_fields_are_never_reported(fields: dict[str, object]) -> None:
    ledger = Ledger()
    ledger.expect("k", fields, ("k",))
    ledger.see("k", dict(reversed(fields.items())), ("k",))

    assert (ledger.equal, ledger.close()) == (1, [])


@given(things, st.data())
def test_one_changed_field_is_always_found_and_named(fields: dict[str, object], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(fields)))
    other = data.draw(values.filter(lambda value: repr(value) != repr(fields[name])))
    changed = {**fields, name: other}
    ledger = Ledger()
    ledger.expect("k", fields, ("k",))
    ledger.see("k", changed, ("k",))

    assert ledger.equal == 0
    assert verdict(fields, changed) == ("different", (name,))


@given(numbers, numbers)
def test_plain_numbers_are_the_same_text_exactly_when_they_are_equal(left: Decimal, right: Decimal) -> None:
    assert (plain(left) == plain(right)) == (left == right)
    assert Decimal(plain(left)) == left


@given(documents, documents)
def test_json_has_the_same_shape_exactly_when_it_is_the_same(left: object, right: object) -> None:
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (shape(left) == shape(right)) == same


@given(st.text())
def test_a_text_is_never_the_number_that_it_looks_like(text: str) -> None:
    assert tagged({"S": text}) != tagged({"N": "1"})
    assert tagged({"S": text}) not in (tagged({"BOOL": True}), tagged({"NULL": True}))
