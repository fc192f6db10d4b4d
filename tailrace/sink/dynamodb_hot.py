"""The partition keys that are written most, in bounded memory.

The space-saving sketch in its batched form (Misra and Gries): ``SIZE`` counters, each at most the true number and at
most ``total / (SIZE + 1)`` below it, so a key with a larger share than that is always among them. Older writes weigh
less: everything is halved each ``WINDOW`` writes. Pure. A key is shown as a fingerprint, never as it is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SIZE, WINDOW = 128, 100_000
FEW = 1000.0  # writes, of which shares say nothing yet
HOT, SHOWN = 0.05, 10


class HotKeys:
    """Counts of keys."""

    def __init__(self, size: int = SIZE, window: int = WINDOW) -> None:
        self._size, self._window = size, window
        self.counts: dict[str, float] = {}
        self.total = 0.0

    def add(self, keys: Iterable[str]) -> None:
        """Count the keys of one batch."""
        batch = Counter(keys)
        self.total += batch.total()
        for key, count in batch.items():
            self.counts[key] = self.counts.get(key, 0.0) + count
        if len(self.counts) > self._size:
            least = sorted(self.counts.values(), reverse=True)[self._size]
            self.counts = {key: count - least for key, count in self.counts.items() if count > least}
        if self.total >= self._window:
            self.total /= 2
            self.counts = {key: count / 2 for key, count in self.counts.items()}

    def hottest(self) -> list[tuple[str, float]]:
        """Return the fingerprints of the hot keys with their share of the writes, the hottest first."""
        if self.total < FEW:
            return []
        shares = sorted(((count / self.total, key) for key, count in self.counts.items()), reverse=True)
        return [(fingerprint(key), share) for share, key in shares[:SHOWN] if share >= HOT]


def fingerprint(key: str) -> str:
    """Return what stands for a key in metrics; whoever knows the key can compute it (docs/dynamodb.md)."""
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
