"""Which letters are put back together, and in which order. Pure.

Letters of one topic and key belong together where they are for the same sink, or where one was parked before any sink
(it is for all of them). A change that only waits for an older one goes with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tailrace.deadletter import HELD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tailrace.control.dlq.letters import Parked
    from tailrace.control.dlq.selection import Selection
    from tailrace.deadletter import DeadLetter


class Picked(NamedTuple):
    """Letters that are tried, oldest first, and those that have to wait, each with the one that comes before it."""

    ready: list[Parked]
    waiting: list[tuple[Parked, Parked]]


def together(one: DeadLetter, other: DeadLetter) -> bool:
    """Say whether the order of two letters matters."""
    same = (one.place[0], one.key) == (other.place[0], other.key)
    return same and (one.sink == other.sink or not one.sink or not other.sink)


def pick(there: Sequence[Parked], selection: Selection, *, hold: bool) -> Picked:
    """Return what a selection means among the open letters.

    Where keys are held, what waits for a letter goes with it, and no letter goes before an older one of its key.
    """
    found = Picked([], [])
    for related in _by_key(sorted(there, key=lambda parked: parked.letter.order)):
        before = Before()
        for parked in related:
            wanted = selection.takes(parked)
            if hold and parked.letter.stage == HELD:
                wanted = wanted or before.chosen(parked.letter.sink)
            missing = before.left(parked.letter.sink) if hold else None
            before.add(parked, wanted=wanted)
            if wanted and missing is None:
                found.ready.append(parked)
            elif wanted and missing is not None:
                found.waiting.append((parked, missing))
    found.ready.sort(key=lambda parked: parked.letter.order)
    return found


class Before:
    """The letters of one topic and key that came before another one, by sink."""

    def __init__(self) -> None:
        self._chosen: set[str] = set()
        self._left: dict[str, Parked] = {}

    def add(self, parked: Parked, *, wanted: bool) -> None:
        """Take the next letter."""
        if wanted:
            self._chosen.add(parked.letter.sink)
        else:
            self._left.setdefault(parked.letter.sink, parked)

    def chosen(self, sink: str) -> bool:
        """Say whether one that was chosen belongs together with a letter for a sink."""
        return bool(self._chosen & {sink, ""}) if sink else bool(self._chosen)

    def left(self, sink: str) -> Parked | None:
        """Return the first that was not chosen and belongs together with a letter for a sink."""
        related = [parked for name, parked in self._left.items() if not sink or name in (sink, "")]
        return min(related, key=lambda parked: parked.letter.order, default=None)


def released(there: Iterable[Parked], over: Iterable[Parked]) -> list[Parked]:
    """Return the letters that waited for some that are over, oldest first."""
    ended: dict[tuple[str, bytes | None], list[DeadLetter]] = {}
    for parked in over:
        ended.setdefault((parked.letter.place[0], parked.letter.key), []).append(parked.letter)
    free = [
        parked
        for parked in there
        if parked.letter.stage == HELD
        and any(together(parked.letter, each) for each in ended.get((parked.letter.place[0], parked.letter.key), ()))
    ]
    return sorted(free, key=lambda parked: parked.letter.order)


def _by_key(ordered: Iterable[Parked]) -> Iterable[list[Parked]]:
    found: dict[tuple[str, bytes | None], list[Parked]] = {}
    for parked in ordered:
        found.setdefault((parked.letter.place[0], parked.letter.key), []).append(parked)
    return found.values()
