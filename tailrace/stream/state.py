"""State: the images of every partition that this process has, on disk, and rebuilt from their changelogs.

A partition is taken by writing a claim to its changelog and reading the changelog up to it, into a database that only
this process has. Nothing on disk outlives the process: what counts is the changelog, so there is no file whose age
would have to be judged. A partition that comes back within the hour is read only from where it was taken last.
Not shared between threads, but for ``ready``.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from tailrace.errors import Retryable
from tailrace.stream.changelog import CLAIM, Rebuild, entries
from tailrace.stream.images import Images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tailrace.kafka import Outbox, Place
    from tailrace.stream.changelog import Message
    from tailrace.stream.images import Store

SLOW_SECONDS = 2.0  # a restore that takes longer says how far it is
IDLE_SECONDS = 3600.0  # far less than a removal stays in a changelog
FLUSH_SECONDS = 25.0

log = structlog.get_logger()


class Moved(Exception):
    """The partition is not, or no more, this process's."""


class Library(Protocol):
    """Where stores are made and changelogs read."""

    def store(self, place: Place) -> Store:
        """Return an empty store for a raw partition."""

    def drop(self, store: Store) -> None:
        """Remove a store."""

    def close(self) -> None:
        """Let go of everything."""

    def read(self, place: Place, since: int) -> Iterator[Sequence[Message]]:
        """Yield what a changelog's partition holds from an offset up to its present end; nothing while it waits."""


@dataclass
class _Held:
    """One partition's images: ``claim`` is our newest one, where its changelog is read on from."""

    images: Images
    claim: int
    since: float  # when it was given up, on the monotonic clock; 0 while it is ours


@dataclass(frozen=True)
class _Assignment:
    """Which partitions keep images, and which of them were taken since they were assigned."""

    places: frozenset[Place] = frozenset()
    taken: set[Place] = field(default_factory=set)


class States:
    """The images of all partitions. ``changelogs`` are by raw topic: a table that is not in it keeps none."""

    def __init__(
        self, changelogs: Mapping[str, str], library: Library, outbox: Outbox, beat: Callable[[], None] = lambda: None
    ) -> None:
        self._changelogs, self._library, self._outbox, self._beat = dict(changelogs), library, outbox, beat
        self._held: dict[Place, _Held] = {}
        self._assignment = _Assignment()

    def own(self, places: Iterable[Place]) -> list[Place]:
        """Hear which raw partitions are this process's from now on; return those that keep images."""
        self._assignment = _Assignment(frozenset(place for place in places if place[0] in self._changelogs))
        return sorted(self._assignment.places)

    @property
    def ready(self) -> bool:
        """Whether every partition's images are there."""
        return self._assignment.taken == self._assignment.places

    def of(self, topic: str, partition: int) -> Images | None:
        """Return the images of a partition, rebuilt where they are not there yet; None where its table keeps none.

        Retryable while Kafka does not answer, Moved when the partition is not ours.
        """
        place = topic, partition
        if topic not in self._changelogs:
            return None
        assignment = self._assignment  # the next one comes from another thread
        if place not in assignment.places:
            raise Moved
        if place not in assignment.taken:
            self._held[place] = self._take(place, self._held.get(place), assignment)
            assignment.taken.add(place)
        return self._held[place].images

    def keep(self, topic: str, partition: int, last: int) -> None:
        """Make what a batch changed durable: in the changelog, acknowledged, then in the store."""
        held = self._held.get((topic, partition))
        if held is None:
            return
        images = held.images
        if images.changes:
            self._send((topic, partition), entries(held.claim, max(images.through, last), images.changes))
        images.commit(last)

    def release(self) -> None:
        """Hear that the partitions were given up; their stores wait for a while, in case they come back."""
        now = time.monotonic()
        for place, held in list(self._held.items()):
            held.since = held.since or now
            if now - held.since > IDLE_SECONDS:
                self._library.drop(self._held.pop(place).images.store)

    def close(self) -> None:
        """Give everything up."""
        for held in self._held.values():
            self._library.drop(held.images.store)
        self._held.clear()
        self._library.close()

    def _send(self, place: Place, messages: Iterable[tuple[bytes, bytes | None]]) -> None:
        topic, partition = self._changelogs[place[0]], place[1]
        for key, value in messages:
            self._outbox.send(topic, key=key, value=value, partition=partition)
        self._outbox.flush(FLUSH_SECONDS)

    def _take(self, place: Place, held: _Held | None, assignment: _Assignment) -> _Held:
        """Claim a partition and rebuild its images up to the claim; remove what a process without a claim wrote."""
        if held is not None and held.since and time.monotonic() - held.since > IDLE_SECONDS:
            self._library.drop(held.images.store)
            held = None
        token = secrets.token_bytes(16)
        self._send(place, [(CLAIM, token)])
        store = self._library.store(place) if held is None else held.images.store
        rebuild = Rebuild(token) if held is None else Rebuild(token, held.claim, held.images.through)
        try:
            self._rebuild(place, rebuild, store, assignment)
        except BaseException:
            if held is None:
                self._library.drop(store)
            raise
        if rebuild.lost:
            count = len(rebuild.lost)
            log.warning("images written by a process that had lost its partition", topic=place[0], count=count)
            self._send(place, entries(rebuild.mine, rebuild.through, dict.fromkeys(rebuild.lost)))
        return _Held(Images(store, rebuild.through), rebuild.mine, 0.0)

    def _rebuild(self, place: Place, rebuild: Rebuild, store: Store, assignment: _Assignment) -> None:
        begun, said = time.monotonic(), 0.0
        for messages in self._library.read(place, max(0, rebuild.claim)):
            self._beat()
            if assignment is not self._assignment:
                raise Moved
            rebuild.take(messages)
            if rebuild.changes:
                store.write(rebuild.changes)
                rebuild.changes.clear()
            taken = time.monotonic() - begun
            if taken - said > SLOW_SECONDS:
                said = taken
                log.info(
                    "restoring images", topic=place[0], partition=place[1], offset=rebuild.next, seconds=round(taken)
                )
        if rebuild.mine < 0:
            raise Retryable("The changelog does not show what was just written to it.", detail=f"{place[0]}/{place[1]}")
        if said:
            log.info("images restored", topic=place[0], partition=place[1], seconds=round(time.monotonic() - begun, 1))
