"""A user's own store in verify: what its sink reads back, compared as the contract's values."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tailrace.control.verify.own import Own, readable
from tailrace.control.verify.store import Pair, Seen
from tailrace.errors import Unreachable
from tailrace.testing import PARCEL, MemorySink, parcel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass
class Shelf:
    """A sink of somebody's own, which shows what it is given."""

    things: list[Mapping[str, Any]] = field(default_factory=list)
    records: Sequence[str] = ("parcel",)
    fields: Sequence[str] = tuple(PARCEL.by_name)

    def write(self, batch: Sequence[Any], *, timeout: float) -> Sequence[Any]:  # noqa: ARG002 - the protocol's signature
        return []

    def close(self) -> None:
        """Hold nothing."""

    def read(self, record: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:  # noqa: ARG002 - one only
        for thing in self.things:
            yield {"id": thing["id"]}, {name: value for name, value in thing.items() if name != "id"}


def store(shelf: Shelf) -> Own:
    return Own(Pair("public.parcel", "shelf", PARCEL, shelf))


def seen(shelf: Shelf) -> Seen:
    [only] = store(shelf).scan()
    return only


def agrees(shelf: Shelf, record: Mapping[str, Any]) -> bool:
    own = store(shelf)
    found = seen(shelf)
    return own.expected(own.pairs[0], record) == (found.identity, found.fields)


def test_a_store_that_shows_a_record_as_it_is_agrees_and_says_which_row_it_was() -> None:
    shelf = Shelf([parcel(7)])

    assert agrees(shelf, parcel(7))
    assert seen(shelf).key == ("7",)
    assert seen(shelf).identity == "7"


def test_numbers_are_compared_by_value_and_json_by_content() -> None:
    shelf = Shelf([parcel(7, exact=Decimal("1.2500"), amount=Decimal("10.5"), detail='{"a":[1,2.0],"b":null}')])

    assert agrees(shelf, parcel(7, exact=Decimal("1.25"), detail='{"b": null, "a": [1.0, 2]}'))
    assert not agrees(shelf, parcel(7, exact=Decimal("1.25"), detail='{"b": null, "a": [2, 1]}'))


@pytest.mark.parametrize(
    "damage", [{"owner": "bob"}, {"note": None}, {"amount": 10.5}, {"id": "7"}, {"detail": "no json"}, {"more": 1}]
)
def test_a_value_that_is_another_or_of_another_type_does_not_agree(damage: dict[str, Any]) -> None:
    assert not agrees(Shelf([{**parcel(7), **damage}]), parcel(7))


def test_a_field_that_is_missing_does_not_agree_unless_the_sink_says_that_it_keeps_less() -> None:
    part = {"id": 7, "owner": "ada"}

    assert not agrees(Shelf([part]), parcel(7))
    assert agrees(Shelf([part], fields=("owner",)), parcel(7, note="whatever"))


def test_a_key_that_cannot_be_read_names_no_row() -> None:
    assert seen(Shelf([parcel(7) | {"id": "seven"}])).key is None


def test_what_read_raises_is_a_store_that_cannot_be_read_and_its_text_stays_inside() -> None:
    with pytest.raises(Unreachable) as caught:
        list(store(Shelf([{"no id": "secret"}])).scan())

    assert "KeyError" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_only_what_is_asked_for_is_fetched() -> None:
    own = store(Shelf([parcel(7), parcel(8)]))

    assert own.fetch(own.pairs[0], ["8", "9"]).keys() == {"8"}
    assert own.fetch(own.pairs[0], []) == {}


def test_a_sink_without_read_cannot_be_proved() -> None:
    assert readable(Shelf())
    assert not readable(MemorySink("parcel"))
