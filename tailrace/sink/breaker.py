"""The breaker: tells a store that refuses everything from a record that is wrong.

When at least half of what is judged, and at least 20 changes, are refused for one and the same reason, it is not the
records that are wrong: a mapping was changed, a table replaced, a contract is another one. Parking them would fill the
dead-letter topic and walk past everything. What is judged is a batch, and where that is small the changes before it,
so that batches of one change are no way around it, nor is a worker that is started again and again. Reasons are
compared without their numbers.
It decides and does nothing else: ``tailrace.sink.delivery`` acts. It may be asked from several threads.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, NamedTuple

from tailrace.errors import Fatal
from tailrace.sink.lately import outcomes_before

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.deadletter import DeadLetter

LEAST = 20  # refused changes: fewer are parked, whatever their share, for somebody's script may well write ten bad rows
SHARE = 0.5
RECENT = int(LEAST / SHARE)  # changes that are judged at least: the fewest among which 20 are not less than half

_NUMBER = re.compile(r"\d+")


class Trip(NamedTuple):
    """Why it opened: of ``judged`` changes ``refused`` were refused for this reason, the first at ``position``.

    The position is that in the batch.
    """

    reason: str
    refused: int
    judged: int
    position: int


def judge(recent: Sequence[str], outcomes: Sequence[str]) -> Trip | None:
    """Return whether a batch must not be parked; an outcome is the reason of a refused change, else empty.

    ``recent`` are the outcomes of the changes before it.
    """
    if not any(outcomes):
        return None
    room = max(0, RECENT - len(outcomes))
    judged = [*(recent[-room:] if room else ()), *outcomes]
    alike = [_NUMBER.sub("#", outcome) for outcome in judged]
    own, counts = alike[len(judged) - len(outcomes) :], Counter(alike)
    reason = max(filter(None, own), key=counts.__getitem__)
    count = counts[reason]
    if count < LEAST or count < SHARE * len(judged):
        return None
    position = own.index(reason)
    return Trip(outcomes[position], count, len(judged), position)


class Breaker:
    """Remembers, for each topic and sink, the outcomes of the last changes.

    ``lately`` returns what the worker parked last: it was maybe started again because the breaker had opened.
    """

    def __init__(self, lately: Callable[[], Sequence[DeadLetter]] = tuple) -> None:
        self._lately = lately
        self._begun: set[tuple[str, int]] = set()
        self._recent: defaultdict[tuple[str, str], deque[str]] = defaultdict(lambda: deque(maxlen=RECENT))
        self._lock = threading.Lock()

    def begin(self, topic: str, partition: int, offset: int, *, refused: bool) -> None:
        """Hear where a batch begins; before the first of a partition that has something refused, look back once."""
        if (topic, partition) in self._begun:
            return
        before = outcomes_before(self._lately(), topic, partition, offset) if refused else {}
        with self._lock:
            self._begun.add((topic, partition))
            for sink, outcomes in before.items():
                self._recent[topic, sink].extend(outcomes)

    def judge(self, place: tuple[str, str], outcomes: Sequence[str]) -> Trip | None:
        """Return whether a batch must not be parked; it is not remembered by that, for it may come again."""
        if not any(outcomes):
            return None
        with self._lock:
            recent = list(self._recent[place])
        return judge(recent, outcomes)

    def remember(self, place: tuple[str, str], outcomes: Sequence[str]) -> None:
        """Take in a batch that is durable."""
        with self._lock:
            self._recent[place].extend(outcomes[-RECENT:])


def tripped(trip: Trip, topic: str, sink: str, source: str) -> Fatal:
    """Return what the worker ends with."""
    return Fatal(
        f"{sink or 'The worker'} refuses most of {topic}, all for one reason: that is not the records' fault.",
        detail=f"{trip.refused} of {trip.judged} changes: {trip.reason} The first of them is {source}.",
        hint="Nothing of the batch was parked, its offsets stay. `tailrace check` and `tailrace plan` compare contracts"
        " and stores with the project; mend it and start the worker again. If it is the records after all, set"
        " breaker = false for this worker in tailrace.toml: then they are parked.",
    )
