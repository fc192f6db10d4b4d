"""``tailrace snapshot --sweep``: rows that vanished inside an epoch without an event get their delete.

A parked TRUNCATE, a partition that was detached, a delete while somebody had switched off a trigger: the stores keep
rows that no event will ever take away. What is deleted here is decided so that it cannot lose against live changes
(docs/decisions/0008 has the proof):

1. everything committed so far is conformed; of each partition, the keys whose newest record is a row are *suspects*
2. the source is asked which of them it has
3. a marker goes into the raw partition: a place between what was written before and after, that no row has
4. the processor has passed the marker; a suspect that the source did not have and that has no newer record is deleted,
   with the marker's place as version: a row that comes back after the marker is newer, one before it was seen in 4

In the same way a row that lives is told to have left a place where it is no more (docs/decisions/0017): one that has
no newer record behind the marker is still what its newest record says, and may be written once more with that version.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from tailrace import epoch, topics, version
from tailrace.change import MARKER
from tailrace.control.barrier import Barrier
from tailrace.control.records import Records, candidates, newest, read, visible
from tailrace.control.sweep import Swept, last_before
from tailrace.crashpoint import Command, reach
from tailrace.errors import Unreachable
from tailrace.kafka import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tailrace.control.records import Answer, Seen, Were
    from tailrace.control.services import Services
    from tailrace.deadline import Deadline
    from tailrace.kafka import Offsets, Place

TX = "sweep"  # what the records say in a transaction's place
AT_ONCE = 100_000  # rows that vanished, before they are deleted
EVERY_KEY: Mapping[str, Callable[[bytes], bool]] = MappingProxyType({})
NOWHERE: Mapping[str, Were] = MappingProxyType({})
NEVER = version.pack(version.MAX_EPOCH, version.MAX_OFFSET)


def absent(suspects: Mapping[bytes, Seen], answers: Iterable[tuple[Sequence[bytes], Answer]]) -> dict[bytes, Seen]:
    """Return the suspects that the source does not have.

    One whose row was written by a transaction that the source did not see yet counts as there.
    """
    return {
        key: suspects[key]
        for asked, answer in answers
        for key in asked
        if key not in answer.there and visible(suspects[key].tx, answer.snapshot)
    }


def unchanged(gone: Mapping[bytes, Seen], later: Iterable[Seen]) -> dict[bytes, Seen]:
    """Return those that have no newer record; ``later`` are the records behind those that made them suspects."""
    changed = {found.key for found in later if found.key in gone and found.version > gone[found.key].version}
    return {key: found for key, found in gone.items() if key not in changed}


def delete_version(found: Seen, marker: int) -> int:
    """Return the version of the delete of a row: the marker's, where its key cannot live in another partition by now.

    A row of an older epoch may have moved since, and be newer there under a smaller offset.
    """
    epoch_, _ = version.unpack(marker)
    return marker if version.unpack(found.version)[0] == epoch_ else last_before(epoch_)


@dataclass(frozen=True)
class _Found:
    """One conformed partition: up to where it was read, and what the source did not have."""

    records: Records
    place: Place
    read_to: int
    gone: Mapping[bytes, Seen]
    living: Mapping[bytes, Seen]  # rows that may have left places

    @property
    def raw(self) -> Place:
        """The raw partition that it comes from."""
        return self.records.raw, self.place[1]


class Sweep:
    """One sweep of some tables; it holds the keys of one partition, and what vanished from few, at a time."""

    def __init__(
        self, services: Services, tables: Sequence[str], deadline: Deadline, say: Callable[[str], None]
    ) -> None:
        self._services, self._say = services, say
        self._tables, self._barrier = tables, Barrier(services, deadline, say)
        self._epoch = epoch.need(services.admin, services.project.name)

    def before(self) -> Offsets:
        """Return where the raw partitions end once they hold everything committed so far.

        A snapshot that begins now gives every row that is there a record behind that, which makes it no suspect.
        """
        self._barrier.source()
        return self._services.admin.ends(topics.raw(self._services.project.name, table) for table in self._tables)

    def run(
        self,
        since: Offsets,
        only: Mapping[str, Callable[[bytes], bool]] = EVERY_KEY,
        were: Mapping[str, Were] = NOWHERE,
    ) -> tuple[Swept, ...]:
        """Delete what vanished; return when Kafka has every delete. Without ``since`` every row is a suspect.

        ``only``, by record, says which keys are: then also those whose delete a store does not show. ``were`` says
        where such a row was besides, if it lives.
        """
        self._barrier.source()
        self._barrier.processors()
        records = dict.fromkeys(self._services.project.record_of(table) for table in self._tables)
        with closing(Outbox(self._services.admin.bootstrap, f"{self._services.project.name}-sweep")) as outbox:
            return tuple(
                self._sweep(outbox, Records(self._services, record), since, only.get(record), were.get(record))
                for record in records
            )

    def _sweep(
        self,
        outbox: Outbox,
        records: Records,
        since: Offsets,
        wanted: Callable[[bytes], bool] | None,
        were: Were | None,
    ) -> Swept:
        """Sweep one topic, partition by partition; a marker and a wait serve as many as fit."""
        keys = kept = 0
        done = Counter[str]()
        waiting: list[_Found] = []
        for place, (start, end) in records.spans().items():
            seen, bound = records.seen(place, start, end), self._bound(records.raw, place[1], since)
            suspects, count = candidates(seen, bound) if wanted is None else newest(seen, wanted)
            gone = absent(suspects, records.ask(suspects))
            self._say(f"{records.record}/{place[1]}: {count:,} keys, {len(gone):,} not in the source")
            keys, kept = keys + count, kept + len(suspects) - len(gone)
            living = {key: row for key, row in suspects.items() if were and key not in gone and not row.deleted}
            waiting.append(_Found(records, place, end, gone, living))
            if sum(len(found.gone) for found in waiting) > AT_ONCE:
                done += self._settle(outbox, waiting, were)
                waiting.clear()
        done += self._settle(outbox, waiting, were)
        return Swept(records.record, keys, done["deleted"], kept, done["moved"])

    def _settle(self, outbox: Outbox, waiting: Sequence[_Found], were: Were | None) -> Counter[str]:
        """Mark, wait, look again, write; return how many were deleted, and how many told to have moved."""
        done = Counter[str]()
        found = [each for each in waiting if each.gone or each.living]
        if not found:
            return done
        marks = self._mark(outbox, [each.raw for each in found])
        reach(Command.SWEEP_MARKED)
        self._barrier.processors()
        ends = self._services.admin.ends({each.place[0] for each in found})
        for each in found:
            marker = self._version(*each.raw, marks[each.raw])
            later = each.records.seen(each.place, each.read_to, ends[each.place])
            still = unchanged({**each.gone, **each.living}, later)
            gone = [row for key, row in still.items() if key in each.gone]
            done["deleted"] += self._delete(outbox, each, marker, gone)
            if were is not None:
                living = [row for key, row in still.items() if key in each.living]
                done["moved"] += self._move(outbox, each, marker, living, were)
        return done

    def _bound(self, raw: str, partition: int, since: Offsets) -> int:
        """Return the version from which on a row was there during the snapshot."""
        offset = since.get((raw, partition))
        return NEVER if offset is None else self._version(raw, partition, offset)

    def _version(self, raw: str, partition: int, offset: int) -> int:
        return version.pack(self._epoch.ages(raw).at(partition, offset), offset)

    def _mark(self, outbox: Outbox, places: Sequence[Place]) -> Offsets:
        """Write a marker into each raw partition and return the offsets that they have."""
        token = secrets.token_hex(8).encode()
        names = {topic for topic, _ in places}
        starts = self._services.admin.ends(names)
        for topic, partition in places:
            outbox.send(topic, key=None, value=None, headers=[(MARKER, token)], partition=partition)
        outbox.flush()
        ends = self._services.admin.ends(names)
        return {place: self._find(place, starts[place], ends[place], token) for place in places}

    def _find(self, place: Place, start: int, end: int, token: bytes) -> int:
        """Return the offset of our marker, which lies between two offsets of a raw partition."""
        for message in read(self._services, place, start, end):
            if (MARKER, token) in (message.headers() or ()):
                return message.offset() or 0
        raise Unreachable(f"The marker in {place[0]}/{place[1]} cannot be found.", hint="Run the same command again.")

    def _delete(self, outbox: Outbox, found: _Found, marker: int, gone: Iterable[Seen]) -> int:
        """Delete what is still as it was when the source did not have it."""
        by_version = dict[int, set[int]]()
        for each in gone:
            by_version.setdefault(delete_version(each, marker), set()).add(each.offset)
        return sum(
            found.records.delete(outbox, found.place, offsets, number, tx=TX) for number, offsets in by_version.items()
        )

    def _move(self, outbox: Outbox, found: _Found, marker: int, living: Iterable[Seen], were: Were) -> int:
        """Tell rows to have left where they were; not one of an older epoch, which may live in another partition."""
        offsets = {each.offset for each in living if delete_version(each, marker) == marker}
        return found.records.move(outbox, found.place, offsets, marker, tx=TX, were=were)
