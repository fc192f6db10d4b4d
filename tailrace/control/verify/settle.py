"""Doubtful keys, looked at again until it is clear whether the store is wrong or the row was just changing.

One round: read the source rows, let everything committed so far arrive (the caller's ``wait``), read the store, read
the source rows again. A row that stood still (the same values, the same xmin) has to be in the store as it is; one
that moved goes into the next round. From the second round on, one that moved again is compared with the states that it
went through, as its raw topic has them (``history``): the store has to hold one that is as new as the marked position.
So a row that never stands still is settled as well. The same path serves a quiet database and live traffic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailrace.control.barrier import Crossed
from tailrace.control.verify import expected
from tailrace.control.verify.compare import Doubt, verdict
from tailrace.control.verify.expected import Unfit
from tailrace.control.verify.report import Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.conforming import ConformFunction, Row
    from tailrace.control.verify.history import History, Window
    from tailrace.control.verify.source import Key, Source, Version
    from tailrace.control.verify.store import Fields, Pair, Seen, Store
    from tailrace.kafka import Offsets

LOOKED_UP = 200  # keys of one pair for which Kafka is asked whether what the store has is an older version


class Settling:
    """The doubts of one pair, with everything needed to look at them again."""

    def __init__(
        self,
        source: Source,
        store: Store,
        pair: Pair,
        function: ConformFunction | None,
        doubts: Sequence[Doubt],
        *,
        history: History | None = None,
    ) -> None:
        self._source, self._store, self._pair, self._function = source, store, pair, function
        self._history, self._left = history, LOOKED_UP
        self.doubts = list(doubts)
        self.settled_equal = 0
        self.moving = 0
        self.differences: list[Difference] = []
        self._before: dict[Key, Version] = {}

    def begin(self) -> None:
        """Read the source rows as they are before the wait."""
        self._before = self._versions(self.doubts)

    def finish(self, *, values: bool, bound: Offsets | None = None) -> None:
        """Read the store, then the source rows again, and settle what stood still in between.

        With a ``bound`` that the store has passed, what moved is settled by its history.
        """
        known = [doubt.identity for doubt in self.doubts if doubt.identity is not None]
        actual = self._store.fetch(self._pair, known)
        doubts, self.doubts = self.doubts, []
        self._source.catch_up()
        after = self._versions(doubts)
        moved: list[Doubt] = []
        for doubt in doubts:
            if doubt.key is None or not _moved(self._before.get(doubt.key), after.get(doubt.key)):
                version = None if doubt.key is None else after.get(doubt.key)
                self._settle(doubt, version, actual, values=values)
            else:
                moved.append(doubt)
        if moved and bound is not None and self._history is not None:
            window = self._history.window(
                self._pair.table
            )  # read after the store: it knows all that the store may have
            moved = [doubt for doubt in moved if not self._moving(doubt, actual, window, bound)]
        self.doubts += moved

    def give_up(self) -> None:
        """Report what is still moving."""
        self.differences += [Difference("unsettled", _name(doubt), row=doubt.key) for doubt in self.doubts]
        self.doubts = []

    def tell_resurrected(self) -> None:
        """Name what a store has though its newest record is a delete for what it is."""
        rows = {entry.row for entry in self.differences if entry.kind == "extra" and entry.row is not None}
        if not rows or self._history is None:
            return
        deleted = self._history.deleted(self._pair.table, rows)
        self.differences = [
            entry.named("resurrected") if entry.kind == "extra" and entry.row in deleted else entry
            for entry in self.differences
        ]

    def _versions(self, doubts: Sequence[Doubt]) -> dict[Key, Version]:
        keys = list(dict.fromkeys(doubt.key for doubt in doubts if doubt.key is not None))
        return self._source.versions(self._pair.table, self._pair.contract.key, keys)

    def _moving(self, doubt: Doubt, found: Mapping[str, Seen], window: Window, bound: Offsets) -> bool:
        """Say whether the store has what a row that moved was at the bound or later, and count it then."""
        if doubt.key is None or doubt.identity is None:
            return False
        before = self._before.get(doubt.key)
        actual = _fields(found.get(doubt.identity))
        for row in window.candidates(doubt.key, bound, None if before is None else before.row):
            try:
                wanted = self._here(doubt.identity, row)
            except Unfit:
                continue
            if verdict(wanted, actual) is None:
                self.settled_equal += wanted is not None
                self.moving += wanted is not None
                return True
        return False

    def _settle(self, doubt: Doubt, version: Version | None, found: Mapping[str, Seen], *, values: bool) -> None:
        row = None if version is None else version.row
        try:
            identity, _ = self._wanted(row)
            wanted = None if doubt.identity is None else self._here(doubt.identity, row)
        except Unfit as error:
            self.differences.append(Difference("rejected", _name(doubt), reason=str(error), row=doubt.key))
            return
        if doubt.identity is not None:
            self._judge(doubt, wanted, found.get(doubt.identity), values=values)
        elif identity is not None:  # the row has become fit: its place in the store is looked up in the next round
            self.doubts.append(Doubt(identity, doubt.key))

    def _judge(self, doubt: Doubt, wanted: Fields | None, seen: Seen | None, *, values: bool) -> None:
        actual = _fields(seen)
        wrong = verdict(wanted, actual)
        if wrong is None or (actual is None and wanted is not None and self._store.may_be_gone(wanted)):
            self.settled_equal += wanted is not None
            return
        kind, fields = wrong
        if kind == "different" and seen is not None and self._older(doubt, seen):
            kind = "stale"
        sides = _sides(fields, wanted, actual) if values else (None, None)
        self.differences.append(Difference(kind, _name(doubt), fields, "", *sides, row=doubt.key))

    def _older(self, doubt: Doubt, seen: Seen) -> bool:
        """Say whether what the store has is what the row was at the version that the store names."""
        if self._history is None or seen.version is None or doubt.key is None or not self._left:
            return False
        self._left -= 1
        told = self._history.was(self._pair.table, doubt.key, seen.version)
        if told is None or told.unsent:
            return False
        try:
            return verdict(self._here(seen.identity, told.row), seen.fields) is None
        except Unfit:
            return False

    def _here(self, identity: str, row: Row | None) -> Fields | None:
        """Return what has to be at one place of the store: nothing where the row is gone, or lives elsewhere."""
        place, fields = self._wanted(row)
        return fields if place == identity else None

    def _wanted(self, row: Row | None) -> tuple[str | None, Fields | None]:
        """Return what the row has to be in the store, and where; nothing for a row that is gone or filtered."""
        record = None if row is None else expected.record(row, self._pair.contract, self._function)
        return (None, None) if record is None else self._store.expected(self._pair, record)


def settle(
    work: Sequence[Settling],
    *,
    wait: Callable[[], object],
    rounds: int,
    values: bool,
    say: Callable[[str], None],
    history: History | None = None,
) -> None:
    """Settle all doubts of all pairs in at most ``rounds`` rounds; what still moves then is unsettled."""
    for number in range(1, rounds + 1):
        open_ = [entry for entry in work if entry.doubts]
        if not open_:
            break
        say(f"round {number}: {sum(len(entry.doubts) for entry in open_)} keys to look at again")
        if history is not None and number > 1:
            history.mark()
        for entry in open_:
            entry.begin()
        crossed = wait()
        bound = dict(crossed.raw) if number > 1 and isinstance(crossed, Crossed) else None
        for entry in open_:
            entry.finish(values=values, bound=bound)
    for entry in work:
        entry.give_up()
        entry.tell_resurrected()


def _moved(before: Version | None, after: Version | None) -> bool:
    """Say whether a row changed; compared as text, because NaN is not equal to itself."""
    return repr(before) != repr(after)


def _fields(seen: Seen | None) -> Fields | None:
    return None if seen is None else seen.fields


def _name(doubt: Doubt) -> str:
    return " ".join(doubt.key or ()) if doubt.identity is None else doubt.identity


def _sides(
    fields: Sequence[str], wanted: Mapping[str, Any] | None, actual: Mapping[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the differing values of both sides, or whole sides where one is absent."""
    if wanted is None or actual is None:
        return (None if wanted is None else dict(wanted)), (None if actual is None else dict(actual))
    return {name: wanted.get(name) for name in fields}, {name: actual.get(name) for name in fields}
