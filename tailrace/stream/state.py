"""State: the images of every partition that this process has, on disk, and rebuilt from their changelogs.

A partition is taken by writing a claim to its changelog and reading the changelog up to it, into a database that only
this process has. All partitions of an assignment are taken in one pass: their claims first, then one reading of all
changelogs. Nothing on disk outlives the process: what counts is the changelog, so there is no file whose age
would have to be judged. A partition that comes back within the hour is read only from where it was taken last.
Not shared between threads, but for ``ready``.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from tailrace.crashpoint import Processor, reach
from tailrace.errors import Retryable
from tailrace.stream.changelog import CLAIM, Rebuild, entries
from tailrace.stream.images import Images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tailrace.kafka import Outbox, Place
    from tailrace.stream.changelog import Message
    from tailrace.stream.images import Store

SLOW_SECONDS = 2.0  # a restore that takes longer says how far it is
MOMENT = 0.2  # seconds of restoring between which batches of other partitions get the thread
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

    def read(self, begins: Mapping[Place, int]) -> Iterator[tuple[Place | None, Sequence[Message], bool]]:
        """Yield what changelogs hold from an offset each up to their present ends; None while it waits.

        With each part of a partition it says whether that was the last of it.
        """


@dataclass
class _Held:
    """One partition's images: ``claim`` is our newest one, where its changelog is read on from."""

    images: Images
    claim: int
    since: float  # when it was given up, on the monotonic clock; 0 while it is ours


@dataclass
class _Taking:
    """One partition that is being taken: ``fresh`` where its store was made for it."""

    place: Place
    token: bytes
    store: Store
    rebuild: Rebuild
    fresh: bool

    def take(self, messages: Sequence[Message]) -> None:
        """Take a part of the changelog."""
        self.rebuild.take(messages)
        if self.rebuild.changes:
            self.store.write(self.rebuild.changes)
            self.rebuild.changes.clear()


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
        self._pass: tuple[_Assignment, Iterator[None]] | None = None  # the restoring that goes on

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
            self._go_on(assignment, lambda: place in assignment.taken)
        return self._held[place].images

    def restore(self) -> None:
        """Go on restoring for a moment; errors as of ``of``."""
        end = time.monotonic() + MOMENT
        self._go_on(self._assignment, lambda: time.monotonic() >= end)

    def keep(self, topic: str, partition: int, last: int) -> None:
        """Make what a batch changed durable: in the changelog, acknowledged, then in the store."""
        held = self._held.get((topic, partition))
        if held is None:
            return
        images = held.images
        if images.changes:
            written = entries(held.claim, max(images.through, last), images.changes)
            self._send({(topic, partition): written})
            reach(Processor.IMAGES_LOGGED)
        images.commit(last)

    def release(self) -> None:
        """Hear that the partitions were given up; their stores wait for a while, in case they come back."""
        self._end_pass()
        now = time.monotonic()
        for place, held in list(self._held.items()):
            held.since = held.since or now
            if now - held.since > IDLE_SECONDS:
                self._library.drop(self._held.pop(place).images.store)

    def close(self) -> None:
        """Give everything up."""
        self._end_pass()
        for held in self._held.values():
            self._library.drop(held.images.store)
        self._held.clear()
        self._library.close()

    def _send(self, messages: Mapping[Place, Iterable[tuple[bytes, bytes | None]]]) -> None:
        for (table, partition), entered in messages.items():
            for key, value in entered:
                self._outbox.send(self._changelogs[table], key=key, value=value, partition=partition)
        reach(Processor.CHANGELOG_SENT)
        self._outbox.flush(FLUSH_SECONDS)

    def _go_on(self, assignment: _Assignment, enough: Callable[[], bool]) -> None:
        """Restore what an assignment lacks until it is enough; whoever asks next goes on from there."""
        if self._pass is None or self._pass[0] is not assignment:
            self._end_pass()
            self._pass = assignment, self._taken(assignment)
        try:
            for _ in self._pass[1]:
                if enough():
                    return
        except BaseException:
            self._pass = None
            raise
        self._pass = None

    def _end_pass(self) -> None:
        if self._pass is not None:
            self._pass[1].close()  # type: ignore[attr-defined]  # it is a generator: its stores go with it
            self._pass = None

    def _taken(self, assignment: _Assignment) -> Iterator[None]:
        """Claim all partitions and rebuild their images up to the claims; each is there when its last part was read."""
        left: dict[Place, _Taking] = {}
        begun, said = time.monotonic(), 0.0
        try:
            for wanted in sorted(assignment.places - assignment.taken):
                left[wanted] = self._begun(wanted)
                yield
            self._send({place: [(CLAIM, taking.token)] for place, taking in left.items()})
            reach(Processor.CLAIMS_WRITTEN)
            begins = {place: max(0, taking.rebuild.claim) for place, taking in left.items()}
            for place, messages, over in self._library.read(begins):
                self._beat()
                if assignment is not self._assignment:
                    raise Moved
                if place is not None:
                    left[place].take(messages)
                    reach(Processor.IMAGES_HALF_RESTORED)
                    if over:
                        self._held[place] = self._ended(left[place])
                        del left[place]
                        assignment.taken.add(place)
                if time.monotonic() - begun - said > SLOW_SECONDS:
                    said = time.monotonic() - begun
                    log.info("restoring images", partitions=len(left), seconds=round(said))
                yield
        finally:
            for taking in left.values():
                if taking.fresh:
                    self._library.drop(taking.store)
        if said:
            log.info("images restored", partitions=len(begins), seconds=round(time.monotonic() - begun, 1))

    def _begun(self, place: Place) -> _Taking:
        held, token = self._held.get(place), secrets.token_bytes(16)
        if held is not None and held.since and time.monotonic() - held.since > IDLE_SECONDS:
            self._library.drop(self._held.pop(place).images.store)
            held = None
        if held is None:
            return _Taking(place, token, self._library.store(place), Rebuild(token), fresh=True)
        return _Taking(place, token, held.images.store, Rebuild(token, held.claim, held.images.through), fresh=False)

    def _ended(self, taking: _Taking) -> _Held:
        """Return what was rebuilt, and remove from the changelog what a process without a claim wrote."""
        place, rebuild = taking.place, taking.rebuild
        if rebuild.mine < 0:
            raise Retryable("The changelog does not show what was just written to it.", detail=f"{place[0]}/{place[1]}")
        if rebuild.lost:
            count = len(rebuild.lost)
            log.warning("images written by a process that had lost its partition", topic=place[0], count=count)
            self._send({place: entries(rebuild.mine, rebuild.through, dict.fromkeys(rebuild.lost))})
            reach(Processor.STRAY_IMAGES_REMOVED)
        return _Held(Images(taking.store, rebuild.through), rebuild.mine, 0.0)
