"""One captured table against one target of one store, on its way through a verify: what is expected, what was seen.

Where digests are kept it also says which ranges it compares (``suspects``; None is all of them) and, at the end, what
is proved of each: only a range without any doubt, whose store was the same before and after it was read.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from tailrace.control.verify.compare import Doubt, Ledger
from tailrace.control.verify.expected import Unfit
from tailrace.control.verify.ranges import Proof, Ranges, Tally
from tailrace.control.verify.report import Check
from tailrace.control.verify.settle import Settling
from tailrace.control.verify.store import DIGEST, digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.conforming import ConformFunction
    from tailrace.control.verify.history import History
    from tailrace.control.verify.source import Key, Source
    from tailrace.control.verify.store import Pair, Seen, Store


class Job:
    """One pair in one store."""

    def __init__(self, store: Store, pair: Pair, position: str = "", *, digesting: bool = False) -> None:
        self.store, self.pair, self.position, self.digesting = store, pair, position, digesting
        self.label = f"{pair.sink}/{type(store).__name__}/{store.name}/{pair.table}"
        self.ledger = Ledger()
        self.ranges, self.source, self.proofs = Ranges(), dict[int, str](), dict[int, Proof]()
        self.suspects: set[int] | None = None
        self.wanted: set[int] | None = None
        self.sampled: set[int] = set()
        self.before: dict[int, str] | None = None
        self._tally, self._counts, self._dirty = Tally(), dict[int, int](), set[int]()
        self._rejected: list[Doubt] = []
        self._doubts: list[Doubt] = []

    def wants(self, number: int) -> bool:
        """Say whether the rows of a range are compared."""
        return self.wanted is None or number in self.wanted

    def expect(self, record: Mapping[str, Any], key: Key, number: int) -> None:
        """Note what a record has to be in this store."""
        try:
            identity, fields = self.store.expected(self.pair, record)
        except Unfit:
            self.reject(key)
        else:
            self._counts[number] = self._counts.get(number, 0) + 1
            self.ledger.expect(identity, fields, key)

    def reject(self, key: Key) -> None:
        """Note a row that cannot be a record, or not in this store; it is looked at again with the doubts."""
        self._rejected.append(Doubt(None, key))

    def tally(self, seen: Seen, number: int) -> None:
        """Add up what a store that makes no digests has."""
        if self.digesting and self.before is None:
            shown = seen.identity.encode() + digest(seen.fields)
            self._tally.add(number, hashlib.blake2b(shown, digest_size=DIGEST).digest())

    def see(self, seen: Seen, taker: Job, number: int) -> None:
        """Compare a thing of this pair with what ``taker`` expects."""
        if not taker.ledger.see(seen.identity, seen.fields, seen.key):
            self._dirty.add(number)

    def tallied(self) -> dict[int, str]:
        """Return the digests of what was added up."""
        return self._tally.digests()

    def late(self) -> set[int]:
        """Return the ranges that turned out to be changed only while the store was read."""
        if self.suspects is None or self.before is not None:
            return set()
        now = self.tallied()
        rest = self.proofs.keys() - self.suspects
        return {number for number in rest if self.proofs[number].store != now.get(number, "")}

    def again(self, late: set[int]) -> None:
        """Compare some more ranges; nothing is proved of them this time."""
        self.wanted, self._dirty = late, self._dirty | late
        self.suspects = (self.suspects or set()) | late

    def close(self) -> None:
        """Close the ledger, once its store was read."""
        rejected = {doubt.key for doubt in self._rejected}
        found = [doubt for doubt in self.ledger.close() if doubt.key not in rejected]
        self._doubts = [*found, *self._rejected]
        self._dirty |= {self.ranges.of(doubt.key) for doubt in self._doubts}

    def proved(self) -> dict[int, Proof]:
        """Return the proofs of every range that was equal, now or before."""
        if self.suspects == set():
            return self.proofs
        after = self.tallied() if self.before is None else self.store.digests(self.pair, self.ranges)
        before = after if self.before is None else self.before
        if after is None or before is None:
            return {}
        every = self.ranges.every() if self.suspects is None else self.suspects
        kept = {number: proof for number, proof in self.proofs.items() if number not in every}
        return kept | {
            number: Proof(self.source.get(number, ""), there, self._counts.get(number, 0), self.position)
            for number in every - self._dirty
            if (there := after.get(number, "")) == before.get(number, "")
        }

    def state(self) -> dict[str, Any]:
        """Return what is known, for a run that goes on later."""
        doubts = [[doubt.identity, doubt.key] for doubt in self._doubts]
        return {"equal": self.ledger.equal, "doubts": doubts, "position": self.position}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what another run has found."""
        self.ledger.equal, self.position = state["equal"], state["position"]
        self._doubts = [Doubt(identity, key and tuple(key)) for identity, key in state["doubts"]]

    def settling(self, source: Source, function: ConformFunction | None, history: History) -> Settling:
        """Return the doubts, to be settled; a rejected row stands for whatever the store has under its key."""
        return Settling(source, self.store, self.pair, function, self._doubts, history=history)

    def surprised(self, settled: Settling) -> bool:
        """Say whether there is a difference in a range that was compared although its digests said: unchanged."""
        return any(self.ranges.of(each.row) in self.sampled for each in settled.differences if each.kind != "unsettled")

    def check(self, settled: Settling) -> Check:
        """Return the result."""
        name = f"{type(self.store).__name__} {self.store.name}"
        rest = set() if self.suspects is None else self.proofs.keys() - self.suspects
        unchanged = sum(self.proofs[number].equal for number in rest)
        equal = self.ledger.equal + settled.settled_equal + unchanged
        found = Check(self.pair.table, self.pair.sink, name, equal, settled.differences)
        found.moving, found.unchanged, found.position = settled.moving, unchanged, self.position
        return found
