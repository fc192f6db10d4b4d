"""The sweep of a new epoch: rows that vanished from the source before it get the delete that nobody saw.

After a new epoch's snapshot every row that is still there has a record of that epoch. So a key whose newest conformed
record is a row of an older epoch is gone, and the stores still hold it. The source is asked about each of them before
it counts as gone: a row that is there and has no new record was filtered out or parked, and is left alone and counted.

The delete has the last version before the epoch: newer than all that is older, older than all of the epoch. So a row
that comes back meanwhile is never touched, and a second sweep finds nothing to do. What a partition holds under a key
that has moved to another one by a change of the partition count is swept as well: there the delete is older than the
row's new version and every store leaves it alone.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailrace import version
from tailrace.control.records import Records, candidates
from tailrace.kafka import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailrace.control.services import Services
    from tailrace.kafka import Place


@dataclass(frozen=True, slots=True)
class Swept:
    """What the sweep of one record did: keys looked at, deletes written, rows that are there after all.

    ``moved`` is how many of these were told to have left a place.
    """

    record: str
    keys: int
    deleted: int
    kept: int
    moved: int = 0


def last_before(epoch: int) -> int:
    """Return the version of a sweep's deletes: the last one before the epoch."""
    return version.pack(epoch, 0) - 1


def sweep(services: Services, epoch: int, record: str, say: Callable[[str], None]) -> Swept:
    """Sweep one conformed topic up to its present end; return when Kafka has every delete."""
    with closing(Outbox(services.project.endpoints.kafka, f"{services.project.name}-sweep")) as outbox:
        return _Sweep(Records(services, record), outbox, epoch).run(say)


class _Sweep:
    """One topic's sweep, partition by partition; it holds the keys of one partition at a time."""

    def __init__(self, records: Records, outbox: Outbox, epoch: int) -> None:
        self._records, self._outbox, self._epoch = records, outbox, epoch
        self._spans = records.spans()

    def run(self, say: Callable[[str], None]) -> Swept:
        """Sweep every partition, then what moved to another one."""
        keys = deleted = 0
        kept: dict[Place, dict[bytes, int]] = {}
        for place, span in self._spans.items():
            old, count = candidates(self._records.seen(place, *span), version.pack(self._epoch, 0))
            there = {key for _, answer in self._records.ask(old) for key in answer.there}
            kept[place] = {key: found.offset for key, found in old.items() if key in there}
            gone = {found.offset for key, found in old.items() if key not in there}
            deleted += self._write(place, gone)
            keys += count
            say(f"{self._records.record}/{place[1]}: {count:,} keys, {len(gone):,} gone")
        moved = self._moved({key for held in kept.values() for key in held})
        for place, held in kept.items():
            deleted += self._write(place, {offset for key, offset in held.items() if key in moved})
        alone = {key for held in kept.values() for key in held} - moved
        return Swept(self._records.record, keys, deleted, len(alone))

    def _moved(self, keys: set[bytes]) -> set[bytes]:
        """Return those of the keys that have a record of this epoch, in whatever partition that is."""
        if not keys:
            return set()
        return {
            found.key
            for place, span in self._spans.items()
            for found in self._records.seen(place, *span)
            if found.key in keys and version.unpack(found.version)[0] == self._epoch
        }

    def _write(self, place: Place, gone: set[int]) -> int:
        return self._records.delete(self._outbox, place, gone, last_before(self._epoch), tx=f"sweep-{self._epoch}")
