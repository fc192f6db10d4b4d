"""Ranges and their digests: what changed is always looked at again, what did not is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import contract
from tailrace.control.verify import kept, replica
from tailrace.control.verify.kept import Kept, TableProofs
from tailrace.control.verify.meter import Meter
from tailrace.control.verify.ranges import NOWHERE, Part, Proof, Ranges, Tally, cut_by, overgrown, sample, suspects
from tailrace.errors import Refused
from tailrace.source.catalogue import Column, Table

if TYPE_CHECKING:
    from pathlib import Path

bounds = st.lists(st.integers(-1000, 1000), unique=True, max_size=8).map(lambda found: tuple(sorted(found)))
numbers = st.integers(-1100, 1100)


def inside(number: int, span: tuple[Any, Any]) -> bool:
    low, high = span
    return (low is None or number >= low) and (high is None or number < high)


@given(bounds, numbers, st.data())
def test_a_row_is_within_the_bounds_of_its_range_and_of_no_other(
    cuts: tuple[int, ...], number: int, data: st.DataObject
) -> None:
    ranges = Ranges("id", "number", cuts)
    own = ranges.of((str(number),))
    asked = data.draw(st.sets(st.sampled_from(sorted(ranges.every() - {NOWHERE}))))

    assert [inside(number, span) for span in ranges.spans([own])] == [True]
    assert any(inside(number, span) for span in ranges.spans(asked)) == (own in asked)


def test_neighbours_are_asked_for_as_one_and_what_has_no_key_is_nowhere() -> None:
    ranges = Ranges("id", "number", (10, 20, 30))

    assert list(ranges.spans({0, 1, 3})) == [(None, 20), (30, None)]
    assert [ranges.of(None), ranges.of(("x",)), ranges.of(("20", "more"))] == [NOWHERE, NOWHERE, 2]
    assert Part(ranges, frozenset({NOWHERE, 1})).spans is None
    assert Ranges().of(None) == Ranges().of(("anything",)) == 0


def test_a_uuid_is_cut_in_the_order_of_postgres_however_it_is_written() -> None:
    ranges = Ranges("id", "uuid", (str(UUID(int=1 << 127)),))

    assert ranges.of(("7FFFFFFF-ffff-ffff-ffff-ffffffffffff",)) == 0
    assert ranges.of((str(UUID(int=(1 << 127) + 5)),)) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=16, max_size=16))), st.data())
def test_a_tally_is_the_same_in_any_order_and_another_with_one_thing_more_less_or_changed(
    things: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    assert tallied(data.draw(st.permutations(things))) == tallied(things)
    if things:
        place = data.draw(st.integers(0, len(things) - 1))
        part, print_ = things[place]
        other = bytes([print_[0] ^ 1]) + print_[1:]
        for changed in ([], [(part, other)], [(part, print_)] * 2):
            assert tallied([*things[:place], *changed, *things[place + 1 :]])[part:] != tallied(things)[part:]


def tallied(things: list[tuple[int, bytes]]) -> list[str]:
    tally = Tally()
    for number, print_ in things:
        tally.add(number, print_)
    found = tally.digests()
    return [found.get(number, "") for number in range(4)]


digests = st.dictionaries(st.integers(0, 3), st.sampled_from(["a", "b"]))


@given(digests, digests, digests, digests, st.sets(st.integers(-1, 3)))
def test_a_range_is_left_alone_only_where_both_digests_are_what_they_were_when_it_was_proved(
    source: dict[int, str], store: dict[int, str], then: dict[int, str], there: dict[int, str], proved: set[int]
) -> None:
    proofs = {number: Proof(then.get(number, ""), there.get(number, ""), 1, "") for number in proved}
    found = suspects(Ranges("id", "number", (1, 2, 3)), proofs, source, store)

    for number in range(-1, 4):
        same = source.get(number) == then.get(number) and store.get(number) == there.get(number)
        assert (number in found) == (number not in proved or not same)


def test_a_sample_is_drawn_again_by_its_seed_and_each_range_comes_up_in_time() -> None:
    every = set(range(1000))

    assert sample(every, 7) == sample(every, 7)
    assert 1 <= len(sample(every, 7)) <= 40
    assert set().union(*(sample({3}, seed) for seed in range(1000))) == {3}


@pytest.mark.parametrize(
    ("kind", "type_", "cut"),
    [
        ("long", "int8", ("id", "number")), ("int", "int2", ("id", "number")), ("uuid", "uuid", ("id", "uuid")),
        ("string", "text", ("", "")), ("string", "int4", ("", "")), ("long", "numeric", ("", "")),
    ],
)  # fmt: skip
def test_a_table_is_cut_only_by_what_every_store_orders_alike(kind: str, type_: str, cut: tuple[str, str]) -> None:
    shape: Any = {"type": "string", "logicalType": "uuid"} if kind == "uuid" else kind
    schema = {"type": "record", "name": "t", "key": ["id"], "fields": [{"name": "id", "type": shape}]}
    made = contract.build("t", schema, where="test")

    assert cut_by(Table("public.t", (Column("id", type_, type_),)), made) == cut


def test_a_table_is_cut_anew_when_a_range_has_grown_four_times() -> None:
    assert not overgrown({0: "2048:1:2"})
    assert overgrown({0: "1:1:2", 1: "2049:1:2"})
    assert not overgrown(dict.fromkeys(range(20_000), "5000:1:2"))
    assert not overgrown({})


def test_where_too_many_parts_are_asked_for_everything_is() -> None:
    ranges = Ranges("id", "number", tuple(range(2000)))
    assert Part(ranges, frozenset(range(0, 2000, 2))).spans is None
    assert len(Part(ranges, frozenset(range(0, 1000, 2))).spans or ()) == 500


def test_proofs_come_back_as_they_were_written(tmp_path: Path) -> None:
    first = Kept(tmp_path)
    proofs = {"a b": {-1: Proof("", "", 0, ""), 3: Proof("1:2:3", "x", 9, "0/1")}}
    first.tables["public.t"] = TableProofs("id bigint", Ranges("id", "number", (5, 7)), proofs)
    first.save()

    assert Kept(tmp_path).tables == first.tables
    assert [path.stat().st_mode & 0o077 for path in tmp_path.iterdir()] == [0]


def test_a_run_is_resumed_where_it_was_and_never_where_another_one_was(tmp_path: Path) -> None:
    store = Kept(tmp_path)
    with pytest.raises(Refused, match="no interrupted verify"):
        store.resume("one")
    store.read("one", {"a": 1})
    assert Kept(tmp_path).resume("one") == {"a": 1}
    with pytest.raises(Refused, match="was another one"):
        store.resume(kept.named({"a": "else"}))
    store.end()
    with pytest.raises(Refused, match="no interrupted verify"):
        store.resume("one")


def test_no_more_rows_pass_a_meter_than_it_allows_and_it_tells_how_many_did() -> None:
    now, told = [0.0], list[tuple[str, int, int]]()

    def pause(seconds: float) -> None:
        now[0] += seconds

    meter = Meter(50, lambda *seen: told.append(seen), clock=lambda: now[0], pause=pause)
    for count, _ in enumerate(meter.over("t", range(500), 600), 1):
        assert count <= 50 * now[0] + 5

    assert now[0] == pytest.approx(10, abs=0.2)
    assert (told[0], told[-1]) == (("t", 5, 600), ("t", 500, 500))


class Server:
    """What a server says of itself."""

    def __init__(self, server: str = "1", database: str = "bank", *, standby: bool = True) -> None:
        self.server, self.database, self.standby = server, database, standby


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Server(standby=False), "not in recovery"),
        (Server("2"), "another server"),
        (Server(database="else"), "another database"),
    ],
)
def test_what_is_no_standby_of_the_captured_database_is_refused(given: Server, reason: str) -> None:
    replica.refuse(Server(), Server(standby=False))
    with pytest.raises(Refused) as caught:
        replica.refuse(given, Server(standby=False))
    assert reason in caught.value.detail
