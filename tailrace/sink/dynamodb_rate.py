"""How fast one table is written: as fast as it goes until DynamoDB throttles, then at a pace that follows it.

There is no limit at first. A throttled answer sets it to a share of what has gone through lately, at most once a
second, because the calls in flight all tell of the same moment; from there it grows by a share of itself a second, and
ends when it has been far above the need for a while. It grows faster while it is far under what the table took shortly
before, so that seconds in which nearly nothing was taken do not cost minutes. Pure: times are given, in seconds; the
caller waits and locks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CUT = 0.7  # of the accepted rate, what is left after a throttled answer
COOLDOWN = 1.0  # between two cuts
GROWTH, FAST = 0.1, 0.5  # of the limit, what is added to it each second, and while it is far under what was known
HALF_LIFE = 15.0  # seconds in which what a table took before counts half
FLOOR = 1.0  # puts a second, the least
START = 500.0  # puts a second that a table is taken to bear before it has shown less
SLICE = 0.25  # seconds' worth of puts in one call
MEMORY = 1.0  # seconds over which the accepted rate is measured
LIFTED_AFTER, LIFTED_ABOVE = 30.0, 2.0  # seconds without throttling, times the accepted rate


@dataclass(slots=True)
class Rate:
    """The pace of one table, in puts a second."""

    limit: float = math.inf
    _known: float = 0.0  # what went through before the cuts, fading
    _accepted: float = 0.0  # what went through, older seconds weighing less
    _since: float = 0.0  # begin of the present time of work
    _at: float = 0.0  # when ``_accepted`` was true
    _grown: float = 0.0  # when ``limit`` was true
    _cut: float = -math.inf
    _free: float = 0.0  # when the next call may begin

    def grant(self, wanted: int, now: float) -> tuple[int, float]:
        """Return how many of the wanted puts may go in one call, and in how many seconds."""
        self._grow(now)
        if math.isinf(self.limit):
            return wanted, 0.0
        count = max(1, min(wanted, int(self.limit * SLICE)))
        begin = max(now, self._free)
        self._free = begin + count / self.limit
        return count, begin - now

    def went(self, count: int, now: float) -> None:
        """Learn that so many puts were taken."""
        self._age(now)
        self._accepted += count / MEMORY

    def throttled(self, now: float) -> None:
        """Learn that DynamoDB throttled a put."""
        if now < self._cut + COOLDOWN:
            return
        self._grow(now)
        shown = self.accepted(now)
        self._known = max(shown, self._remembered(now))
        bearable = max(shown, START) if math.isinf(self.limit) else min(self.limit, max(shown, self.limit / 4))
        self.limit = max(FLOOR, bearable * CUT)
        self._cut = self._grown = self._free = now

    def accepted(self, now: float) -> float:
        """Return the puts a second that have gone through lately."""
        self._age(now)
        share = -math.expm1(-(now - self._since) / MEMORY)  # of a steady rate that the average has seen by now
        return self._accepted / max(share, 0.01)

    def _age(self, now: float) -> None:
        if now - self._at > MEMORY:  # idle until now: what was before says nothing about the pace of work
            self._accepted, self._since = 0.0, now
        elif now > self._at:
            self._accepted *= math.exp(-(now - self._at) / MEMORY)
        self._at = max(now, self._at)

    def _remembered(self, now: float) -> float:
        """Return what went through before the last cut, the less the longer that is ago."""
        return self._known * math.exp2((self._cut - now) / HALF_LIFE)

    def _grow(self, now: float) -> None:
        if math.isinf(self.limit) or now <= self._grown:
            return
        grown = self.limit * (1 + FAST) ** (now - self._grown)
        if grown > CUT * self._remembered(now):
            grown = self.limit * (1 + GROWTH) ** (now - self._grown)
        self.limit, self._grown = grown, now
        if now - self._cut > LIFTED_AFTER and self.limit > LIFTED_ABOVE * self.accepted(now):
            self.limit = math.inf
