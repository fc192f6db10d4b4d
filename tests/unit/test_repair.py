"""What a repair does with a report: which keys are sent again, which deleted, and what it cannot take back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tailrace import contract, version
from tailrace.control.records import Seen, newest
from tailrace.control.repair import Work, _among, portions, room, work
from tailrace.control.verify.report import Check, Difference, Report
from tailrace.source import signals

if TYPE_CHECKING:
    from tailrace.control.verify.report import Kind

PAIR = contract.build(
    "pair",
    {
        "type": "record",
        "name": "pair",
        "key": ["id", "tag"],
        "fields": [{"name": "id", "type": "long"}, {"name": "tag", "type": "string"}],
    },
    where="test",
)


def differing(kind: Kind, *row: str) -> Difference:
    return Difference(kind, "-".join(row), row=row or None)


def test_each_table_gets_the_keys_of_all_its_stores_once() -> None:
    report = Report(
        [
            Check("public.a", "dynamodb", "d", 5, [differing("missing", "1"), differing("extra", "9")]),
            Check("public.a", "search", "s", 5, [differing("different", "1"), differing("stale", "2")]),
            Check("public.b", "search", "s", 0, [differing("resurrected", "7", "x")]),
        ]
    )

    assert work(report) == (
        [Work("public.a", (("1",), ("2",)), (("9",),)), Work("public.b", (), (("7", "x"),))],
        0,
    )


def test_what_is_parked_moving_or_says_no_row_is_left_and_counted() -> None:
    report = Report(
        [
            Check("public.a", "lake", "l", 0, [differing("rejected", "1"), differing("unsettled", "2")]),
            Check("(none)", "lake", "l", 0, [differing("extra")]),
        ]
    )

    assert work(report) == ([], 3)


def test_a_report_without_differences_asks_for_nothing() -> None:
    assert work(Report([Check("public.a", "lake", "l", 10)])) == ([], 0)


@given(st.lists(st.text(st.characters(exclude_characters=" "), max_size=300), max_size=60))
def test_filters_fit_into_a_signal_and_hold_every_condition_in_order(conditions: list[str]) -> None:
    found = list(portions(conditions, room("public.a")))

    assert [part for each in found for part in each.split(" OR ")] == conditions
    for each in found:
        data = json.dumps(signals.request(["public.a"], {"public.a": each}), ensure_ascii=False)
        assert len(data) <= signals.LONGEST or each in conditions


def test_a_key_is_known_by_its_columns_as_text_whatever_their_types() -> None:
    wanted = _among(PAIR, [("7", "a|b")])

    assert wanted(PAIR.encode_key({"id": 7, "tag": "a|b"}))
    assert not wanted(PAIR.encode_key({"id": 7, "tag": "b"}))
    assert not wanted(b"no key at all")


def test_the_newest_record_of_a_wanted_key_counts_also_when_it_is_a_delete() -> None:
    row, gone = Seen(b"a", 0, version.pack(1, 4), False), Seen(b"a", 2, version.pack(1, 9), True)
    seen = [row, Seen(b"b", 1, version.pack(1, 5), False), gone, Seen(b"a", 3, version.pack(1, 6), False)]

    assert newest(seen, {b"a"}.__contains__) == ({b"a": gone}, 1)


def test_a_signal_limits_each_table_by_its_own_condition() -> None:
    assert signals.request(["public.a"], {"public.a": '("id" = 1)'}) == {
        "data-collections": [r"public\.a"],
        "type": "incremental",
        "additional-conditions": [{"data-collection": r"public\.a", "filter": '("id" = 1)'}],
    }
    assert "additional-conditions" not in signals.request(["public.a"])
