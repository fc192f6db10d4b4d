from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tailrace import deadletter
from tailrace.targets import DynamoDBTable, LakeTable, SearchIndex
from tailrace.testing import MemorySink

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def sent(**given: str) -> deadletter.DeadLetter:
    return deadletter.letter(
        worker="search",
        stage="write",
        reason="mapping conflict",
        place=("bank.conformed.customer", 2, 41),
        key=b"\xff\x00",
        value=None,
        headers=[("tailrace.version", b"1"), ("tailrace.error.stage", b"old")],
        **given,
    )


def test_a_dead_letter_keeps_the_original_bytes_and_headers_and_says_why() -> None:
    letter = sent(sink="search/customers")
    back = deadletter.read(b"\xff\x00", None, letter.message_headers())
    assert back == letter
    assert (back.source, back.sink) == ("bank.conformed.customer/2/41", "search/customers")
    assert back.place == ("bank.conformed.customer", 2, 41)
    assert back.headers == (("tailrace.version", b"1"),)
    assert (back.failures, back.first_failed_us) == (1, back.failed_us)


@given(held_by=TEXTS, edited=TEXTS, original=TEXTS, reason=TEXTS, sink=TEXTS, failures=st.integers(1, 9))
def test_whatever_a_letter_says_is_read_back(
    *, held_by: str, edited: str, original: str, reason: str, sink: str, failures: int
) -> None:
    letter = replace(
        sent(sink=sink, held_by=held_by), edited_from=edited, original=original, reason=reason, failures=failures
    )
    assert deadletter.read(letter.key, letter.value, letter.message_headers()) == letter


def test_a_letter_that_fails_again_keeps_its_first_failure_and_counts() -> None:
    first = replace(sent(), failed_us=5, first_failed_us=3, failures=2)
    again = first.again(stage="write", reason="another one")
    assert (again.first_failed_us, again.failures, again.reason) == (3, 3, "another one")
    assert again.failed_us > first.failed_us


def test_a_message_without_our_headers_is_still_readable() -> None:
    letter = deadletter.read(None, b"x", None)
    assert (letter.reason, letter.failures) == ("", 1)
    assert deadletter.settlement(None) is None


def test_a_settlement_names_places_and_is_no_letter() -> None:
    settled = deadletter.Settlement(((0, 5), (2, 17)), "replayed", 9)
    assert deadletter.settlement(settled.message_headers()) == settled
    assert deadletter.settlement(sent().message_headers()) is None


def test_letters_of_a_key_are_in_the_order_of_their_versions_across_epochs() -> None:
    older = replace(sent(), headers=(("tailrace.version", b"%d" % (1 << 48 | 900)),), source="t/0/7")
    newer = replace(sent(), headers=(("tailrace.version", b"%d" % (2 << 48 | 3)),), source="t/0/2")
    assert sorted([newer, older], key=lambda letter: letter.order) == [older, newer]


def test_sinks_are_called_by_store_and_name() -> None:
    named: list[Any] = [
        DynamoDBTable("bank", record="a", pk="A", sk="B"),
        LakeTable("accounts", record="a"),
        SearchIndex("people", record="a"),
        MemorySink("a"),
    ]
    assert [deadletter.title(target) for target in named] == [
        "dynamodb/bank",
        "lake/accounts",
        "search/people",
        "MemorySink",
    ]
