"""How fast ``verify`` reads, and what it tells of that: rows pass through a meter on their way.

The limit holds for each reader by itself: the source, and each store. A page that has arrived is not taken back, so a
reader is even over a second or so, not over milliseconds. What is counted inside a server (digests of ranges) passes no
meter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")
STEP = 1_000  # rows between two looks at the clock, at most


class Watch(Protocol):
    """What is told how far a reader is: its name, rows so far, and how many there may be (0: nobody knows)."""

    def __call__(self, name: str, count: int, total: int) -> None:
        """Take note."""


def _nobody(name: str, count: int, total: int) -> None:
    """Let it pass."""


class Meter:
    """Lets at most ``rows_per_second`` pass, any number where that is None; ``pause`` waits so many seconds."""

    def __init__(
        self,
        rows_per_second: float | None = None,
        watch: Watch = _nobody,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._watch, self._clock, self._pause = rows_per_second, watch, clock, pause

    def over(self, name: str, things: Iterable[T], total: int = 0) -> Iterator[T]:
        """Yield the things of one reader."""
        step = STEP if self._rate is None else max(1, min(STEP, int(self._rate / 10)))
        began, count = self._clock(), 0
        for thing in things:
            count += 1
            if count % step == 0:
                self._wait(began, count)
                self._watch(name, count, total)
            yield thing
        self._watch(name, count, count)

    def _wait(self, began: float, count: int) -> None:
        """Wait until so many rows may have passed."""
        if self._rate is not None:
            early = began + count / self._rate - self._clock()
            if early > 0:
                self._pause(early)
