"""Under ``on_reject = "hold"`` nothing of a key is written while an older change of it is parked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import deadletter
from tailrace.change import BEFORE, Provenance
from tailrace.errors import Fatal
from tailrace.sink.breaker import LEAST, Breaker
from tailrace.sink.decode import Decoder
from tailrace.sink.delivery import Delivery, Refusals
from tailrace.sink.holding import Held, Holding, runs
from tailrace.targets import LakeTable
from tailrace.testing import PARCEL, MemorySink, Tape, parcel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.change import Change
    from tailrace.deadletter import DeadLetter, Spot

TOPIC = "p.conformed.parcel"
POISON = "poison"


@dataclass(frozen=True)
class Received:
    """A message as the broker gave it."""

    change: Change

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.change.offset

    def key(self) -> bytes | None:
        return self.change.raw_key

    def value(self) -> bytes | None:
        return None if self.change.value is None else PARCEL.encode(self.change.value, 1)

    def headers(self) -> list[tuple[str, bytes | None]]:
        said = self.change
        origin = Provenance(said.version, said.op, said.lsn, said.committed_us, said.tx, said.origin)
        before = [(BEFORE, PARCEL.encode(said.before, 1))] if said.before else []
        return [*origin.headers(), *before]


class Unread(Received):
    """A message that no contract reads."""

    def value(self) -> bytes:
        return b"?"


class Letters(Holding):
    """A dead-letter topic in memory, with one partition, and what a worker reads of it."""

    def __init__(self) -> None:
        super().__init__("nowhere", "letters")
        self.messages: list[tuple[Spot, bytes | None, list[tuple[str, bytes | None]]]] = []
        self._seen = 0

    def refresh(self) -> None:
        for message in self.messages[self._seen :]:
            self._held.take(*message)
        self._seen = len(self.messages)

    def park(self, letters: Sequence[DeadLetter]) -> None:
        for each in letters:
            self.messages.append(((0, len(self.messages)), each.key, each.message_headers()))

    def settle(self, *offsets: int) -> None:
        settled = deadletter.Settlement(tuple((0, offset) for offset in offsets), "replayed")
        self.messages.append(((0, len(self.messages)), None, settled.message_headers()))

    def told(self) -> list[tuple[str, int, str]]:
        """Return stage, offset and what it waits for, of each letter."""
        letters = [(key, headers) for _, key, headers in self.messages if deadletter.settlement(headers) is None]
        found = [deadletter.read(key, None, headers) for key, headers in letters]
        return [(letter.stage, letter.place[2], letter.held_by.rpartition("/")[2]) for letter in found]


@dataclass
class Shelf:
    """A worker with one sink that refuses poison."""

    letters: Letters = field(default_factory=Letters)
    sink: MemorySink = field(
        default_factory=lambda: MemorySink("parcel", reject=lambda change: POISON if noted(change) == POISON else "")
    )

    def deliver(self, *messages: Received, target: Any = None, breaker: Breaker | None = None) -> None:
        refusals = Refusals(breaker=breaker, holding=self.letters).of([target or self.sink], [self.sink])
        decoder = Decoder({TOPIC: PARCEL}, {1: PARCEL.parsed}.__getitem__)
        Delivery("worker", decoder, {TOPIC: [self.sink]}, self.letters.park, 5.0, refusals).deliver(messages)

    def notes(self) -> dict[int, str]:
        return {value["id"]: value["note"] for value in self.sink.items.values()}


def noted(change: Change) -> str:
    return str(change.value["note"]) if change.value else ""


class Story(Tape):
    """Writes notes on parcels, each in a message."""

    def note(self, number: int, text: str) -> Received:
        return Received(self.put(parcel(number, note=text)))


def test_later_changes_of_a_parked_key_are_parked_too_and_other_keys_go_on() -> None:
    shelf, story = Shelf(), Story()
    shelf.deliver(story.note(1, "a"), story.note(2, "a"), story.note(1, POISON), story.note(1, "c"), story.note(2, "b"))
    shelf.deliver(story.note(1, "d"), story.note(3, "a"))
    assert shelf.notes() == {1: "a", 2: "b", 3: "a"}
    assert shelf.letters.told() == [("write", 2, ""), ("held", 3, "2"), ("held", 5, "2")]


def test_a_worker_that_starts_again_still_holds_and_lets_go_once_the_first_is_settled() -> None:
    shelf, story = Shelf(), Story()
    shelf.deliver(story.note(1, POISON), story.note(1, "b"))
    successor = Letters()
    successor.messages = shelf.letters.messages
    shelf.letters = successor

    shelf.deliver(story.note(1, "c"))
    assert shelf.notes() == {}
    successor.settle(0)
    shelf.deliver(story.note(1, "d"))

    assert shelf.notes() == {1: "d"}
    assert [stage for stage, _, _ in successor.told()] == ["write", "held", "held"]


def test_a_settled_waiting_change_lets_nothing_go() -> None:
    shelf, story = Shelf(), Story()
    shelf.deliver(story.note(1, POISON), story.note(1, "b"))
    shelf.letters.settle(1)
    shelf.deliver(story.note(1, "c"))
    assert shelf.notes() == {}


def test_what_comes_again_from_before_the_parked_change_is_written() -> None:
    shelf, story = Shelf(), Story()
    first, poison = story.note(1, "a"), story.note(1, POISON)
    shelf.deliver(poison)
    shelf.deliver(first)
    assert shelf.notes() == {1: "a"}


def test_a_change_that_nobody_can_read_holds_its_key_in_every_sink() -> None:
    shelf, story = Shelf(), Story()
    before, unread, after = story.note(1, "a"), Unread(story.note(1, "b").change), story.note(1, "c")
    shelf.deliver(before, unread, after)
    shelf.deliver(story.note(1, "d"), story.note(2, "a"))
    assert shelf.notes() == {1: "a", 2: "a"}
    assert shelf.letters.told() == [("decode", 1, ""), ("held", 2, "1"), ("held", 3, "1")]


def test_nothing_waits_in_a_lake_which_holds_every_change() -> None:
    shelf, story = Shelf(), Story()
    shelf.deliver(story.note(1, POISON), story.note(1, "b"), target=LakeTable("parcels", record="parcel"))
    assert shelf.notes() == {1: "b"}


def test_changes_that_wait_are_no_sign_of_a_systemic_failure() -> None:
    shelf, story, breaker = Shelf(), Story(), Breaker()
    for _ in range(3):
        shelf.deliver(story.note(1, POISON), *[story.note(1, "b") for _ in range(2 * LEAST)], breaker=breaker)
    assert len(shelf.letters.messages) == 3 * (2 * LEAST + 1)


def test_when_most_of_a_batch_is_refused_nothing_of_it_is_parked() -> None:
    shelf, story = Shelf(), Story()
    batch = [story.note(number, POISON if number % 2 else "a") for number in range(2 * LEAST)]
    with pytest.raises(Fatal, match="MemorySink refuses most of") as caught:
        shelf.deliver(*batch, breaker=Breaker())
    assert f"{TOPIC}/0/1" in caught.value.detail
    assert shelf.letters.messages == []
    shelf.deliver(*batch)
    assert len(shelf.letters.messages) == LEAST


def test_when_most_of_a_batch_cannot_be_read_nothing_of_it_is_parked() -> None:
    shelf, story = Shelf(), Story()
    with pytest.raises(Fatal, match="The worker refuses most of"):
        shelf.deliver(*[Unread(story.note(number, "a").change) for number in range(LEAST)], breaker=Breaker())
    assert shelf.letters.messages == []


def test_an_older_offset_of_a_newer_epoch_is_later() -> None:
    held, change = Held(), Tape().put(parcel(1))
    parked = deadletter.letter(
        worker="w", stage="write", reason="r", place=(TOPIC, 0, 900), key=change.raw_key, value=None,
        headers=[("tailrace.version", b"%d" % (change.version - 1))], sink="s",
    )  # fmt: skip
    held.take((0, 0), parked.key, parked.message_headers())
    mine = replace(change, topic=TOPIC)
    assert held.holder("s", mine) == parked.source
    assert held.holder("other", mine) == ""
    assert held.holder("s", replace(mine, version=mine.version - 1)) == ""


CHANGES = st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=40)


@given(CHANGES)
def test_runs_are_the_batch_and_no_run_has_a_key_twice(given: list[tuple[int, bool]]) -> None:
    tape = Tape()
    changes = [tape.put(parcel(number)) for number, _ in given]
    cut = [changes[run] for run in runs(changes)]
    assert [change for run in cut for change in run] == changes
    assert all(len({change.raw_key for change in run}) == len(run) for run in cut)


@given(CHANGES, st.integers(1, 7))
def test_a_key_stays_at_the_change_before_its_first_poison_however_batches_are_cut(
    given: list[tuple[int, bool]], size: int
) -> None:
    shelf, story = Shelf(), Story()
    messages = [story.note(number, POISON if bad else f"note {at}") for at, (number, bad) in enumerate(given)]
    expected: dict[int, str] = {}
    stopped: set[int] = set()
    for at, (number, bad) in enumerate(given):
        if bad:
            stopped.add(number)
        elif number not in stopped:
            expected[number] = f"note {at}"

    for start in range(0, len(messages), size):
        shelf.deliver(*messages[start : start + size])

    assert shelf.notes() == expected
    assert len(shelf.letters.messages) == sum(
        any(bad for other, bad in given[: at + 1] if other == number) for at, (number, _) in enumerate(given)
    )
