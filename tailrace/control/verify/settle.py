"""Doubtful keys, looked at again until it is clear whether the store is wrong or the row was just changing.

One round: read the source rows, let everything committed so far arrive (the caller's ``wait``), read the store, read
the source rows again. A row that stood still (the same values, the same xmin) has to be in the store as it is; one
that moved goes into the next round. The same path serves a quiet database and live traffic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailrace.control.verify import expected
from tailrace.control.verify.compare import Doubt, verdict
from tailrace.control.verify.expected import Unfit
from tailrace.control.verify.report import Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.conforming import ConformFunction
    from tailrace.control.verify.source import Key, Source, Version
    from tailrace.control.verify.store import Fields, Pair, Store


class Settling:
    """The doubts of one pair, with everything needed to look at them again."""

    def __init__(
        self, source: Source, store: Store, pair: Pair, function: ConformFunction | None, doubts: Sequence[Doubt]
    ) -> None:
        self._source, self._store, self._pair, self._function = source, store, pair, function
        self.doubts = list(doubts)
        self.settled_equal = 0
        self.differences: list[Difference] = []
        self._before: dict[Key, Version] = {}

    def begin(self) -> None:
        """Read the source rows as they are before the wait."""
        self._before = self._versions(self.doubts)

    def finish(self, *, values: bool) -> None:
        """Read the store, then the source rows again, and settle what stood still in between."""
        known = [doubt.identity for doubt in self.doubts if doubt.identity is not None]
        actual = self._store.fetch(self._pair, known)
        doubts, self.doubts = self.doubts, []
        after = self._versions(doubts)
        for doubt in doubts:
            if doubt.key is not None and _moved(self._before.get(doubt.key), after.get(doubt.key)):
                self.doubts.append(doubt)
            else:
                version = None if doubt.key is None else after.get(doubt.key)
                self._settle(doubt, version, actual, values=values)

    def give_up(self) -> None:
        """Report what is still moving."""
        self.differences += [Difference("unsettled", _name(doubt), row=doubt.key) for doubt in self.doubts]
        self.doubts = []

    def _versions(self, doubts: Sequence[Doubt]) -> dict[Key, Version]:
        keys = list(dict.fromkeys(doubt.key for doubt in doubts if doubt.key is not None))
        return self._source.versions(self._pair.table, self._pair.contract.key, keys)

    def _settle(self, doubt: Doubt, version: Version | None, found: Mapping[str, Fields], *, values: bool) -> None:
        try:
            identity, wanted = self._wanted(version)
        except Unfit as error:
            self.differences.append(Difference("rejected", _name(doubt), reason=str(error), row=doubt.key))
            return
        if doubt.identity is None:
            if identity is not None:  # the row has become fit: its place in the store is looked up in the next round
                self.doubts.append(Doubt(identity, doubt.key))
            return
        if identity != doubt.identity:  # the row is gone, or lives elsewhere: nothing has to be here
            wanted = None
        self._judge(doubt, wanted, found.get(doubt.identity), values=values)

    def _judge(self, doubt: Doubt, wanted: Fields | None, actual: Fields | None, *, values: bool) -> None:
        wrong = verdict(wanted, actual)
        if wrong is None or (actual is None and wanted is not None and self._store.may_be_gone(wanted)):
            self.settled_equal += wanted is not None
            return
        kind, fields = wrong
        sides = _sides(fields, wanted, actual) if values else (None, None)
        self.differences.append(Difference(kind, _name(doubt), fields, "", *sides, row=doubt.key))

    def _wanted(self, version: Version | None) -> tuple[str | None, Fields | None]:
        """Return what the row has to be in the store, and where; nothing for a row that is gone or filtered."""
        record = None if version is None else expected.record(version.row, self._pair.contract, self._function)
        return (None, None) if record is None else self._store.expected(self._pair, record)


def settle(
    work: Sequence[Settling], *, wait: Callable[[], object], rounds: int, values: bool, say: Callable[[str], None]
) -> None:
    """Settle all doubts of all pairs in at most ``rounds`` rounds; what still moves then is unsettled."""
    for number in range(1, rounds + 1):
        open_ = [entry for entry in work if entry.doubts]
        if not open_:
            return
        say(f"round {number}: {sum(len(entry.doubts) for entry in open_)} keys to look at again")
        for entry in open_:
            entry.begin()
        wait()
        for entry in open_:
            entry.finish(values=values)
    for entry in work:
        entry.give_up()


def _moved(before: Version | None, after: Version | None) -> bool:
    """Say whether a row changed; compared as text, because NaN is not equal to itself."""
    return repr(before) != repr(after)


def _name(doubt: Doubt) -> str:
    return " ".join(doubt.key or ()) if doubt.identity is None else doubt.identity


def _sides(
    fields: Sequence[str], wanted: Mapping[str, Any] | None, actual: Mapping[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the differing values of both sides, or whole sides where one is absent."""
    if wanted is None or actual is None:
        return (None if wanted is None else dict(wanted)), (None if actual is None else dict(actual))
    return {name: wanted.get(name) for name in fields}, {name: actual.get(name) for name in fields}
