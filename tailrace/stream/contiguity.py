"""Contiguity: which part of a fetched batch continues its partition. Pure; the bridge does what it says.

Per partition and assignment the next offset to process is known: first the committed one. A batch that starts later is
fetched again; when the gap stays, it is the log's own (compaction, transaction markers). One that starts earlier is
cut. So a batch that was dropped in a rebalance, after the fetch position had moved past it, never hides behind the
commit of the next one (docs/decisions/0003).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

P = TypeVar("P", bound="Hashable")

Verdict = Literal["take", "again", "gap"]


@dataclass
class Progress(Generic[P]):
    """Where every partition of the current assignment stands. ``done`` is processed and not committed yet.

    ``astray`` are those of which something was fetched and dropped: the next fetch goes on behind that.
    """

    next: dict[P, int] = field(default_factory=dict)
    done: dict[P, int] = field(default_factory=dict)
    astray: set[P] = field(default_factory=set)
    _asked: dict[P, int] = field(default_factory=dict)

    def judge(self, partition: P, first: int) -> Verdict:
        """Say what to do with a batch whose first offset is ``first``: take it, fetch again, or look at the gap.

        "again" is said once for each position; the second time it is a "gap", which the caller may take when the log
        itself has no record there.
        """
        wanted = self.next[partition]
        if first <= wanted:
            self._asked.pop(partition, None)
            return "take"
        if self._asked.get(partition) == wanted:
            return "gap"
        self._asked[partition] = wanted
        return "again"

    def cut(self, partition: P, records: Sequence[Any]) -> Sequence[Any]:
        """Return the records that were not processed yet."""
        wanted = self.next[partition]
        if not records or records[0].offset >= wanted:
            return records
        return [record for record in records if record.offset >= wanted]

    def finish(self, partition: P, last: int) -> None:
        """Note that everything up to the offset ``last`` has had its effect."""
        self.next[partition] = self.done[partition] = last + 1

    def take_done(self) -> dict[P, int]:
        """Return what may be committed, and forget it."""
        done, self.done = self.done, {}
        return done

    def give_back(self, done: dict[P, int]) -> None:
        """Keep offsets whose commit did not succeed, where nothing newer is known."""
        for partition, offset in done.items():
            if partition in self.next:
                self.done.setdefault(partition, offset)

    def forget(self, partition: P) -> None:
        """Forget one partition, whose records are dropped: its next offset has to be read from the broker again."""
        self.astray.add(partition)
        self.next.pop(partition, None)
        self._asked.pop(partition, None)  # what was fetched again may be what is dropped now: ask again

    def clear(self) -> None:
        """Forget everything, at the end of an assignment."""
        self.astray.clear()  # the next assignment begins at what is committed
        self.next.clear()
        self.done.clear()
        self._asked.clear()
