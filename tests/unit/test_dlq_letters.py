"""Which dead letters are open, what several failures of one record are, and which letters are meant together."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tailrace import deadletter
from tailrace.cli import cli
from tailrace.control.dlq.ledger import edited
from tailrace.control.dlq.letters import Parked, Pile
from tailrace.control.dlq.picking import pick, released, together
from tailrace.control.dlq.returning import outlived
from tailrace.control.dlq.selection import EVERYTHING, Selection, parse_since, sources
from tailrace.deadletter import DeadLetter, Settlement, Spot
from tailrace.errors import UsageError
from tests.shop import shop

TOPIC = "shop.conformed.orders"


def letter(number: int, *, key: bytes = b"k", sink: str = "search/orders", **given: Any) -> DeadLetter:
    made = deadletter.letter(
        worker="search", stage="write", reason="No mapping for field total.", place=(TOPIC, 0, number),
        key=key, value=b"v", headers=[("tailrace.version", b"%d" % number)], sink=sink,
    )  # fmt: skip
    return replace(made, **given)


def pile(*messages: DeadLetter | Settlement) -> Pile:
    made = Pile()
    for offset, message in enumerate(messages):
        made.take((0, offset), message)
    return made


def open_spots(given: Pile) -> list[list[Spot]]:
    return [list(parked.places) for parked in given.letters()]


def test_a_record_that_failed_several_times_is_one_letter_with_its_first_and_last_failure() -> None:
    made = pile(letter(7, failed_us=30, first_failed_us=10, failures=2), letter(8), letter(7, failed_us=20))
    found = {parked.letter.source: parked for parked in made.letters()}
    again = found[f"{TOPIC}/0/7"]
    assert len(found) == 2
    assert (again.spot, again.places) == ((0, 0), ((0, 0), (0, 2)))
    assert (again.letter.first_failed_us, again.letter.failed_us, again.letter.failures) == (10, 30, 3)


def test_the_same_record_refused_by_two_sinks_is_two_letters() -> None:
    assert len(open_spots(pile(letter(7), letter(7, sink="dynamodb/shop")))) == 2


def test_what_is_settled_is_told_of_only_where_asked() -> None:
    made = pile(letter(7), letter(8), Settlement(((0, 0),), "dropped"))
    assert open_spots(made) == [[(0, 1)]]
    assert [(parked.spot, parked.settled) for parked in made.letters(settled=True)] == [
        ((0, 0), "dropped"),
        ((0, 1), ""),
    ]


def test_a_record_that_fails_after_it_was_settled_is_open_again() -> None:
    assert open_spots(pile(letter(7), Settlement(((0, 0),), "replayed"), letter(7))) == [[(0, 2)]]


def test_an_edited_letter_is_not_lost_among_failures_of_the_original() -> None:
    made = pile(letter(7))
    [first] = made.letters()
    made.take((0, 1), edited(first, b"better"))
    made.take((0, 2), Settlement(first.places, "edited"))
    made.take((0, 3), letter(7))
    values = {parked.letter.edited_from: parked.letter.value for parked in made.letters()}
    assert values == {"0/0": b"better", "": b"v"}


def test_an_edit_of_an_edit_still_knows_the_first_value() -> None:
    first = edited(Parked(0, 4, letter(7)), b"better")
    second = edited(Parked(1, 5, first), b"best")
    assert (second.edited_from, second.original) == ("1/5", first.original)
    assert first.original == "4c94485e0c21ae6c41ce1dfe7b6bfaceea5ab68e40a2476f50208e526f506080"


@given(st.lists(st.one_of(st.integers(0, 3), st.tuples(st.integers(0, 9))), max_size=12))
def test_a_letter_is_open_until_one_of_its_places_is_settled_for_each(story: list[int | tuple[int]]) -> None:
    messages = [letter(each) if isinstance(each, int) else Settlement(((0, each[0]),), "dropped") for each in story]
    ended = {each[0] for each in story if isinstance(each, tuple)}
    expected = {at for at, each in enumerate(story) if isinstance(each, int) and at not in ended}
    assert {spot[1] for spots in open_spots(pile(*messages)) for spot in spots} == expected


def parked(*given: DeadLetter) -> list[Parked]:
    return [Parked(0, offset, each, ((0, offset),)) for offset, each in enumerate(given)]


def test_letters_are_meant_by_reason_stage_topic_and_age_together() -> None:
    [found] = parked(letter(7, failed_us=100))
    assert EVERYTHING.takes(found)
    assert Selection(reason="NO MAPPING", stage="write", topics=frozenset([TOPIC]), since_us=100).takes(found)
    for other in (
        Selection(reason="mapping conflict"),
        Selection(stage="held"),
        Selection(topics=frozenset(["another"])),
        Selection(since_us=101),
        Selection(place=(0, 1)),
    ):
        assert other.bounded
        assert not other.takes(found)


def test_a_record_stands_for_its_raw_and_its_conformed_topic() -> None:
    assert sources(shop(), "orders", "") == {TOPIC, "shop.raw.public.orders"}
    assert sources(shop(), "", "any") == {"any"}
    with pytest.raises(UsageError, match="no record things"):
        sources(shop(), "things", "")


def test_since_is_so_long_ago_or_a_moment() -> None:
    assert abs(parse_since("2h") / 1e6 - (time.time() - 7200)) < 60
    assert parse_since("1970-01-01T00:00:01Z") == 1_000_000
    with pytest.raises(UsageError):
        parse_since("yesterday")


def held(number: int, **given: Any) -> DeadLetter:
    return letter(number, stage="held", reason="An older change of the same key is parked.", **given)


def test_what_waits_for_a_letter_goes_with_it_in_the_order_of_versions() -> None:
    there = parked(held(9), letter(5), held(7), letter(6, key=b"other"))
    found = pick(there, Selection(place=(0, 1)), hold=True)
    assert [each.letter.place[2] for each in found.ready] == [5, 7, 9]
    assert found.waiting == []


def test_where_keys_are_held_no_letter_goes_before_an_older_one_of_its_key() -> None:
    there = parked(letter(5), held(7))
    assert pick(there, Selection(stage="held"), hold=True) == ([], [(there[1], there[0])])
    assert pick(there, Selection(stage="held"), hold=False).ready == [there[1]]


def test_a_change_that_nobody_could_read_comes_before_those_of_every_sink() -> None:
    unread = letter(5, sink="", stage="decode")
    assert together(unread, letter(7))
    assert not together(letter(5, sink="a"), letter(7, sink="b"))
    there = parked(unread, held(7))
    assert pick(there, Selection(place=(0, 0)), hold=True).ready == there


def test_what_was_parked_meanwhile_because_its_key_was_held_is_put_back_too() -> None:
    there = parked(held(9), held(8), held(8, key=b"other"), letter(7))
    assert released(there, parked(letter(5))) == [there[1], there[0]]


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.sampled_from(["", "s", "t"]), st.booleans()), max_size=8))
def test_every_chosen_letter_is_tried_or_waits_and_those_tried_are_in_order(
    given: list[tuple[bytes, str, bool]],
) -> None:
    there = parked(*[letter(number, key=key, sink=sink) for number, (key, sink, _) in enumerate(given)])
    wanted = {spot for spot, (_, _, chosen) in zip([each.spot for each in there], given, strict=True) if chosen}

    class Some(Selection):
        def takes(self, each: Parked) -> bool:
            return each.spot in wanted

    found = pick(there, Some(), hold=True)
    assert {each.spot for each in found.ready} | {each.spot for each, _ in found.waiting} == wanted
    assert found.ready == sorted(found.ready, key=lambda each: each.letter.order)
    assert {each.spot for each, _ in found.waiting} == {
        each.spot
        for each in there
        if each.spot in wanted
        and any(
            together(other.letter, each.letter) and other.offset < each.offset and other.spot not in wanted
            for other in there
        )
    }
    for waiting, before in found.waiting:
        assert before.letter.order < waiting.letter.order
        assert before.spot not in wanted


def test_a_letter_is_too_old_once_a_delete_behind_it_may_be_forgotten() -> None:
    day = 24 * 3600 * 1_000_000
    assert outlived(letter(1, first_failed_us=deadletter.now_us() - 8 * day))
    assert not outlived(letter(1, first_failed_us=deadletter.now_us() - 6 * day))


@pytest.mark.parametrize("command", ["list", "show", "edit", "replay", "drop"])
def test_every_command_has_json_and_help(command: str) -> None:
    said = CliRunner().invoke(cli, ["dlq", command, "--help"])
    assert said.exit_code == 0
    assert "--json" in said.output
    assert "--project" in said.output


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["replay", "stores"], "Say which letters are meant"),
        (["drop", "stores", "0/1", "--all"], "Say which letters are meant"),
        (["drop", "stores", "seventeen"], "is no place"),
        (["edit", "stores", "0-1", "--set", "a=b"], "is no place"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(words: list[str], problem: str, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=problem):
        CliRunner().invoke(
            cli, ["dlq", *words, "--project", str(tmp_path)], catch_exceptions=False, standalone_mode=False
        )


FILES = {
    "tailrace.toml": '[pipeline]\nname = "shop"\nconnector = "c"\n',
    "connectors/c.json": '{"topic.prefix": "shop.raw", "table.include.list": "public.orders", "slot.name": "s",'
    ' "database.dbname": "d", "publication.name": "p"}',
    "schemas/orders.avsc": '{"type": "record", "name": "O", "key": ["id"], "fields": [{"name": "id", "type": "long"}]}',
    "sinks/stores.py": 'from tailrace import SearchIndex\norders = SearchIndex("orders", record="orders")\n',
}
