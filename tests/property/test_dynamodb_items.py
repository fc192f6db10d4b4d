"""Items under all their keys end as the newest record says, whatever is delivered again and in whatever order."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.sink.dynamodb import due
from tailrace.sink.dynamodb_items import ITEM_BYTES, Renderer
from tailrace.sink.dynamodb_values import Unfit, attribute_size, item_size, number, number_size
from tailrace.targets import DynamoDBTable, Index, Mirror
from tailrace.testing import PARCEL, Tape, parcel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.change import Change

TABLE = DynamoDBTable(
    "t",
    "parcel",
    pk="OWNER#{owner}",
    sk="PARCEL#{id}",
    indexes=(Index("noted", pk="{note}", sk="{id}", when="active"),),
    mirrors=(Mirror(pk="PARCEL#{id}", sk="-"), Mirror(pk="NOTE#{note}", sk="{id}")),
)
OWNERS, NOTES = st.sampled_from(["ada", "bob", "a#b%"]), st.sampled_from(["x", "y", None])
STEPS = st.lists(st.tuples(st.integers(1, 2), st.booleans(), OWNERS, NOTES), min_size=1, max_size=12)


def told(steps: list[tuple[int, bool, str, str | None]]) -> tuple[list[Change], dict[int, dict[str, Any]]]:
    """Return changes of two parcels, each with the whole row before, and the rows at the end."""
    tape, rows = Tape(), dict[int, dict[str, Any]]()
    changes: list[Change] = []
    for number_, gone, owner, note in steps:
        before = rows.pop(number_, None)
        if gone and before is not None:
            changes.append(tape.delete(before))
        elif not gone:
            rows[number_] = parcel(number_, owner=owner, note=note)
            changes.append(tape.put(rows[number_], before=before))
    return changes, rows


def fits(row: Mapping[str, Any] | None) -> bool:
    """Say whether a row can be an item: a null in a key makes it a dead letter."""
    return row is None or row["note"] is not None


@settings(deadline=None)
@given(STEPS, st.data())
def test_every_key_holds_the_newest_record_and_no_other_key_holds_any(
    steps: list[tuple[int, bool, str, str | None]], data: st.DataObject
) -> None:
    steps = [(number_, gone, owner, note or "z") for number_, gone, owner, note in steps]
    changes, rows = told(steps)
    twice = data.draw(st.permutations([*changes, *changes]))
    cut = data.draw(st.integers(0, len(twice)))
    renderer, table = Renderer(TABLE, PARCEL), dict[tuple[str, str], Any]()

    for batch in (twice[:cut], twice[cut:]):
        puts = [put for position, change in enumerate(batch) for put in renderer.puts(change, position, 0.0)]
        sent: set[Any] = set()
        while wanted := due(puts, (), sent):
            for put in wanted:
                sent.add((put.place, put.version))
                held = table.get(put.place)
                if held is None or held.version < put.version:
                    table[put.place] = put

    live = {place: put.item for place, put in table.items() if "_deleted" not in put.item}
    places = {
        (pk, sk): row
        for row in rows.values()
        for pk, sk in [
            ("OWNER#" + row["owner"].replace("%", "%25").replace("#", "%23"), f"PARCEL#{row['id']}"),
            (f"PARCEL#{row['id']}", "-"),
            (f"NOTE#{row['note']}", str(row["id"])),
        ]
    }
    assert live.keys() == places.keys()
    assert all(live[place]["owner"] == {"S": row["owner"]} for place, row in places.items())


@given(STEPS)
def test_a_row_that_could_not_be_written_before_leaves_no_trace_and_does_not_stand_in_the_way(
    steps: list[tuple[int, bool, str, str | None]],
) -> None:
    renderer = Renderer(TABLE, PARCEL)
    changes, _ = told(steps)
    for change in changes:
        if fits(change.value):
            puts = renderer.puts(change, 0, 0.0)
            assert len({put.place for put in puts}) == len(puts)
            assert all("None" not in "".join(put.place) for put in puts)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None))
def test_a_number_counts_a_byte_for_two_digits_and_up_to_three_more(value: Decimal) -> None:
    try:
        attribute = number(value)
    except Unfit:
        return
    digits = len("".join(map(str, value.as_tuple().digits)).strip("0"))
    assert (digits + 1) // 2 + 1 <= attribute_size(attribute) == number_size(value) <= digits // 2 + 3 or not value


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 500_000), st.integers(0, 500_000))
def test_an_item_with_overflow_is_never_too_large_and_names_every_object_it_needs(note: int, detail: int) -> None:
    table = DynamoDBTable("t", "parcel", pk="P", sk="{id}", oversize="s3")
    change = Tape().put(parcel(1, note="n" * note, detail='"' + "d" * detail + '"'))

    (put,) = Renderer(table, PARCEL).puts(change, 0, 0.0)

    assert item_size(put.item) <= put.size <= item_size(put.item) + 20
    assert item_size(put.item) <= ITEM_BYTES
    pointers = {value["M"]["_s3"]["S"] for value in put.item.values() if "_s3" in value.get("M", {})}
    assert pointers == {spill.key for spill in put.spills}
    assert bool(pointers) == (note + detail > ITEM_BYTES - put_rest(put.item))


def put_rest(item: Any) -> int:
    """Return the bytes of an item beside the two long values."""
    return item_size({**item, "note": {"S": ""}, "detail": {"S": ""}})
